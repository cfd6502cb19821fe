"""Convolutional adapter between encoder frames (40 ms) and LLM positions (80 ms), causal, with its cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.model.caches import StreamCaches
from duplex.model.cpu_blocks import PackedLinear

NORM_EPS = 1e-3  # of both norms (fixture quirk 5)
CUE_HIDDEN = 64


@dataclass(frozen=True)
class AdapterDims:
    """Sizes of the adapter. Two convolutions stand where one cannot reach the LLM's width."""

    encoder_dim: int
    llm_dim: int
    kernel: int = 5
    norm: str = "layer"
    activation: str = "gelu"
    pieces: int = 0  # ours: size of the LLM's vocabulary that `as_pieces` mixes; 0 in official checkpoints
    cues: int = 0  # ours: logits of the state head that the ears add to, past the LLM; 0 in official checkpoints

    @property
    def convolutions(self) -> int:
        """1, or 2 when 4 x encoder_dim < llm_dim."""
        return 1 if self.encoder_dim * 4 >= self.llm_dim else 2


class Adapter(nn.Module):
    """[batch, frames, encoder_dim] -> [batch, frames / 2, llm_dim], or pieces + llm_dim where `as_pieces` reads it.

    Where it has cues, these come last: `split` parts them from what the LLM reads.

    One strided convolution, or a plain one before it; each followed by a norm and an activation, then a linear
    projection. Causal: a convolution sees kernel - 1 earlier frames, zeros at the start of a stream.
    The kind with two convolutions is always BatchNorm + ReLU, whatever the configuration says (quirk 5).
    """

    def __init__(self, dims: AdapterDims) -> None:
        super().__init__()
        self.dims = dims
        width = dims.encoder_dim
        two = dims.convolutions == 2
        norm = "batch" if two else dims.norm
        if two:
            self.conv1d1 = nn.Conv1d(width, 2 * width, dims.kernel)
            self.bn1 = _norm(norm, 2 * width)
            width *= 2
        self.conv1d2 = nn.Conv1d(width, 2 * width, dims.kernel, stride=2)
        self.bn2 = _norm(norm, 2 * width)
        self.project = nn.Linear(2 * width, dims.pieces or dims.llm_dim)
        if dims.pieces:
            self.rest = nn.Linear(2 * width, dims.llm_dim)
        if dims.cues:
            self.cues = nn.Sequential(nn.Linear(2 * width, CUE_HIDDEN), nn.GELU(), nn.Linear(CUE_HIDDEN, dims.cues))
        self._relu = two or dims.activation == "relu"
        self._packed: dict[str, PackedLinear] = {}

    def pack(self) -> None:
        """Take chunks by `cpu_kernels` from now on, with the weights as they are now: float32 on the CPU."""
        self._packed = {
            name: PackedLinear(layer)
            for name, layer in self.named_children()
            if isinstance(layer, nn.Linear | nn.Conv1d) and layer.bias is not None
        }

    def _layer(self, name: str) -> Callable[[Tensor], Tensor]:
        return self._packed.get(name) or getattr(self, name)

    @property
    def _added(self) -> list[str]:
        return [*(["rest"] if self.dims.pieces else []), *(["cues"] if self.dims.cues else [])]

    def rest_parts(self) -> list[nn.Module]:
        """The modules behind what is added to pieces and behind the cues; none in official checkpoints."""
        return [getattr(self, name) for name in self._added]

    def piece_parts(self) -> list[nn.Module]:
        """All other modules."""
        return [module for module in self.children() if module not in self.rest_parts()]

    def _finish(self, hidden: Tensor, norm: nn.Module) -> Tensor:
        hidden = norm(hidden.transpose(1, 2)).transpose(1, 2) if isinstance(norm, nn.LayerNorm) else norm(hidden)
        return F.relu(hidden) if self._relu else F.gelu(hidden)

    def _run(self, x: Tensor, contexts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """X [batch, channels, frames] with the inputs each convolution saw before; contexts: strided one first."""
        keep = self.dims.kernel - 1
        cached: list[Tensor] = []
        if self.dims.convolutions == 2:
            x = torch.cat([contexts[1], x], dim=2)
            cached.append(x[..., -keep:])
            x = self._finish(self._layer("conv1d1")(x), self.bn1)
        x = torch.cat([contexts[0], x], dim=2)
        cached.insert(0, x[..., -keep:])
        x = self._finish(self._layer("conv1d2")(x), self.bn2).transpose(1, 2)
        outputs = [self._layer(name)(x) for name in ("project", *self._added)]
        return torch.cat(outputs, dim=2), cached

    def split(self, adapted: Tensor) -> tuple[Tensor, Tensor]:
        """What the LLM reads of an output [..., width], and the cues [..., cues]."""
        read = adapted.shape[-1] - self.dims.cues
        return adapted[..., :read], adapted[..., read:]

    def _zeros(self, like: Tensor) -> list[Tensor]:
        widths = [self.dims.encoder_dim * 2, self.dims.encoder_dim]
        widths = widths if self.dims.convolutions == 2 else widths[1:]
        return [like.new_zeros(like.shape[0], width, self.dims.kernel - 1) for width in widths]

    def chunk(self, frames: Tensor, caches: list[StreamCaches]) -> Tensor:
        """One chunk of each stream: [batch, 4, encoder_dim] -> [batch, 2, width of forward]; `caches` are updated."""
        x = frames.transpose(1, 2)
        zeros = self._zeros(x)
        contexts = [
            torch.cat([c.adapter[i] if c.adapter else zero[:1] for c in caches]) for i, zero in enumerate(zeros)
        ]
        out, cached = self._run(x, contexts)
        for row, cache in enumerate(caches):
            cache.adapter = [context[row : row + 1] for context in cached]
        return out

    def forward(self, frames: Tensor) -> Tensor:
        """Whole utterances: [batch, frames, encoder_dim] -> [batch, frames // 2, llm_dim or pieces + llm_dim]."""
        x = frames.transpose(1, 2)
        return self._run(x, self._zeros(x))[0]


def as_pieces(adapted: Tensor, table: Tensor) -> Tensor:
    """Mixtures of the LLM's own embeddings: [..., pieces + llm_dim] -> [..., llm_dim].

    The first part weighs every embedding of `table` [pieces, llm_dim] by its softmax. A linear output trained towards
    embeddings gives the mean of what is likely, which is no word; a mixture of few embeddings is what a frozen LLM
    knows how to read. The second part is added: what no piece tells, such as for how long it has been quiet.
    """
    logits, rest = adapted[..., : len(table)], adapted[..., len(table) :]
    return torch.softmax(logits.float(), dim=-1).to(table.dtype) @ table + rest.to(table.dtype)


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=NORM_EPS)
    if kind == "layer":
        return nn.LayerNorm(width, eps=NORM_EPS)
    raise ValueError(f"adapter norm {kind!r} is neither 'layer' nor 'batch'")


def batch_norms(adapter: Adapter) -> list[nn.BatchNorm1d]:
    """The adapter's batch norms, for training code that freezes their statistics."""
    return [m for m in adapter.modules() if isinstance(m, nn.BatchNorm1d)]
