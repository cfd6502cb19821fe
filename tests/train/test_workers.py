"""Data from worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from duplex.train.workers import in_processes


def numbered(part: int) -> Iterator[tuple[int, int, int]]:
    for number in itertools.count():
        yield part, number, os.getpid()


def failing(part: int) -> Iterator[int]:
    yield part
    raise ValueError("out of clips")


def test_processes_take_turns() -> None:
    made = list(itertools.islice(in_processes(numbered, 2), 6))
    assert [(part, number) for part, number, _ in made] == [(part, number) for number in range(3) for part in range(2)]
    makers = {process for _, _, process in made}
    assert len(makers) == 2
    assert os.getpid() not in makers


def test_without_workers_this_process_makes_the_data() -> None:
    assert next(in_processes(numbered, 0)) == (0, 0, os.getpid())


def test_what_fails_in_a_worker_fails_here() -> None:
    made = in_processes(failing, 1)
    assert next(made) == 0
    with pytest.raises(ValueError, match="out of clips"):
        next(made)
