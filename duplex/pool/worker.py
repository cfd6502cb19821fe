"""A thread that runs batches of steps on an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from duplex.engine.steps import Engine, StepFailure
from duplex.pool.queue import QueuedStep, StepKind, StepQueue

Deliver = Callable[[Sequence[QueuedStep], Sequence[Any], float], None]
Failed = Callable[["Worker", Sequence[QueuedStep], Exception], None]


class Worker:
    """Takes batches from the queue until it is closed.

    A step that fails alone comes back as a StepFailure. When the engine itself raises, the worker reports the
    batch and ends: its thread is not trusted any more, the pool starts another.
    """

    def __init__(self, name: str, engine: Engine, queue: StepQueue, deliver: Deliver, failed: Failed) -> None:
        self.name = name
        self._engine = engine
        self._queue = queue
        self._deliver = deliver
        self._failed = failed
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def join(self, timeout_sec: float) -> None:
        """Wait until the thread has ended; it does so after the queue was closed."""
        self._thread.join(timeout_sec)

    def _work(self) -> None:
        torch.set_num_threads(1)  # workers are the parallelism; set per thread
        with torch.inference_mode():
            while batch := self._queue.take():
                started = time.perf_counter()
                try:
                    results = self._run(batch)
                except Exception as error:
                    self._failed(self, batch, error)
                    return
                self._deliver(batch, results, time.perf_counter() - started)

    def _run(self, batch: Sequence[QueuedStep]) -> Sequence[Any]:
        steps = [queued.step for queued in batch]
        match batch[0].kind:
            case StepKind.HEAR:
                return self._engine.hear(steps)
            case StepKind.PREFILL:
                return self._engine.prefill(steps)
            case StepKind.LISTEN:
                return self._engine.listen(steps)
            case StepKind.REPLY:
                return self._engine.reply(steps)
            case StepKind.SPEAK:
                return self._engine.speak(steps)
            case StepKind.STORE:
                return [_call(step) for step in steps]


def _call(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except Exception as error:
        return StepFailure(error)
