"""Steps waiting for a worker, the most urgent first."""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from duplex.core.errors import DuplexError


class StepKind(StrEnum):
    """What a step does; only steps of one kind share a batch, and those of `ALONE` with nothing."""

    HEAR = "hear"
    PREFILL = "prefill"
    LISTEN = "listen"
    REPLY = "reply"
    SPEAK = "speak"
    STORE = "store"  # a callable that touches branches: fork, export


# A batch is done when the last of it is: what an engine does one after another anyway gains nothing by waiting for others.
ALONE = frozenset({StepKind.SPEAK, StepKind.STORE})


class QueueFullError(DuplexError):
    """So many steps are waiting that another would only be late."""


@dataclass(order=True, slots=True)
class QueuedStep:
    """A step and its place in the queue: by deadline (monotonic seconds), then by arrival."""

    deadline: float
    arrival: int
    kind: StepKind = field(compare=False)
    step: Any = field(compare=False)
    session_id: str = field(compare=False, default="")
    generation: int = field(compare=False, default=0)
    ticket: Any = field(compare=False, default=None)  # whatever the owner needs to deliver the result
    withdrawn: bool = field(compare=False, default=False)
    taken: bool = field(compare=False, default=False)


class StepQueue:
    """Earliest deadline first, bounded, thread-safe.

    Full: `put` raises QueueFullError, nothing is thrown out. A taker gets the most urgent step and with it
    every other waiting step of that kind, up to `max_batch`, but none where it is one of `ALONE`; it never waits to fill
    a batch.
    """

    def __init__(self, *, bound: int, max_batch: int) -> None:
        self._bound = bound
        self._max_batch = max_batch
        self._waiting: list[QueuedStep] = []
        self._arrivals = itertools.count()
        self._condition = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(
        self,
        kind: StepKind,
        step: Any,
        deadline: float,
        *,
        session_id: str = "",
        generation: int = 0,
        ticket: Any = None,
    ) -> QueuedStep:
        """Queue a step. Raises QueueFullError at the bound or after `close`."""
        with self._condition:
            if self._closed or len(self._waiting) >= self._bound:
                raise QueueFullError("the pool is closed" if self._closed else f"{self._bound} steps are waiting")
            queued = QueuedStep(deadline, next(self._arrivals), kind, step, session_id, generation, ticket)
            heapq.heappush(self._waiting, queued)
            self._condition.notify()
            return queued

    def withdraw(self, queued: QueuedStep) -> bool:
        """Take a step back. False when a worker has it already."""
        with self._condition:
            if queued.taken:
                return False
            if not queued.withdrawn:
                queued.withdrawn = True
                self._waiting.remove(queued)
                heapq.heapify(self._waiting)
            return True

    def withdraw_older(self, session_id: str, generation: int) -> list[QueuedStep]:
        """Take back every waiting step of a session that is older than `generation` (0 stays)."""
        with self._condition:
            old = [q for q in self._waiting if q.session_id == session_id and 0 < q.generation < generation]
            for queued in old:
                queued.withdrawn = True
            if old:
                self._waiting = [q for q in self._waiting if not q.withdrawn]
                heapq.heapify(self._waiting)
            return old

    def take(self) -> list[QueuedStep]:
        """Wait for work and take a batch of one kind. An empty list means that the queue was closed."""
        with self._condition:
            while not self._waiting:
                if self._closed:
                    return []
                self._condition.wait()
            urgent = heapq.heappop(self._waiting)
            batch = [urgent]
            if urgent.kind not in ALONE and self._waiting:
                alike = heapq.nsmallest(self._max_batch - 1, (q for q in self._waiting if q.kind is urgent.kind))
                chosen = {q.arrival for q in alike}
                if chosen:
                    self._waiting = [q for q in self._waiting if q.arrival not in chosen]
                    heapq.heapify(self._waiting)
                    batch.extend(alike)
            for queued in batch:
                queued.taken = True
            return batch

    def close(self) -> list[QueuedStep]:
        """Refuse new steps, wake every taker, and give back what was waiting."""
        with self._condition:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._condition.notify_all()
            return left
