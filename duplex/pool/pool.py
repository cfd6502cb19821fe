"""The border between the event loop and the worker threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

from duplex.core.clock import Clock, MonotonicClock
from duplex.core.errors import DuplexError
from duplex.core.metrics import Metrics
from duplex.engine.steps import (
    Engine,
    HearResult,
    HearStep,
    ListenResult,
    ListenStep,
    PrefillResult,
    PrefillStep,
    ReplyResult,
    ReplyStep,
    SpeakResult,
    SpeakStep,
    StepFailure,
)
from duplex.pool.queue import QueuedStep, StepKind, StepQueue
from duplex.pool.slack import TIGHT_SEC, Slack
from duplex.pool.worker import Worker

log = logging.getLogger(__name__)

T = TypeVar("T")
QUEUE_BOUND = 4096  # waiting steps; a session has at most a handful
_LISTENING = (StepKind.HEAR, StepKind.LISTEN)
_ANSWERING = (StepKind.REPLY, StepKind.SPEAK)


class StepFailedError(DuplexError):
    """A step failed; the cause is chained. Reaches only the session whose step it was."""


class StepWithdrawnError(DuplexError):
    """The step was taken back before a worker had begun it."""


class ModelPool:
    """Any idle worker takes the most urgent batch of steps.

    `engines` has one entry a worker, all with the same branches: the slots of one device. Use as an async context
    manager; `submit` only from the event loop that entered it. The steps of one branch must not overlap: await each.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        max_batch: int = 8,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._queue = StepQueue(bound=QUEUE_BOUND, max_batch=max_batch)
        self._metrics = metrics or Metrics()
        self._clock = clock or MonotonicClock()
        self._listening, self._answering = Slack(self._clock), Slack(self._clock)
        self._engines = list(engines)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers = [self._worker(f"worker-{index}", engine) for index, engine in enumerate(engines)]

    async def __aenter__(self) -> ModelPool:
        self._loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for queued in self._queue.close():
            self._settle(queued, StepFailure(StepWithdrawnError("the pool was closed")))
        for worker in self._workers:
            await asyncio.to_thread(worker.join, 10.0)

    @property
    def engine(self) -> Engine:
        """The engine sessions make their states with."""
        return self._engines[0]

    @property
    def tight_share(self) -> float:
        """Share of the last seconds' listening steps that ended late or had hardly any time to spare or, if that is
        larger, of the answering ones that ended late, so that somebody's loudspeaker may have run dry.
        """
        return max(self._listening.tight_share, self._answering.tight_share)

    @overload
    async def submit(
        self,
        kind: Literal[StepKind.HEAR],
        step: HearStep,
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> HearResult: ...
    @overload
    async def submit(
        self,
        kind: Literal[StepKind.PREFILL],
        step: PrefillStep,
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> PrefillResult: ...
    @overload
    async def submit(
        self,
        kind: Literal[StepKind.LISTEN],
        step: ListenStep,
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> ListenResult: ...
    @overload
    async def submit(
        self,
        kind: Literal[StepKind.REPLY],
        step: ReplyStep,
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> ReplyResult: ...
    @overload
    async def submit(
        self,
        kind: Literal[StepKind.SPEAK],
        step: SpeakStep,
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> SpeakResult: ...
    @overload
    async def submit(
        self,
        kind: Literal[StepKind.STORE],
        step: Callable[[], T],
        *,
        deadline: float,
        session_id: str,
        generation: int = 0,
    ) -> T: ...
    async def submit(self, kind: StepKind, step: Any, *, deadline: float, session_id: str, generation: int = 0) -> Any:
        """Run a step on a worker and return its result. `deadline` in seconds of the pool's clock.

        Raises StepFailedError when the step failed, StepWithdrawnError when it was withdrawn, QueueFullError.
        Cancelling the caller withdraws a waiting step at once; a running one is waited for, so that
        afterwards nobody touches its branch any more.
        """
        assert self._loop is not None, "the pool was not entered"
        future: asyncio.Future[Any] = self._loop.create_future()
        queued = self._queue.put(kind, step, deadline, session_id=session_id, generation=generation, ticket=future)
        self._metrics.queue_depth.set(len(self._queue))
        try:
            result = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not self._queue.withdraw(queued):
                await _settled(future)
            future.cancel()
            raise
        if isinstance(result, StepFailure):
            if isinstance(result.error, DuplexError):
                raise result.error
            raise StepFailedError(f"{kind} step failed: {result.error}") from result.error
        return result

    def withdraw_older(self, session_id: str, generation: int) -> None:
        """Take back the waiting steps of a session that belong to an older generation."""
        for queued in self._queue.withdraw_older(session_id, generation):
            self._settle(queued, StepFailure(StepWithdrawnError("an older generation")))

    def _worker(self, name: str, engine: Engine) -> Worker:
        return Worker(name, engine, self._queue, self._deliver, self._replace)

    def _deliver(self, batch: Sequence[QueuedStep], results: Sequence[Any], seconds: float) -> None:
        """Called on a worker's thread: hand results to the event loop."""
        kind = batch[0].kind.value
        self._metrics.step_sec.labels(kind).observe(seconds)
        self._metrics.batch_size.labels(kind).observe(len(batch))
        self._metrics.queue_depth.set(len(self._queue))
        now = self._clock.now()
        late = sum(queued.deadline < now for queued in batch)
        if late:
            self._metrics.deadline_misses.labels(kind).inc(late)
        if batch[0].kind in _LISTENING:
            self._listening.add(len(batch), sum(queued.deadline < now + TIGHT_SEC for queued in batch))
        elif batch[0].kind in _ANSWERING:
            self._answering.add(len(batch), late)
        failures = sum(isinstance(result, StepFailure) for result in results)
        if failures:
            self._metrics.step_failures.labels(kind).inc(failures)
        self._to_loop(self._settle_all, batch, results)

    def _replace(self, failed: Worker, batch: Sequence[QueuedStep], error: Exception) -> None:
        """Called on the failing worker's thread, its last act."""
        self._metrics.worker_replacements.inc()
        self._metrics.step_failures.labels(batch[0].kind.value).inc(len(batch))
        self._to_loop(self._start_another, failed, batch, error)

    def _start_another(self, failed: Worker, batch: Sequence[QueuedStep], error: Exception) -> None:
        log.error("worker replaced", extra={"worker": failed.name, "cause": type(error).__name__})
        index = self._workers.index(failed)
        self._workers[index] = self._worker(failed.name, self._engines[index])
        self._workers[index].start()
        self._settle_all(batch, [StepFailure(error)] * len(batch))

    def _to_loop(self, callback: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.debug("the event loop is closed; a result is lost")

    def _settle_all(self, batch: Sequence[QueuedStep], results: Sequence[Any]) -> None:
        for queued, result in zip(batch, results, strict=True):
            self._settle(queued, result)

    @staticmethod
    def _settle(queued: QueuedStep, result: Any) -> None:
        if not queued.ticket.done():
            queued.ticket.set_result(result)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait for a future whatever happens to the waiter."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
