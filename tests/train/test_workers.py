"""Data from worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from duplex.train.workers import APART, in_processes


def numbered(seed: int) -> Iterator[tuple[int, int, int]]:
    for number in itertools.count():
        yield seed, number, os.getpid()


def failing(seed: int) -> Iterator[int]:
    yield seed
    raise ValueError("out of clips")


def test_processes_take_turns_and_have_seeds_of_their_own() -> None:
    made = list(itertools.islice(in_processes(numbered, 7, 2), 6))
    assert [(seed, number) for seed, number, _ in made] == [(s, n) for n in range(3) for s in (7, 7 + APART)]
    makers = {process for _, _, process in made}
    assert len(makers) == 2
    assert os.getpid() not in makers


def test_without_workers_this_process_makes_the_data() -> None:
    assert next(in_processes(numbered, 7, 0)) == (7, 0, os.getpid())


def test_what_fails_in_a_worker_fails_here() -> None:
    made = in_processes(failing, 7, 1)
    assert next(made) == 7
    with pytest.raises(ValueError, match="out of clips"):
        next(made)
