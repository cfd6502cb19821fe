"""Stages that do not wait for each other, at the same time: each in a process of its own, with a log of its own."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path

import torch

from duplex.core.errors import DuplexError
from duplex.train.pipeline import NEEDS, Pipeline
from duplex.train.workers import NICENESS, end_with_parent

MOST_AT_A_TIME = 5  # what hears, what thinks, what speaks, and their synthesis
_LOOK_SEC = 1.0
_STOPPING_SEC = 10.0  # that a stage gets to end when another one has failed

# Stages that learn come from a process that has imported what they need: on a GPU that takes as long as some of them do.
# Those that synthesize need not wait for it.
_SPAWN = multiprocessing.get_context("spawn")
_FORKSERVER = multiprocessing.get_context("forkserver")
_PRELOADED = ["duplex.train.pipeline", "transformers.models.qwen2.modeling_qwen2"]
_SYNTHESIZE = ("data", "users", "agent")

# The ears, and then what hears with them, take longest. Where there are more stages than cores, these give way to them.
GIVE_WAY = ("text", "words", "agent", "codec", "speech")

StageProcess = SpawnProcess | ForkServerProcess


class StageError(DuplexError):
    """A stage ended with an error; its log tells which."""


class MoreThreads:
    """How many threads of torch a stage takes once it is told that nothing runs beside it any more.

    A pipe tells it: an event would have the one that sets it wait for a stage that has just ended.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.told = False
        self._told_by, self._teller = _SPAWN.Pipe(duplex=False)

    def tell(self) -> None:
        """Let the stage take them, now or when it has come so far."""
        self.told = True
        self._teller.send_bytes(b"1")

    def wait(self) -> bool:
        """In the stage: wait to be told; False when it never will be."""
        self._teller.close()
        try:
            return bool(self._told_by.recv_bytes())
        except EOFError:
            return False


def run_all(pipeline: Pipeline, jobs: int, threads: int = 0) -> None:
    """Every stage as soon as those it needs are done, at most `jobs` at a time, the first ones first.

    Output goes to `logs/STAGE.log` of the pipeline's folder. threads: of torch, each stage; 0 shares the cores out. A
    stage that all others wait for gets the threads of all jobs.

    Raises:
        StageError: A stage failed. The others are stopped, and go on from their last state next time.

    """
    _FORKSERVER.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()
    logs = pipeline.work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    threads = threads or max(1, len(os.sched_getaffinity(0)) // jobs)
    waiting, done = list(NEEDS), set[str]()
    more = {stage: MoreThreads(jobs * threads) for stage in NEEDS}
    with _stages() as running:
        while waiting or running:
            ready = [stage for stage in waiting if done.issuperset(NEEDS[stage])]
            for stage in ready[: jobs - len(running)]:
                waiting.remove(stage)
                print(f"stage {stage}: begun, {logs / stage}.log", flush=True)
                running[stage] = start(pipeline.run, stage, logs / f"{stage}.log", threads, more[stage])
            if len(running) == 1:
                _run_alone(next(iter(running)), more)
            # What a stage has forked keeps its sentinel from telling when it is killed, so look now and then.
            wait([process.sentinel for process in running.values()], timeout=_LOOK_SEC)
            for stage, process in list(running.items()):
                if process.exitcode is None:
                    continue
                last = _last_line(logs / f"{stage}.log")
                if process.exitcode:
                    raise StageError(f"stage {stage} failed, see {logs / stage}.log: {last}")
                del running[stage]
                done.add(stage)
                print(last, flush=True)


def _run_alone(stage: str, more: Mapping[str, MoreThreads]) -> None:
    """All others wait for this one."""
    if not more[stage].told:
        print(f"stage {stage}: alone now, with {more[stage].threads} threads", flush=True)
        more[stage].tell()


@contextmanager
def _stages() -> Iterator[dict[str, StageProcess]]:
    """Running stages by name; whatever still runs at the end is stopped, with the processes that work for it."""
    running: dict[str, StageProcess] = {}
    try:
        yield running
    finally:
        stop(list(running.values()))


def stop(stages: Sequence[StageProcess]) -> None:
    """End stages and what works for them, first by asking."""
    for process in stages:
        _signal(process, signal.SIGTERM)
    until = time.monotonic() + _STOPPING_SEC
    for process in stages:
        process.join(max(0.0, until - time.monotonic()))
        _signal(process, signal.SIGKILL)
        process.join()


def _signal(process: StageProcess, number: signal.Signals) -> None:
    """To the stage's process group, or to itself before it has made one."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        if process.is_alive():
            os.kill(process.pid, number)


def start(
    run: Callable[[str], None], stage: str, log: Path, threads: int, more: MoreThreads | None = None
) -> StageProcess:
    """A process that does `run(stage)` with so many threads of torch; what it prints goes to the file `log`."""
    log.write_text("")
    context = _SPAWN if stage in _SYNTHESIZE else _FORKSERVER
    process = context.Process(target=_run, args=(run, stage, log, threads, more))
    process.start()
    return process


def _run(run: Callable[[str], None], stage: str, log: Path, threads: int, more: MoreThreads | None) -> None:
    """One stage, in its process, which leads a group of its own."""
    os.setpgid(0, 0)
    if stage in GIVE_WAY:
        os.nice(NICENESS)
    end_with_parent(
        lambda: os.killpg(0, signal.SIGKILL)
    )  # or it would train on unseen, and beside the next run of itself
    handle = log.open("w")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(handle.fileno(), stream.fileno())
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    torch.set_num_threads(threads)
    if more is not None:
        # Every thread has a number of its own, so it is changed in the one that trains: handlers run in the main thread.
        signal.signal(signal.SIGUSR1, lambda *_: torch.set_num_threads(more.threads))
        threading.Thread(target=_wait_for_more, args=(more,), daemon=True).start()
    run(stage)


def _wait_for_more(more: MoreThreads) -> None:
    if more.wait():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
