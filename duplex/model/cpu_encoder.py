"""The speech encoder's blocks packed for `cpu_kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duplex.model import cpu_kernels
from duplex.model.cpu_blocks import Float32, Matrices


class CpuEncoder:
    """Blocks whose keys carry the embedding of their distance to the query. Packed once; safe for several threads."""

    def __init__(self, blocks: Sequence[Any], positions: Tensor) -> None:
        """Of `positions` [distances, dim], the embeddings of all distances a key can have."""
        attention = [block.self_attn for block in blocks]
        forward = [block.feed_forward for block in blocks]
        triples = [(a.linear_q, a.linear_k, a.linear_v) for a in attention]
        self._qkv = Matrices.pack([torch.cat([layer.weight for layer in triple]) for triple in triples])
        self._qkv_bias = _stacked([torch.cat([layer.bias for layer in triple]) for triple in triples])
        self._output = Matrices.pack([a.linear_out.weight for a in attention])
        self._output_bias = _stacked([a.linear_out.bias for a in attention])
        self._wide = Matrices.pack([f.w_1.weight for f in forward])
        self._wide_bias = _stacked([f.w_1.bias for f in forward])
        self._narrow = Matrices.pack([f.w_2.weight for f in forward])
        self._narrow_bias = _stacked([f.w_2.bias for f in forward])
        self._first_norm = _stacked([torch.stack([b.norm1.weight, b.norm1.bias]) for b in blocks])
        self._second_norm = _stacked([torch.stack([b.norm2.weight, b.norm2.bias]) for b in blocks])
        self._content_bias = _stacked([a.pos_bias_u for a in attention])
        self._position_bias = _stacked([a.pos_bias_v for a in attention])
        self._positions = _stacked([a.split(a.linear_pos(positions[None]))[0] for a in attention])
        self._eps = np.float32(blocks[0].norm1.eps)

    def run(self, x: Tensor, keys: Tensor, values: Tensor, distances: Tensor) -> Tensor:
        """Frames x [streams, frames, dim] through all blocks.

        keys, values [blocks, streams, heads, places, head_dim]: the last `frames` places are written; distances
        [frames, places]: which row of the positions tells how far a key is from a frame.
        """
        out = np.array(x.flatten(0, 1).numpy(), np.float32, order="C")
        cpu_kernels.run_encoder_blocks(
            out,
            keys.numpy(),
            values.numpy(),
            distances.numpy(),
            self._positions,
            self._content_bias,
            self._position_bias,
            self._eps,
            self._first_norm,
            self._qkv.values,
            self._qkv.scales,
            self._qkv_bias,
            self._output.values,
            self._output.scales,
            self._output_bias,
            self._second_norm,
            self._wide.values,
            self._wide.scales,
            self._wide_bias,
            self._narrow.values,
            self._narrow.scales,
            self._narrow_bias,
        )
        return torch.from_numpy(out).view(x.shape)


def _stacked(tensors: Sequence[Tensor]) -> Float32:
    stacked: Float32 = torch.stack([tensor.detach() for tensor in tensors]).numpy()
    return stacked
