"""A pool without threads: sessions on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from duplex.core.errors import DuplexError
from duplex.engine.steps import StepFailure
from duplex.pool.queue import StepKind
from tests.fakes.engine import FakeEngine


class InlinePool:
    """Runs every step at once, on the event loop. `before[kind]` is awaited first, `after[kind]` called then."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.tight_share = 0.0
        self.before: dict[StepKind, Callable[[], Awaitable[Any]]] = {}
        self.after: dict[StepKind, Callable[[], None]] = {}

    async def submit(self, kind: StepKind, step: Any, **_: object) -> Any:
        if kind in self.before:
            await self.before[kind]()
        if kind is StepKind.STORE:
            result = step()
        else:
            (result,) = getattr(self.engine, kind.value)([step])
        if kind in self.after:
            self.after[kind]()
        if isinstance(result, StepFailure):
            assert isinstance(result.error, DuplexError)
            raise result.error
        return result

    def withdraw_older(self, session_id: str, generation: int) -> None:
        """Nothing ever waits."""
