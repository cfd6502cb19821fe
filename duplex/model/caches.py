"""Conversation state in preallocated slots: LLM KV-cache, encoder caches, adapter cache.

Models own none of it. Nothing is copied per chunk or per token; a fork copies the used part of a slot once.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field, fields, replace

import torch

from duplex.core.errors import BranchOverflowError, CapacityError

NOTHING = torch.empty(0)  # in place of keys or values; tensors are replaced, never written


@dataclass
class StreamCaches:
    """What encoder, adapter and word search carry between chunks of one user turn.

    encoder_k, encoder_v: [blocks, 1, heads, frames, head_dim], frames <= left_chunks * chunk; empty at first.
    adapter: cached inputs per convolution [1, channels, kernel - 1], the strided one first (fixture quirk 5).
    pe_index: encoder frames consumed so far (fixture quirk 4).
    hypotheses: what the word search takes the turn's words for so far (ours; empty where the model has no such search).
    """

    encoder_k: torch.Tensor = NOTHING
    encoder_v: torch.Tensor = NOTHING
    adapter: list[torch.Tensor] = field(default_factory=list)
    pe_index: int = 0
    hypotheses: list[torch.Tensor] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames whose keys and values are kept."""
        return self.encoder_k.shape[3] if self.encoder_k.numel() else 0

    def copy(self) -> StreamCaches:
        """A copy that shares no list; tensors are replaced, never written, by the models, so they are shared."""
        return replace(self, adapter=list(self.adapter), hypotheses=list(self.hypotheses))


@dataclass(eq=False)
class Branch:
    """One line of conversation state: everything a model needs to take the next step."""

    id: int
    slot: int
    length: int = 0
    stream: StreamCaches = field(default_factory=StreamCaches)
    released: bool = False


class BranchPool:
    """Preallocated KV slots of one LLM, `k`, `v`: [layers, slots, kv_heads, max_length, head_dim].

    Thread-safe for acquire, fork and release; the tensors of one branch are touched by one step at a time.
    """

    def __init__(
        self,
        *,
        slots: int,
        max_length: int,
        layers: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, slots, kv_heads, max_length, head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)
        self.slots = slots
        self.max_length = max_length
        self._free = list(range(slots - 1, -1, -1))
        self._next_id = 0
        self._lock = threading.Lock()

    @property
    def free_slots(self) -> int:
        """Slots that can still be acquired."""
        return len(self._free)

    def acquire(self) -> Branch:
        """An empty branch. Raises CapacityError when every slot is taken."""
        with self._lock:
            if not self._free:
                raise CapacityError(f"all {self.slots} conversation slots are in use")
            slot = self._free.pop()
            self._next_id += 1
            return Branch(id=self._next_id, slot=slot)

    def release(self, branch: Branch) -> None:
        """Give the slot back. Releasing twice is harmless."""
        with self._lock:
            if branch.released:
                return
            branch.released = True
            self._free.append(branch.slot)

    def fork(self, source: Branch, length: int | None = None) -> Branch:
        """A new branch holding the first `length` tokens of `source` (all by default), one copy.

        Encoder and adapter caches come along only with the whole branch.
        """
        keep = source.length if length is None else length
        self._check_prefix(source, keep)
        branch = self.acquire()
        for cache in (self.k, self.v):
            cache[:, branch.slot, :, :keep].copy_(cache[:, source.slot, :, :keep])
        branch.length = keep
        if keep == source.length:
            branch.stream = source.stream.copy()
        return branch

    def truncate(self, branch: Branch, length: int) -> None:
        """Forget everything after the first `length` tokens. Copies nothing."""
        self._check_prefix(branch, length)
        if length < branch.length:
            branch.stream = StreamCaches()
        branch.length = length

    def require(self, branch: Branch, tokens: int) -> None:
        """Raises BranchOverflowError unless `tokens` more fit."""
        if branch.released:
            raise ValueError(f"branch {branch.id} was released")
        if branch.length + tokens > self.max_length:
            raise BranchOverflowError(
                f"the conversation needs {branch.length + tokens} tokens, a slot holds {self.max_length}"
            )

    def export(self, branch: Branch) -> bytes:
        """The branch as bytes that `restore` of an equal pool reads back (KV prefix and stream caches)."""
        used = slice(0, branch.length)
        buffer = io.BytesIO()
        torch.save(
            {
                "k": [cache[branch.slot, :, used].cpu().clone() for cache in self.k],
                "v": [cache[branch.slot, :, used].cpu().clone() for cache in self.v],
                **vars(branch.stream),
                "length": branch.length,
            },
            buffer,
        )
        return buffer.getvalue()

    def restore(self, exported: bytes) -> Branch:
        """A new branch from `export`. Raises CapacityError, BranchOverflowError, or ValueError on other shapes."""
        state = torch.load(io.BytesIO(exported), weights_only=True, map_location=self.k.device)
        needed = {"k", "v", "length", *(entry.name for entry in fields(StreamCaches))}
        if lacking := needed - state.keys():
            raise ValueError(f"the exported branch lacks {', '.join(sorted(lacking))}")
        if len(state["k"]) != len(self.k):
            raise ValueError(f"the exported branch has {len(state['k'])} layers, this pool {len(self.k)}")
        branch = self.acquire()
        try:
            self.require(branch, state["length"])
            branch.length = state["length"]
            for caches, saved in ((self.k, state["k"]), (self.v, state["v"])):
                for cache, tensor in zip(caches, saved, strict=True):
                    cache[branch.slot, :, : branch.length].copy_(tensor)
        except BaseException:
            self.release(branch)
            raise
        branch.stream = StreamCaches(**{entry.name: state[entry.name] for entry in fields(StreamCaches)})
        return branch

    def _check_prefix(self, branch: Branch, length: int) -> None:
        if branch.released:
            raise ValueError(f"branch {branch.id} was released")
        if not 0 <= length <= branch.length:
            raise ValueError(f"length {length} is outside branch {branch.id} of {branch.length} tokens")
