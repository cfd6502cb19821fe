"""Conversation slots: what forking, cutting and moving a branch keeps, and that steps copy no context."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from duplex.core.errors import BranchOverflowError, CapacityError
from duplex.model.caches import Branch, BranchPool
from duplex.model.checkpoint import DuplexModel
from tests.model.conftest import Tensors


class NewTensors(TorchDispatchMode):
    """Sizes of the tensors that operations make or fill, views of the slots aside."""

    def __init__(self, pool: BranchPool) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._slots = {cache.untyped_storage().data_ptr() for cache in (*pool.k, *pool.v)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple) else out
        copied = func._schema.name == "aten::copy_"
        if isinstance(first, torch.Tensor) and (copied or first.untyped_storage().data_ptr() not in self._slots):
            self.sizes.append(first.numel())
        return out


@contextmanager
def counted(pool: BranchPool) -> Iterator[list[int]]:
    with NewTensors(pool) as count:
        yield count.sizes


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(seed))


def written(model: DuplexModel, slots: int = 3, tokens: int = 40) -> tuple[BranchPool, Branch]:
    pool = model.llm.new_pool(slots, max_length=200)
    branch = pool.acquire()
    model.llm.forward(pool, [branch], [rows(tokens, 1)])
    return pool, branch


def next_hidden(model: DuplexModel, pool: BranchPool, branch: Branch, seed: int = 9) -> torch.Tensor:
    return model.llm.forward(pool, [branch], [rows(3, seed)])[0]


def test_fork_copies_the_used_part_once(model: DuplexModel) -> None:
    pool, branch = written(model, tokens=40)
    with counted(pool) as sizes:
        fork = pool.fork(branch)
    llm = model.llm
    assert sizes == [llm.layers * llm.kv_heads * 40 * llm.head_dim] * 2
    assert fork.length == 40


def test_a_token_copies_nothing_of_the_context(model: DuplexModel) -> None:
    costs = []
    for tokens in (20, 150):
        pool, branch = written(model, tokens=tokens)
        places = [cache.data_ptr() for cache in (*pool.k, *pool.v)]
        with counted(pool) as sizes:
            model.llm.forward(pool, [branch], [rows(1, 2)])
        costs.append(sum(sizes))
        assert [cache.data_ptr() for cache in (*pool.k, *pool.v)] == places
    assert costs[0] == costs[1]


def test_a_fork_and_its_source_go_separate_ways(model: DuplexModel) -> None:
    pool, branch = written(model)
    fork = pool.fork(branch)
    next_hidden(model, pool, branch, seed=5)
    again, alone = written(model)
    torch.testing.assert_close(next_hidden(model, pool, fork), next_hidden(model, again, alone))
    assert (branch.length, fork.length) == (43, 43)


def test_a_fork_of_a_prefix_equals_a_branch_that_stopped_there(model: DuplexModel) -> None:
    pool, branch = written(model, tokens=40)
    fork = pool.fork(branch, length=25)
    short_pool = model.llm.new_pool(1, 200)
    short = short_pool.acquire()
    model.llm.forward(short_pool, [short], [rows(40, 1)[:25]])
    torch.testing.assert_close(
        next_hidden(model, pool, fork), next_hidden(model, short_pool, short), rtol=1e-4, atol=1e-5
    )


def test_truncate_forgets_and_copies_nothing(model: DuplexModel) -> None:
    pool, branch = written(model, tokens=40)
    before = pool.fork(branch, length=30)
    with counted(pool) as sizes:
        pool.truncate(branch, 30)
    assert sizes == []
    torch.testing.assert_close(next_hidden(model, pool, branch), next_hidden(model, pool, before))
    with pytest.raises(ValueError, match="outside"):
        pool.truncate(branch, 1000)


def test_slots_run_out_and_come_back(model: DuplexModel) -> None:
    pool, branch = written(model, slots=2)
    fork = pool.fork(branch)
    with pytest.raises(CapacityError, match="2"):
        pool.fork(branch)
    pool.release(fork)
    pool.release(fork)
    assert pool.free_slots == 1
    with pytest.raises(ValueError, match="released"):
        next_hidden(model, pool, fork)
    assert pool.acquire().slot == fork.slot


def test_overflow_changes_nothing(model: DuplexModel) -> None:
    pool, branch = written(model, tokens=40)
    other = pool.acquire()
    before = [cache.clone() for cache in pool.k]
    with pytest.raises(BranchOverflowError, match="200"):
        model.llm.forward(pool, [other, branch], [rows(2, 1), rows(161, 2)])
    assert (branch.length, other.length) == (40, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, pool.k, strict=True))
    model.llm.forward(pool, [branch], [rows(160, 2)])
    assert branch.length == pool.max_length


def test_an_exported_branch_goes_on_elsewhere(model: DuplexModel, listen: Tensors) -> None:
    pool, branch = written(model)
    model.adapter.chunk(model.encoder.chunk(listen["fbank"][:1], [branch.stream]), [branch.stream])
    exported = pool.export(branch)
    elsewhere = model.llm.new_pool(1, 100)
    restored = elsewhere.restore(exported)
    assert restored.stream.pe_index == branch.stream.pe_index == 4
    chunk = listen["fbank"][1:2]
    torch.testing.assert_close(
        model.encoder.chunk(chunk, [restored.stream]), model.encoder.chunk(chunk, [branch.stream])
    )
    torch.testing.assert_close(next_hidden(model, elsewhere, restored), next_hidden(model, pool, branch))
    with pytest.raises(CapacityError):
        elsewhere.restore(exported)
    small = model.llm.new_pool(1, 10)
    with pytest.raises(BranchOverflowError):
        small.restore(exported)
    assert small.free_slots == 1


def test_ragged_batches_equal_single_branches(model: DuplexModel) -> None:
    pool = model.llm.new_pool(3, 200)
    branches = [pool.acquire() for _ in range(3)]
    lengths = (5, 1, 17)
    model.llm.forward(pool, branches, [rows(n, n) for n in lengths])
    together = model.llm.forward(pool, branches, [rows(2, 7), rows(1, 8), rows(4, 9)])
    for index, (length, given) in enumerate(zip(lengths, (rows(2, 7), rows(1, 8), rows(4, 9)), strict=True)):
        alone_pool = model.llm.new_pool(1, 200)
        alone = alone_pool.acquire()
        model.llm.forward(alone_pool, [alone], [rows(length, length)])
        expected = model.llm.forward(alone_pool, [alone], [given])[0]
        torch.testing.assert_close(together[index], expected, rtol=1e-4, atol=1e-5)


def test_an_exported_branch_that_lacks_something_takes_no_slot() -> None:
    pool = BranchPool(slots=1, max_length=4, layers=1, kv_heads=1, head_dim=2)
    branch = pool.acquire()
    state = torch.load(io.BytesIO(pool.export(branch)), weights_only=True)
    pool.release(branch)
    del state["hypotheses"]
    torch.save(state, lacking := io.BytesIO())
    with pytest.raises(ValueError, match="hypotheses"):
        pool.restore(lacking.getvalue())
    assert pool.free_slots == 1
