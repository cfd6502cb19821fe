"""Endless data from worker processes, so that a GPU does not wait for one core's synthesis and features."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

QUEUED = 4  # batches that a worker makes ahead
NICENESS = 5  # of workers: the process that trains comes first
APART = 1_000_000_000  # between the seeds of two workers, which steps done and runs are added to

T = TypeVar("T")


def end_with_parent(end: Callable[[], object]) -> None:
    """In a process that another one has begun: `end` is called once that one is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        end()

    threading.Thread(target=watch, daemon=True).start()


class _Endless(IterableDataset[T]):
    def __init__(self, make: Callable[[int], Iterator[T]], seed: int) -> None:
        self._make = make
        self._seed = seed

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        if worker is None:
            return self._make(self._seed)
        os.nice(NICENESS)
        return self._make(self._seed + APART * worker.id)


def in_processes(make: Callable[[int], Iterator[T]], seed: int, workers: int) -> Iterator[T]:
    """What the endless `make(seed)` yields in `workers` processes by turns, each with a seed of its own.

    With 0 workers, `make(seed)` in this process. A worker that fails raises its error here.
    """
    if workers == 0:
        return make(seed)
    return iter(
        DataLoader(
            _Endless(make, seed),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=QUEUED,
            multiprocessing_context="fork",
            pin_memory=torch.cuda.is_available(),
        )
    )
