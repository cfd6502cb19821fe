"""The blocks of a decoder-only transformer packed for `cpu_kernels`: what the LLM and the speech decoder share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from duplex.model import cpu_kernels
from duplex.model.checkpoint_files import INT8_LARGEST, power_of_two

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Matrices:
    """Matrices of one shape: `values` [count, outputs, inputs] times `scales` [count, outputs].

    values: int8 where every row is whole steps of a scale, as `checkpoint_files` makes them (`in_eight_bits`,
    `on_eight_bit_grid`); bfloat16 (its bits, uint16) where that holds every number; float32 otherwise. So they are the
    very numbers that were packed.
    """

    values: npt.NDArray[np.int8] | npt.NDArray[np.uint16] | Float32
    scales: Float32

    @classmethod
    def pack(cls, weights: Sequence[Tensor]) -> Matrices:
        """Of weights [outputs, inputs], float32 on the CPU."""
        stacked = torch.stack([weight.detach() for weight in weights])
        largest = stacked.abs().amax(dim=2, keepdim=True) / INT8_LARGEST
        for scales in (largest, power_of_two(largest)):
            steps = (stacked / scales.clamp(min=torch.finfo(torch.float32).tiny)).round()
            if torch.equal(steps * scales, stacked):
                return cls(steps.to(torch.int8).numpy(), scales[..., 0].contiguous().numpy())
        ones = np.ones(stacked.shape[:2], np.float32)
        short = stacked.bfloat16()
        if torch.equal(short.float(), stacked):
            return cls(short.view(torch.uint16).numpy(), ones)
        return cls(stacked.numpy(), ones)

    def times(self, x: Tensor) -> Tensor:
        """Rows x [n, inputs] through the first matrix: [n, outputs]."""
        rows = np.ascontiguousarray(x.numpy())
        out = np.empty((len(rows), self.values.shape[1]), np.float32)
        cpu_kernels.linear(rows, self.values[0], self.scales[0], out)
        return torch.from_numpy(out)


class PackedLinear:
    """A linear layer, or a convolution over time seen as one over windows of its input. Safe for several threads."""

    def __init__(self, layer: nn.Linear | nn.Conv1d) -> None:
        self._weight = Matrices.pack([layer.weight.flatten(1)])
        self._bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
        self._kernel, self._stride = (layer.kernel_size[0], layer.stride[0]) if isinstance(layer, nn.Conv1d) else (0, 0)

    def __call__(self, x: Tensor) -> Tensor:
        """Of a linear layer: [..., inputs] -> [..., outputs]; of a convolution: [batch, channels, t] as it does."""
        if self._kernel:
            windows = x.unfold(2, self._kernel, self._stride).transpose(1, 2).flatten(2)
            return self._rows(windows).transpose(1, 2)
        return self._rows(x)

    def _rows(self, x: Tensor) -> Tensor:
        return (self._weight.times(x.reshape(-1, x.shape[-1])) + self._bias).view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class BlockParts:
    """The modules of one block, whatever the model they come from."""

    first_norm: Tensor
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    second_norm: Tensor
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear


@dataclass(frozen=True)
class Rows:
    """Where rows of a batch belong: each its slot, its place there, and how many places it sees. int64 [n] each."""

    slots: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]

    @classmethod
    def causal(cls, spans: Sequence[tuple[int, int, int]]) -> Rows:
        """Of (slot, places taken, new rows) a sequence: every row sees those before it and itself."""
        slots = np.concatenate([np.full(count, slot) for slot, _, count in spans])
        places = np.concatenate([np.arange(start, start + count) for _, start, count in spans])
        return cls(slots, places, places + 1)

    @classmethod
    def mutual(cls, start: int, count: int) -> Rows:
        """`count` rows behind `start` places of slot 0, which all see one another and what is before them."""
        places = np.arange(start, start + count)
        return cls(np.zeros_like(places), places, np.full_like(places, start + count))


class CpuBlocks:
    """Packed once; the modules are not looked at again. Safe to call from several threads, on different slots."""

    def __init__(self, blocks: Sequence[BlockParts], *, heads: int, eps: float, scaling: float) -> None:
        self._heads, self._eps, self._scaling = heads, np.float32(eps), np.float32(scaling)
        qkv = [torch.cat([b.query.weight, b.key.weight, b.value.weight]) for b in blocks]
        bias = [torch.cat([_bias(b.query), _bias(b.key), _bias(b.value)]) for b in blocks]
        self._qkv, self._bias = Matrices.pack(qkv), torch.stack(bias).detach().numpy()
        self._output = Matrices.pack([b.output.weight for b in blocks])
        self._gate_up = Matrices.pack([torch.cat([b.gate.weight, b.up.weight]) for b in blocks])
        self._down = Matrices.pack([b.down.weight for b in blocks])
        self._first_norm = torch.stack([b.first_norm for b in blocks]).detach().numpy()
        self._second_norm = torch.stack([b.second_norm for b in blocks]).detach().numpy()

    def run(self, x: Tensor, rows: Rows, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Rows x [n, dim] through all blocks; their keys and values are written.

        cos, sin [n, head_dim / 2]: angles of the rotary embedding; keys, values [blocks, slots, kv_heads, places,
        head_dim]. All float32 on the CPU.
        """
        out = np.array(x.numpy(), np.float32, order="C")
        cpu_kernels.run_blocks(
            out,
            rows.slots,
            rows.places,
            rows.seen,
            cos.numpy(),
            sin.numpy(),
            keys.numpy(),
            values.numpy(),
            self._heads,
            self._eps,
            self._scaling,
            self._first_norm,
            self._qkv.values,
            self._qkv.scales,
            self._bias,
            self._output.values,
            self._output.scales,
            self._second_norm,
            self._gate_up.values,
            self._gate_up.scales,
            self._down.values,
            self._down.scales,
        )
        return torch.from_numpy(out)


def normed(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm of rows x [n, dim]."""
    rows = np.ascontiguousarray(x.numpy())
    out = np.empty_like(rows)
    cpu_kernels.rms_norm(rows, gain.detach().numpy(), np.float32(eps), out)
    return torch.from_numpy(out)


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
