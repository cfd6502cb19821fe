"""Branches of sessions: what is taken is given back."""

import pytest
import torch

from duplex.core.errors import CapacityError
from duplex.model.caches import BranchPool, StreamCaches
from duplex.session.store import SessionStore


@pytest.fixture
def store() -> SessionStore:
    return SessionStore(BranchPool(slots=3, max_length=16, layers=1, kv_heads=1, head_dim=2))


def test_a_fork_is_adopted_and_the_old_line_released(store: SessionStore) -> None:
    line = store.create("a")
    line.length = 6
    fork = store.fork("a", line, 4)
    assert (fork.length, store.held("a"), store.free_slots) == (4, 2, 1)
    assert store.adopt("a", fork, line) is fork
    assert (store.held("a"), store.free_slots, line.released) == (1, 2, True)


def test_truncation_restores_what_the_encoder_knew(store: SessionStore) -> None:
    line = store.create("a")
    line.length = 6
    store.truncate(line, 4, StreamCaches(pe_index=12))
    assert (line.length, line.stream.pe_index) == (4, 12)
    store.truncate(line, 9)  # more than there is
    assert line.length == 4


def test_a_session_gives_everything_back(store: SessionStore) -> None:
    other = store.create("b")
    store.create("a")
    store.create("a")
    with pytest.raises(CapacityError):
        store.create("a")
    store.release_all("a")
    store.release_all("a")
    assert (store.held("a"), store.held("b"), store.free_slots) == (0, 1, 2)
    store.release("b", other)
    store.release("b", other)
    assert store.free_slots == 3


def test_export_and_import(store: SessionStore) -> None:
    line = store.create("a")
    line.length = 3
    line.stream = StreamCaches(pe_index=8, hypotheses=[torch.ones(2, 4), torch.zeros(2)])
    copy = store.import_("b", store.export(line))
    assert (copy.length, copy.stream.pe_index, store.held("b")) == (3, 8, 1)
    assert all(map(torch.equal, copy.stream.hypotheses, line.stream.hypotheses))
    assert len(copy.stream.hypotheses) == 2
