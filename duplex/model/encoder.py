"""Chunk-wise speech encoder: 4x convolutional subsampling, then Transformer blocks with relative positions.

One chunk is 4 output frames of 40 ms. A chunk attends to itself and to the left context kept in the cache
(Freeze-Omni, arXiv 2411.00774; attention after Transformer-XL, arXiv 1901.02860, without the shift).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.model.caches import StreamCaches
from duplex.model.cpu_encoder import CpuEncoder

POSITION_TABLE_LENGTH = 5000  # rows of the sinusoidal table; pe_index wraps below it (fixture quirk 4)

OFFICIAL_POSITIONS = "rel-enc"  # keys carry the embedding of their own position (fixture quirk 3)
DISTANCE_POSITIONS = "rel-distance"  # keys carry the embedding of their distance to the query, as Transformer-XL has it


@dataclass(frozen=True)
class EncoderDims:
    """Sizes of the encoder, as a checkpoint's train.yaml states them."""

    bins: int = 80
    dim: int = 1024
    heads: int = 16
    feed_forward: int = 4096
    blocks: int = 24
    chunk: int = 4  # output frames a chunk
    left_chunks: int = 16
    position_kind: str = OFFICIAL_POSITIONS
    subsampling_channels: int | None = (
        None  # of both convolutions; None: as many as `dim`, as official checkpoints have
    )

    def __post_init__(self) -> None:
        if self.position_kind not in (OFFICIAL_POSITIONS, DISTANCE_POSITIONS):
            raise ValueError(f"position kind {self.position_kind!r} is neither rel-enc nor rel-distance")

    @property
    def left_frames(self) -> int:
        """Frames of left context kept between chunks."""
        return self.left_chunks * self.chunk

    @property
    def wrap(self) -> int:
        """pe_index at which positions start over."""
        return POSITION_TABLE_LENGTH - (self.left_chunks + 1) * self.chunk


def sinusoid_table(length: int, dim: int) -> Tensor:
    """Sinusoidal position embeddings [length, dim], sine in even and cosine in odd columns (arXiv 1706.03762)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10000.0) / dim))
    table = torch.zeros(length, dim)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)
    return table


class GlobalCmvn(nn.Module):
    """Per-bin mean and variance normalisation. The buffers of a checkpoint override its CMVN file (quirk 2)."""

    mean: Tensor
    istd: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("istd", torch.ones(bins))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.istd


class SubsamplingCore(nn.Module):
    """Two stride-2 convolutions and a projection. The convolutions run with their channels last: on a CPU in half to nine
    tenths of the time, forwards and backwards.
    """

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        bins_out = ((dims.bins - 1) // 2 - 1) // 2
        channels = dims.subsampling_channels or dims.dim
        self.conv = nn.Sequential(
            nn.Conv2d(1, channels, 3, 2), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2), nn.ReLU()
        )
        self.out = nn.Sequential(nn.Linear(channels * bins_out, dims.dim))

    def forward(self, features: Tensor) -> Tensor:
        hidden = features[:, None].contiguous(memory_format=torch.channels_last)
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d):
                weight = layer.weight.to(memory_format=torch.channels_last)
                hidden = F.conv2d(hidden, weight, layer.bias, layer.stride)
            else:
                hidden = layer(hidden)
        out: Tensor = self.out(hidden.transpose(1, 2).flatten(2))
        return out


class Subsampling(nn.Module):
    """Four times fewer frames: [batch, frames, bins] -> [batch, (frames - 3) // 4, dim]."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.core = SubsamplingCore(dims)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.core(features)
        return out


class RelativeAttention(nn.Module):
    """Multi-head attention with position scores beside content scores.

    The official kind has no relative shift: a key carries the embedding of its position (quirk 3), and a query knows
    nothing of its own. With `distances` given, a key carries the embedding of its distance to the query instead.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, self.head_dim))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, self.head_dim))

    def split(self, x: Tensor) -> Tensor:
        """[batch, frames, dim] -> [batch, heads, frames, head_dim]."""
        return x.reshape(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x, each [batch, heads, frames, head_dim]."""
        return self.split(self.linear_q(x)), self.split(self.linear_k(x)), self.split(self.linear_v(x))

    def scores(self, q: Tensor, k: Tensor, positions: Tensor, distances: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Content and position scores [batch, heads, queries, keys].

        positions [1, keys, dim]; or one row a distance, and `distances` [queries, keys] says which row is whose.
        """
        p = self.split(self.linear_pos(positions))
        content = (q + self.pos_bias_u[:, None]) @ k.transpose(-1, -2)
        position = (q + self.pos_bias_v[:, None]) @ p.transpose(-1, -2)
        if distances is not None:
            position = position.gather(-1, distances.expand(*position.shape[:2], -1, -1))
        return content, position

    def combine(self, scores: Tensor, v: Tensor) -> Tensor:
        """Softmax over `scores`, weighted values, output projection: [batch, queries, dim]."""
        weights = torch.softmax(scores / math.sqrt(self.head_dim), dim=-1)
        out: Tensor = self.linear_out((weights @ v).transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dims.dim, dims.feed_forward)
        self.w_2 = nn.Linear(dims.feed_forward, dims.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(F.relu(self.w_1(x)))
        return out


class EncoderBlock(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(dims.dim, dims.heads)
        self.feed_forward = FeedForward(dims)
        self.norm1 = nn.LayerNorm(dims.dim)
        self.norm2 = nn.LayerNorm(dims.dim)

    def feed(self, x: Tensor) -> Tensor:
        """Residual feed-forward."""
        out: Tensor = x + self.feed_forward(self.norm2(x))
        return out


class Transformer(nn.Module):
    """The stack of blocks behind the subsampling."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(dims.dim, dims.dim), nn.LayerNorm(dims.dim), nn.ReLU())
        self.encoders = nn.ModuleList(EncoderBlock(dims) for _ in range(dims.blocks))
        self.after_norm = nn.LayerNorm(dims.dim)

    def blocks(self) -> Iterator[EncoderBlock]:
        """The blocks, first to last."""
        return (cast(EncoderBlock, block) for block in self.encoders)


class SpeechEncoder(nn.Module):
    """The encoder with its two ways of running, which agree: chunk by chunk with caches, or a whole utterance."""

    positions: Tensor

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.dims = dims
        self.global_cmvn = GlobalCmvn(dims.bins)
        self.enc = nn.ModuleList([Subsampling(dims), Transformer(dims)])  # the checkpoint's names
        self.register_buffer("positions", sinusoid_table(POSITION_TABLE_LENGTH, dims.dim), persistent=False)
        self._packed: CpuEncoder | None = None

    def pack(self) -> None:
        """Take chunks by `cpu_kernels` from now on, with the weights as they are now: float32 on the CPU. Not with the
        official positions: the embedding of a key's position would have to be kept for every position.
        """
        if self.dims.position_kind == DISTANCE_POSITIONS:
            positions, _ = self._distances(1, 0)
            self._packed = CpuEncoder(list(self.transformer.blocks()), positions[0])

    @property
    def transformer(self) -> Transformer:
        """The stack of blocks."""
        return cast(Transformer, self.enc[1])

    def _embed(self, features: Tensor) -> Tensor:
        out: Tensor = self.transformer.embed(self.enc[0](self.global_cmvn(features)))
        return out * math.sqrt(self.dims.dim)  # quirk 3

    def chunk(self, features: Tensor, caches: list[StreamCaches]) -> Tensor:
        """One chunk of each stream: features [batch, 19, 80] -> [batch, 4, dim]; `caches` are updated.

        Rows of equal cache length run as one batch; the first three frames of a stream's first chunk are
        taken before normalisation as they come (quirk 1).
        """
        x = self._embed(features)
        groups: dict[tuple[int, int], list[int]] = {}
        for row, cache in enumerate(caches):
            groups.setdefault((cache.frames, cache.pe_index), []).append(row)
        if len(groups) == 1:
            return self._chunk_group(x, caches)
        out = torch.empty_like(x)
        for rows in groups.values():
            out[rows] = self._chunk_group(x[rows], [caches[row] for row in rows])
        return out

    def _chunk_group(self, x: Tensor, caches: list[StreamCaches]) -> Tensor:
        dims = self.dims
        cached, pe_index = caches[0].frames, caches[0].pe_index % dims.wrap
        kept_k, kept_v = (_joined([getattr(c, name) for c in caches]) for name in ("encoder_k", "encoder_v"))
        if self._packed is not None:
            x, keys, values = self._run_packed(self._packed, x, cached, kept_k, kept_v)
        else:
            x, keys, values = self._run(x, cached, pe_index, kept_k, kept_v)
        keys, values = keys[:, :, :, -dims.left_frames :], values[:, :, :, -dims.left_frames :]  # quirk 3: afterwards
        for row, cache in enumerate(caches):
            cache.encoder_k, cache.encoder_v = keys[:, row : row + 1], values[:, row : row + 1]
            cache.pe_index = pe_index + x.shape[1]
        out: Tensor = self.transformer.after_norm(x)
        return out

    def _run(
        self, x: Tensor, cached: int, pe_index: int, kept_k: Tensor, kept_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames x [streams, frames, dim] behind the kept keys and values, through all blocks; returns all of both."""
        dims = self.dims
        if dims.position_kind == OFFICIAL_POSITIONS:
            start = max(0, pe_index - (dims.left_chunks + 1) * dims.chunk)  # quirk 4
            positions, distances = self.positions[None, start : start + cached + x.shape[1]], None
        else:
            positions, distances = self._distances(x.shape[1], cached)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for index, block in enumerate(self.transformer.blocks()):
            attention = block.self_attn
            q, k, v = attention.qkv(block.norm1(x))
            if cached:
                k, v = torch.cat([kept_k[index], k], dim=2), torch.cat([kept_v[index], v], dim=2)
            content, position = attention.scores(q, k, positions, distances)
            x = block.feed(x + attention.combine(content + position, v))
            keys.append(k)
            values.append(v)
        return x, torch.stack(keys), torch.stack(values)

    def _run_packed(
        self, packed: CpuEncoder, x: Tensor, cached: int, kept_k: Tensor, kept_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `_run`."""
        dims, (streams, frames, _) = self.dims, x.shape
        keys = x.new_empty(dims.blocks, streams, dims.heads, cached + frames, dims.dim // dims.heads)
        values = torch.empty_like(keys)
        if cached:
            keys[:, :, :, :cached], values[:, :, :, :cached] = kept_k, kept_v
        return packed.run(x, keys, values, self._distances(frames, cached)[1]), keys, values

    def _distances(self, queries: int, cached: int) -> tuple[Tensor, Tensor]:
        """Embeddings of all distances a key can have, and which one each of [queries, cached + queries] has.

        Row i stands for distance i - (chunk - 1): a key up to chunk - 1 frames ahead, in the same chunk, or behind.
        """
        ahead = self.dims.chunk - 1
        rows = ahead + self.dims.left_frames + self.dims.chunk
        query = torch.arange(queries, device=self.positions.device)[:, None] + cached
        key = torch.arange(cached + queries, device=self.positions.device)[None, :]
        return self.positions[None, :rows], (query - key + ahead).clamp(0, rows - 1)

    def forward(self, features: Tensor, *, shifted_positions: bool = True) -> Tensor:
        """Whole utterances: features [batch, frames, 80] -> [batch, (frames - 3) // 4, dim].

        `frames` is 3 + 16 per chunk. With `shifted_positions` the numbers equal those of `chunk` (quirk 4: once
        the left context is full, keys stand 4 positions lower); without, every key keeps its own position.
        """
        x = self._embed(features)
        frames = x.shape[1]
        if frames > self.dims.wrap:
            raise ValueError(f"{frames} frames at once exceed the {self.dims.wrap} positions of the table")
        chunk_of = torch.arange(frames, device=x.device) // self.dims.chunk
        distance = chunk_of[:, None] - chunk_of[None, :]
        visible = (distance >= 0) & (distance <= self.dims.left_chunks)
        late = (chunk_of > self.dims.left_chunks)[:, None]
        shift = shifted_positions and self.dims.position_kind == OFFICIAL_POSITIONS
        if self.dims.position_kind == OFFICIAL_POSITIONS:
            positions, distances = self.positions[None, :frames], None
        else:
            positions, distances = self._distances(frames, 0)
        mask = torch.zeros(frames, frames, device=x.device, dtype=x.dtype).masked_fill(~visible, float("-inf"))
        for block in self.transformer.blocks():
            attention = block.self_attn
            q, k, v = attention.qkv(block.norm1(x))
            content, position = attention.scores(q, k, positions, distances)
            if shift and frames > (self.dims.left_chunks + 1) * self.dims.chunk:
                lower = F.pad(position, (self.dims.chunk, 0))[..., :frames]
                position = torch.where(late, lower, position)
            x = block.feed(x + attention.combine(content + position + mask, v))
        out: Tensor = self.transformer.after_norm(x)
        return out


def _joined(caches: list[Tensor]) -> Tensor:
    """Keys or values of several streams, [blocks, 1, heads, frames, head_dim] each, as one."""
    return caches[0] if len(caches) == 1 else torch.cat(caches, dim=1)
