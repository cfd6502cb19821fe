"""Endless data from worker processes, so that a GPU does not wait for one core's synthesis and features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

QUEUED = 4  # batches that a worker makes ahead

T = TypeVar("T")


class _Endless(IterableDataset[T]):
    def __init__(self, make: Callable[[int], Iterator[T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        return self._make(0 if worker is None else worker.id)


def in_processes(make: Callable[[int], Iterator[T]], workers: int) -> Iterator[T]:
    """What the endless `make(part)` yields for part 0 to `workers` - 1, by turns, each in a process of its own.

    With 0 workers, `make(0)` in this process. A worker that fails raises its error here.
    """
    if workers == 0:
        return make(0)
    return iter(DataLoader(_Endless(make), batch_size=None, num_workers=workers, prefetch_factor=QUEUED))
