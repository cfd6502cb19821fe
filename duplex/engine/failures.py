"""A step's error is its own result: the other steps of a batch go on untouched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from duplex.engine.steps import StepFailure
from duplex.model.caches import Branch

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")


def attempt(run: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | StepFailure:
    """What `run` returns, or what it raises as a StepFailure."""
    try:
        return run(*args, **kwargs)
    except Exception as error:
        return StepFailure(error)


def batched(steps: Sequence[S], run: Callable[[Sequence[S]], Sequence[R]]) -> list[R | StepFailure]:
    """Run a batch; when it fails, run each step alone so that only the guilty one fails.

    `run` has to leave all state as it was when it raises, or the others would take their step twice.
    """
    if len(steps) > 1:
        with contextlib.suppress(Exception):
            return list(run(steps))
    return [attempt(lambda one: run([one])[0], step) for step in steps]


@contextlib.contextmanager
def restored_on_error(branches: Sequence[Branch]) -> Iterator[None]:
    """Give branches their length back when the block raises; what lies behind it in a slot is never read."""
    lengths = [branch.length for branch in branches]
    try:
        yield
    except BaseException:
        for branch, length in zip(branches, lengths, strict=True):
            branch.length = length
        raise
