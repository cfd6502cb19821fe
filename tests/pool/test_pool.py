"""The pool: urgency, batching, cancellation, failing workers, and steps of one session on different workers."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from duplex.core.clock import VirtualClock
from duplex.core.metrics import Metrics
from duplex.core.types import SamplingParams
from duplex.engine.steps import HearStep, ListenStep, PrefillStep, ReplyStep
from duplex.pool.pool import ModelPool, StepFailedError, StepWithdrawnError
from duplex.pool.queue import QueueFullError, StepKind, StepQueue
from duplex.pool.slack import LEAST_STEPS, TIGHT_SEC, WINDOW_SEC
from tests.fakes.engine import ASK, BROKEN, SILENCE, SPEECH, FakeEngine, chunks


def hear(engine: FakeEngine) -> HearStep:
    return HearStep(engine.new_hear_state(), chunks(SPEECH))


def test_the_most_urgent_first_and_its_kind_with_it() -> None:
    queue = StepQueue(bound=10, max_batch=2)
    for kind, step, deadline in [
        (StepKind.SPEAK, "s1", 3.0),
        (StepKind.SPEAK, "s2", 3.5),
        (StepKind.LISTEN, "l2", 2.0),
        (StepKind.LISTEN, "l1", 1.0),
        (StepKind.LISTEN, "l3", 4.0),
        (StepKind.STORE, "f1", 5.0),
        (StepKind.STORE, "f2", 6.0),
    ]:
        queue.put(kind, step, deadline)
    taken = [[queued.step for queued in queue.take()] for _ in range(6)]
    assert taken == [["l1", "l2"], ["s1"], ["s2"], ["l3"], ["f1"], ["f2"]], "speaking and storing are done one by one"


def test_equal_deadlines_keep_their_order() -> None:
    queue = StepQueue(bound=10, max_batch=1)
    for step in "abc":
        queue.put(StepKind.HEAR, step, 1.0)
    assert [queue.take()[0].step for _ in range(3)] == ["a", "b", "c"]


def test_a_full_queue_refuses() -> None:
    queue = StepQueue(bound=1, max_batch=1)
    queue.put(StepKind.HEAR, "a", 1.0)
    with pytest.raises(QueueFullError):
        queue.put(StepKind.HEAR, "b", 1.0)


def test_an_old_generation_is_withdrawn() -> None:
    queue = StepQueue(bound=10, max_batch=4)
    queue.put(StepKind.REPLY, "old", 1.0, session_id="a", generation=1)
    queue.put(StepKind.REPLY, "new", 2.0, session_id="a", generation=2)
    queue.put(StepKind.REPLY, "other", 3.0, session_id="b", generation=1)
    queue.put(StepKind.REPLY, "bound to none", 4.0, session_id="a")
    assert [queued.step for queued in queue.withdraw_older("a", 2)] == ["old"]
    assert [queued.step for queued in queue.take()] == ["new", "other", "bound to none"]


def test_closing_wakes_takers() -> None:
    queue = StepQueue(bound=1, max_batch=1)
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    queue.close()
    thread.join(5)
    assert taken == [[]]


async def test_consecutive_chunks_of_a_session_on_different_workers_agree() -> None:
    levels = [SILENCE, SPEECH, ASK, SILENCE]
    results, contents, threads = await conversation(levels, workers=2)
    assert threads == ["worker-1", "worker-0", "worker-1", "worker-0"]
    alone, alone_contents, _ = await conversation(levels, workers=1)
    assert results == alone
    assert contents == alone_contents


async def conversation(levels: list[float], workers: int) -> tuple[list[object], list[float], list[str]]:
    """Listening results, branch contents and serving threads; of two workers each chunk gets the other one."""
    engine = FakeEngine()
    results: list[object] = []
    async with ModelPool([engine] * workers) as pool:
        branch = engine.branches.acquire()
        await pool.submit(StepKind.PREFILL, PrefillStep(branch, "system", "hi"), deadline=0, session_id="s")
        for index, level in enumerate(levels):
            heard = await pool.submit(
                StepKind.HEAR, HearStep(engine.new_hear_state(), chunks(level)), deadline=0, session_id="s"
            )
            step = ListenStep(branch, heard.features, first=index == 0)
            busy = occupied(pool, f"worker-{index % 2}") if workers == 2 else contextlib.nullcontext()
            async with busy:
                results.append(await pool.submit(StepKind.LISTEN, step, deadline=0, session_id="s"))
        contents = engine.contents(branch)
    return results, contents, [thread for kind, thread in engine.served_by if kind == "listen"]


class occupied:  # noqa: N801
    """`async with occupied(pool, name)`: that worker is busy for the time being."""

    def __init__(self, pool: ModelPool, name: str) -> None:
        self._pool, self._name = pool, name
        self._release = threading.Event()
        self._task: asyncio.Future[list[None]] | None = None

    async def __aenter__(self) -> None:
        caught = asyncio.Event()
        loop = asyncio.get_running_loop()
        barrier = threading.Barrier(2)

        def wait() -> None:
            barrier.wait(5)  # both workers have one of these
            if threading.current_thread().name == self._name:
                loop.call_soon_threadsafe(caught.set)
                assert self._release.wait(5)

        submit = self._pool.submit
        self._task = asyncio.gather(*(submit(StepKind.STORE, wait, deadline=0, session_id="hold") for _ in range(2)))
        await caught.wait()

    async def __aexit__(self, *exc: object) -> None:
        self._release.set()
        assert self._task is not None
        await self._task


async def test_steps_of_a_kind_wait_together_and_run_together() -> None:
    engine = FakeEngine()
    metrics = Metrics()
    async with ModelPool([engine], metrics=metrics, max_batch=8) as pool:
        engine.gates["prefill"] = threading.Event()
        branch = engine.branches.acquire()
        blocked = asyncio.create_task(
            pool.submit(StepKind.PREFILL, PrefillStep(branch, "system", ""), deadline=0, session_id="a")
        )
        waiting = [
            asyncio.create_task(pool.submit(StepKind.HEAR, hear(engine), deadline=1, session_id=name)) for name in "abc"
        ]
        await asyncio.sleep(0)
        engine.gates["prefill"].set()
        await blocked
        await asyncio.gather(*waiting)
    assert [kind for kind, _ in engine.served_by] == ["prefill", "hear"]
    assert metrics.registry.get_sample_value("duplex_batch_size_sum", {"kind": "hear"}) == 3


async def test_a_failing_worker_is_replaced_and_only_its_step_fails() -> None:
    engine = FakeEngine()
    metrics = Metrics()
    engine.fail_next["hear"] = RuntimeError("the device is gone")
    async with ModelPool([engine], metrics=metrics) as pool:
        with pytest.raises(StepFailedError, match="the device is gone"):
            await pool.submit(StepKind.HEAR, hear(engine), deadline=0, session_id="a")
        assert (await pool.submit(StepKind.HEAR, hear(engine), deadline=0, session_id="a")).speech_probs
    assert metrics.registry.get_sample_value("duplex_worker_replacements_total") == 1


async def test_a_step_that_fails_alone_fails_alone() -> None:
    engine = FakeEngine()
    async with ModelPool([engine]) as pool:
        branches = [engine.branches.acquire() for _ in range(2)]
        features = [
            (
                await pool.submit(
                    StepKind.HEAR, HearStep(engine.new_hear_state(), chunks(level)), deadline=0, session_id="a"
                )
            ).features
            for level in (BROKEN, SPEECH)
        ]
        results = await asyncio.gather(
            *(
                pool.submit(StepKind.LISTEN, ListenStep(b, f, True), deadline=0, session_id="a")
                for b, f in zip(branches, features, strict=True)
            ),
            return_exceptions=True,
        )
        assert isinstance(results[0], StepFailedError)
        assert not isinstance(results[1], BaseException)


async def test_cancelling_withdraws_what_waits_and_waits_for_what_runs() -> None:
    engine = FakeEngine()
    async with ModelPool([engine]) as pool:
        engine.gates["reply"] = threading.Event()
        branch = engine.branches.acquire()
        state = engine.new_reply_state(SamplingParams())
        running = asyncio.create_task(
            pool.submit(StepKind.REPLY, ReplyStep(branch, state), deadline=0, session_id="a", generation=1)
        )
        await asyncio.to_thread(wait_for_batch, engine, "reply")
        waiting = asyncio.create_task(pool.submit(StepKind.HEAR, hear(engine), deadline=0, session_id="a"))
        old = asyncio.create_task(
            pool.submit(StepKind.REPLY, ReplyStep(branch, state), deadline=0, session_id="a", generation=1)
        )
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        pool.withdraw_older("a", 2)
        done, _ = await asyncio.wait([waiting, old])
        assert waiting.cancelled()
        assert isinstance(old.exception(), StepWithdrawnError)
        assert not running.done()  # its branch is still being written
        engine.gates["reply"].set()
        await asyncio.wait([running])
        assert running.cancelled()
        assert branch.length > 0
        assert len(done) == 2


def wait_for_batch(engine: FakeEngine, kind: str) -> None:
    while kind not in [served for served, _ in engine.served_by]:
        threading.Event().wait(0.001)


async def test_missed_deadlines_are_counted() -> None:
    engine, metrics, clock = FakeEngine(), Metrics(), VirtualClock(10.0)
    async with ModelPool([engine], metrics=metrics, clock=clock) as pool:
        await pool.submit(StepKind.HEAR, hear(engine), deadline=11.0, session_id="a")
        await pool.submit(StepKind.HEAR, hear(engine), deadline=9.0, session_id="a")
    assert metrics.registry.get_sample_value("duplex_deadline_misses_total", {"kind": "hear"}) == 1


async def test_listening_that_ends_late_or_nearly_so_is_told_for_some_seconds() -> None:
    engine, clock = FakeEngine(), VirtualClock(10.0)
    async with ModelPool([engine], clock=clock) as pool:

        async def hear_so_many(count: int, to_spare: float) -> None:
            for _ in range(count):
                await pool.submit(StepKind.HEAR, hear(engine), deadline=clock.now() + to_spare, session_id="a")

        await hear_so_many(LEAST_STEPS - 1, TIGHT_SEC / 2)
        assert pool.tight_share == 0.0  # too few to tell
        await hear_so_many(1, TIGHT_SEC / 2)
        assert pool.tight_share == 1.0
        await pool.submit(StepKind.STORE, lambda: None, deadline=0.0, session_id="a")
        await hear_so_many(LEAST_STEPS * 3, TIGHT_SEC * 2)
        assert pool.tight_share == 0.25
        clock.advance(WINDOW_SEC + 0.1)
        assert pool.tight_share == 0.0
        await hear_so_many(LEAST_STEPS, TIGHT_SEC * 2)
        assert pool.tight_share == 0.0


async def test_answers_that_come_late_are_told_too() -> None:
    engine, clock = FakeEngine(), VirtualClock(10.0)
    branch = engine.branches.acquire()
    async with ModelPool([engine], clock=clock) as pool:

        async def say_so_many(count: int, to_spare: float) -> None:
            for _ in range(count):
                step = ReplyStep(branch, engine.new_reply_state(SamplingParams()), max_tokens=1)
                await pool.submit(StepKind.REPLY, step, deadline=clock.now() + to_spare, session_id="a")

        await say_so_many(LEAST_STEPS, TIGHT_SEC / 2)
        assert pool.tight_share == 0.0  # in time is in time: nothing waits for the next chunk
        for _ in range(LEAST_STEPS):
            await pool.submit(StepKind.HEAR, hear(engine), deadline=clock.now() + 1.0, session_id="a")
        await say_so_many(LEAST_STEPS, -0.1)
        assert pool.tight_share == 0.5


async def test_closing_lets_nobody_wait_for_ever() -> None:
    engine = FakeEngine()
    engine.gates["hear"] = threading.Event()
    async with ModelPool([engine]) as pool:
        first = asyncio.create_task(pool.submit(StepKind.HEAR, hear(engine), deadline=0, session_id="a"))
        await asyncio.to_thread(wait_for_batch, engine, "hear")
        second = asyncio.create_task(pool.submit(StepKind.HEAR, hear(engine), deadline=0, session_id="b"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, engine.gates["hear"].set)
    with pytest.raises(StepWithdrawnError):
        await second
    assert np.isclose((await first).speech_probs[0], 0.9)
