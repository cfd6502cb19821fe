"""A small language model of Llama's kind on a CPU, all its blocks in one call (`cpu_kernels`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from duplex.model.caches import BranchPool
from duplex.model.cpu_blocks import BlockParts, CpuBlocks, Matrices, Rows, normed

LARGEST = 1_000_000_000  # weights; packed ones come on top of those that stay in the modules
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # whose angles do not depend on how long a sequence gets
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
ANGLES_BLOCK = 1024  # positions by which the table of angles grows


class CpuLlm:
    """The packed weights and the table of angles. Safe to call from several threads, on different branches."""

    def __init__(self, model: Any) -> None:
        """Raises ValueError where the model is of another kind, or too large to be held twice."""
        body, config = model.base_model, model.config
        weights = list(model.parameters())
        if any(weight.device.type != "cpu" or weight.dtype != torch.float32 for weight in weights):
            raise ValueError("not float32 on the CPU")
        if sum(weight.numel() for weight in weights) > LARGEST:
            raise ValueError("too large to be packed")
        rotation = getattr(config, "rope_parameters", None) or {}
        if getattr(config, "hidden_act", None) != "silu" or rotation.get("rope_type") not in FIXED_ROTATIONS:
            raise ValueError("not of Llama's kind")
        parts = [_parts(block) for block in body.layers]
        head: Any = model.get_output_embeddings()
        if head.bias is not None:
            raise ValueError("its head has a bias")
        self._eps = float(body.norm.variance_epsilon)
        self._blocks = CpuBlocks(
            parts, heads=config.num_attention_heads, eps=self._eps, scaling=body.layers[0].self_attn.scaling
        )
        self._norm: Tensor = body.norm.weight
        self._head = Matrices.pack([head.weight])
        self._rotary = body.rotary_emb
        self._angles = self._table(ANGLES_BLOCK)  # replaced whole, so that threads may share it

    def forward(self, pool: BranchPool, spans: Sequence[tuple[int, int, int]], embeds: Tensor) -> Tensor:
        """Append packed `embeds` [n, hidden] to slots of `pool`: (slot, positions there, new ones) of each sequence.

        Returns the last hidden states [n, hidden].
        """
        rows = Rows.causal(spans)
        cos, sin = self._angles
        if pool.max_length > len(cos):
            blocks = -(-pool.max_length // ANGLES_BLOCK)
            cos, sin = self._angles = self._table(blocks * ANGLES_BLOCK)
        places = torch.from_numpy(rows.places)
        out = self._blocks.run(embeds, rows, cos[places], sin[places], pool.k, pool.v)
        return normed(out, self._norm, self._eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of hidden states [..., hidden]."""
        out: Tensor = self._head.times(hidden.reshape(-1, hidden.shape[-1]))
        return out.reshape(*hidden.shape[:-1], -1)

    def _table(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, head_dim / 2], as the model itself computes them for both halves."""
        cos, sin = self._rotary(self._norm, torch.arange(positions)[None])
        half = cos.shape[-1] // 2
        return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()


def _parts(block: nn.Module) -> BlockParts:
    """The modules of one block. Raises ValueError where there are more or others than Llama's."""
    known = {f"self_attn.{name}.weight" for name in ATTENTION} | {f"mlp.{name}.weight" for name in FEED_FORWARD}
    known |= {f"{name}.weight" for name in NORMS}
    biases = {f"self_attn.{name}.bias" for name in ATTENTION[:3]}
    names = {name for name, _ in block.named_parameters()}
    if not known <= names or names - known - biases:
        raise ValueError("its blocks are not of Llama's kind")
    attention: Any = block.self_attn
    mlp: Any = block.mlp
    first, second = (getattr(block, name).weight for name in NORMS)
    q, k, v, o = (getattr(attention, name) for name in ATTENTION)
    gate, up, down = (getattr(mlp, name) for name in FEED_FORWARD)
    return BlockParts(first, q, k, v, o, second, gate, up, down)
