"""Autoregressive speech decoder: LLM text and hidden states in, codec tokens out (Freeze-Omni, arXiv 2411.00774).

Three stacks of Llama blocks (RMSNorm, RoPE, SwiGLU): a bidirectional pre-network over text embeddings, a KV-prefix
stack that turns the LLM's hidden states into keys and values, and the autoregressive stack that writes codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.model.caches import NOTHING
from duplex.model.cpu_blocks import BlockParts, CpuBlocks, Matrices, Rows, normed
from duplex.model.lexicon import Lexicon

RMS_EPS = 1e-6
ROPE_THETA = 10000.0
SPECIAL_TOKENS = 4  # bos, sos, eos, pad = V .. V+3 (fixture quirk 10)
CACHE_BLOCK = 256  # positions by which a growing key/value buffer is extended
BEFORE, PREFIX, MAIN = "layers_pre_nn", "layers_prefix", "layers"  # the stacks, by their names in checkpoints
CODES_PER_SYMBOL = 2.5  # before a corpus tells: English at 40 codes a second


@dataclass(frozen=True)
class SpeechDecoderDims:
    """Sizes of the speech decoder. `codes` is the codebook size, without the four special tokens.

    symbols: the text comes as so many symbols of a lexicon, bytes and phones, through an embedding of the decoder's own
    (ours); 0: as the LLM's embeddings of its tokens (official).
    """

    dim: int
    heads: int
    feed_forward: int
    blocks: int
    codes: int
    prefix: bool = True
    symbols: int = 0

    @property
    def bos(self) -> int:
        """Token id that opens the text part."""
        return self.codes

    @property
    def sos(self) -> int:
        """Token id that opens the code part."""
        return self.codes + 1

    @property
    def eos(self) -> int:
        """Token id that ends the code part."""
        return self.codes + 2


class RmsNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, RMS_EPS)


# Rows [..., t, dim], and their positions [..., t] where they have some of their own.
Text = tuple[Tensor, Tensor | None]
Rotation = tuple[Tensor, Tensor]  # cosines and sines, [n, d / 2] or [batch, 1, n, d / 2]; the same for all blocks


def rotation(positions: Tensor, head_dim: int, dtype: torch.dtype) -> Rotation:
    """Angles of the rotary embedding (arXiv 2104.09864) at positions [n] or [batch, n]."""
    half = head_dim // 2
    rate = ROPE_THETA ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angle = positions[..., None].float() * rate
    if angle.dim() == 3:
        angle = angle[:, None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rope(x: Tensor, turned: Rotation) -> Tensor:
    """Rotary embedding, halves convention: x [batch, heads, n, d]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = turned[0].to(x.dtype), turned[1].to(x.dtype)  # under autocast x is narrower than the weights
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Projections(nn.Module):
    """The four projections of attention, without biases."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)


class SwiGlu(nn.Module):
    """Gated feed-forward (arXiv 2002.05202)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, width, bias=False)
        self.up_proj = nn.Linear(dim, width, bias=False)
        self.down_proj = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class LlamaBlock(nn.Module):
    """One block; the caller owns keys and values."""

    def __init__(self, dims: SpeechDecoderDims) -> None:
        super().__init__()
        dim = dims.dim
        self.heads = dims.heads
        self.self_attn = Projections(dim)
        self.mlp = SwiGlu(dim, dims.feed_forward)
        self.input_layernorm = RmsNorm(dim)
        self.post_attention_layernorm = RmsNorm(dim)

    def qkv(self, x: Tensor, turned: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, each [batch, heads, n, head_dim]."""
        normed = self.input_layernorm(x)
        projections = self.self_attn
        queries_and_keys = torch.cat([projections.q_proj(normed), projections.k_proj(normed)], dim=-1)
        q, k = rope(self._by_head(queries_and_keys, 2 * self.heads), turned).chunk(2, dim=1)
        return q, k, self._by_head(projections.v_proj(normed), self.heads)

    def parts(self) -> BlockParts:
        """What the block is made of."""
        attention, mlp = self.self_attn, self.mlp
        return BlockParts(
            self.input_layernorm.weight,
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
            self.post_attention_layernorm.weight,
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
        )

    @staticmethod
    def _by_head(x: Tensor, heads: int) -> Tensor:
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def finish(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of q over k, v, then the feed-forward, both residual."""
        if mask is None or q.is_cuda:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:  # in training on a CPU, where the fused kernel's gradient is slow
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            attended = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1).to(v.dtype) @ v
        x = x + self.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class SpeechCache:
    """Keys and values of one segment being spoken, `k`, `v`: [blocks, 1, heads, capacity, head_dim]; grows in blocks."""

    def __init__(self) -> None:
        self.k = self.v = NOTHING
        self.length = 0
        self.prefix_length = 0
        self.origin = 0  # the length at which position 0 stands

    def reserve(self, blocks: int, heads: int, new: int, like: Tensor) -> None:
        """Make room for `new` positions behind `length`, of the type and on the device of `like` [..., dim]."""
        end = self.length + new
        if not self.k.numel():
            shape = (blocks, 1, heads, end + CACHE_BLOCK, like.shape[-1] // heads)
            self.k, self.v = like.new_empty(shape), like.new_empty(shape)
        elif end > self.k.shape[3]:
            grow = (0, 0, 0, end + CACHE_BLOCK - self.k.shape[3])
            self.k, self.v = F.pad(self.k, grow), F.pad(self.v, grow)

    def put(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind `length` and return views of everything so far."""
        end = self.length + k.shape[2]
        self.k[block, :, :, self.length : end] = k
        self.v[block, :, :, self.length : end] = v
        return self.k[block, :, :, :end], self.v[block, :, :, :end]


class _Packed:
    """The decoder's weights as `cpu_kernels` takes them."""

    def __init__(self, decoder: SpeechDecoder) -> None:
        dims = decoder.dims
        self.stacks = {
            stack: CpuBlocks(
                [block.parts() for block in _blocks(blocks)],
                heads=dims.heads,
                eps=RMS_EPS,
                scaling=(dims.dim // dims.heads) ** -0.5,
            )
            for stack in (BEFORE, PREFIX, MAIN)
            if (blocks := getattr(decoder, stack, None))
        }
        self._norm, self._bias = decoder.norm.weight, decoder.out_fnn.bias
        self._out = Matrices.pack([decoder.out_fnn.weight])

    def logits(self, out: Tensor) -> Tensor:
        """Of one row [dim] behind the blocks: [codes + 4]."""
        return self._out.times(normed(out[None], self._norm, RMS_EPS))[0] + self._bias


class SpeechDecoder(nn.Module):
    """The decoder as one streaming state machine (`begin`, `step`) and one teacher-forced pass (`forward`).

    lexicon: how text becomes symbols, of a decoder that reads them. symbol_codes [symbols]: how many codes each lasts,
    about. A symbol stands where it is expected to be said, so that a code finds it beside it.
    """

    symbol_codes: Tensor

    def __init__(self, dims: SpeechDecoderDims, lexicon: Lexicon | None = None) -> None:
        super().__init__()
        self.dims = dims
        self.lexicon = lexicon or Lexicon()
        if dims.symbols not in (0, self.lexicon.symbols):
            raise ValueError(f"the speech decoder reads {dims.symbols} symbols, its lexicon has {self.lexicon.symbols}")
        tokens = dims.codes + SPECIAL_TOKENS
        self.embedding = nn.Embedding(tokens, dims.dim)
        self.layers_pre_nn = nn.ModuleList(LlamaBlock(dims) for _ in range(dims.blocks // 2))
        self.layers = nn.ModuleList(LlamaBlock(dims) for _ in range(dims.blocks))
        self.norm = RmsNorm(dims.dim)
        self.out_fnn = nn.Linear(dims.dim, tokens)
        if dims.prefix:
            self.layers_prefix = nn.ModuleList(LlamaBlock(dims) for _ in range(dims.blocks))
        if dims.symbols:
            self.symbol_embedding = nn.Embedding(dims.symbols, dims.dim)
            self.register_buffer("symbol_codes", torch.full((dims.symbols,), CODES_PER_SYMBOL))
        self._angles: Rotation | None = None  # replaced whole, so that threads may share it
        self._packed: _Packed | None = None

    def pack(self) -> None:
        """Stream by `cpu_kernels` from now on, with the weights as they are now: float32 on the CPU."""
        self._packed = _Packed(self)

    def split(self, llm_rows: Tensor) -> Tensor:
        """LLM vectors [..., n, llm_dim] as decoder positions [..., n * llm_dim / dim, dim] (quirk 9)."""
        return llm_rows.reshape(*llm_rows.shape[:-2], -1, self.dims.dim)

    def read(self, ids: Tensor, embed: Callable[[Tensor], Tensor]) -> Text:
        """Symbols [..., n], or the LLM's tokens with its embedding `embed`, as the decoder takes them."""
        if self.dims.symbols:
            lasting = self.symbol_codes[ids].float()
            return self.symbol_embedding(ids), lasting.cumsum(-1) - lasting / 2
        return self.split(embed(ids).to(self.embedding.weight.dtype)), None

    def _rotation(self, positions: Tensor) -> Rotation:
        return rotation(positions, self.dims.dim // self.dims.heads, self.embedding.weight.dtype)

    def _rotation_at(self, first: int, count: int) -> Rotation:
        """Angles of the positions from `first`, from a table that grows in blocks."""
        device, dtype = self.embedding.weight.device, self.embedding.weight.dtype
        table = self._angles
        if table is None or first + count > len(table[0]) or table[0].device != device or table[0].dtype != dtype:
            blocks = -(-(first + count) // CACHE_BLOCK)
            table = self._angles = self._rotation(torch.arange(blocks * CACHE_BLOCK, device=device))
        return table[0][first : first + count], table[1][first : first + count]

    def pre_network(self, text: Tensor, mask: Tensor | None = None) -> Tensor:
        """Bidirectional blocks over text positions [batch, n, dim]."""
        turned = self._rotation(torch.arange(text.shape[1], device=text.device))
        for block in _blocks(self.layers_pre_nn):
            q, k, v = block.qkv(text, turned)
            text = block.finish(text, q, k, v, mask)
        return text

    def begin(self, text: Tensor, prefix: Tensor | None, places: Tensor | None = None) -> tuple[SpeechCache, Tensor]:
        """Open a segment: text [1, t, dim] and places [t] of `read`, prefix [1, p, dim] (split LLM rows; p may be 0).

        Returns the filled cache and the prefill's output [1, t + 1, dim]. Positions restart at 0 after the prefix,
        and [bos, text] attends without a mask (quirk 10). Codes go on behind the text, or where it has places of its
        own, beside it from 0 on.
        """
        cache = SpeechCache()
        if prefix is not None and self.dims.prefix:
            self._run(PREFIX, prefix, cache, self._rotation_at(0, prefix.shape[1]))
            cache.prefix_length = cache.origin = cache.length
        bos = self.embedding.weight[self.dims.bos].expand(1, 1, -1)
        written = self._run(BEFORE, text, SpeechCache(), self._rotation_at(0, text.shape[1]))
        x = torch.cat([bos, written], dim=1)
        if places is None:
            return cache, self._run(MAIN, x, cache, self._rotation_at(0, x.shape[1]))
        out = self._run(MAIN, x, cache, self._rotation(F.pad(places, (1, 0))))
        cache.origin = cache.length
        return cache, out

    def step(self, token: int, cache: SpeechCache) -> Tensor:
        """Logits [codes + 4] of the next code after `token` (sos first)."""
        x = self.embedding.weight[token].view(1, 1, -1)
        turned = self._rotation_at(cache.length - cache.origin, 1)
        out = self._run(MAIN, x, cache, turned)[0, 0]
        if self._packed is not None:
            return self._packed.logits(out)
        logits: Tensor = self.out_fnn(self.norm(out))
        return logits

    def _run(self, stack: str, x: Tensor, cache: SpeechCache, turned: Rotation) -> Tensor:
        """Rows x [1, n, dim] through a stack's blocks: they see all that is in the cache, and one another."""
        blocks: nn.ModuleList = getattr(self, stack)
        start, count = cache.length, x.shape[1]
        if not blocks or not count:
            return x
        cache.reserve(len(blocks), self.dims.heads, count, x)
        if self._packed is not None:
            rows = Rows.mutual(start, count)
            x = self._packed.stacks[stack].run(x[0], rows, *turned, cache.k, cache.v)[None]
        else:
            for index, block in enumerate(_blocks(blocks)):
                q, k, v = block.qkv(x, turned)
                x = block.finish(x, q, *cache.put(index, k, v))
        cache.length += count
        return x

    def forward(
        self,
        text: Tensor,
        text_lengths: Tensor,
        prefix: Tensor,
        prefix_lengths: Tensor,
        codes: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits [batch, c + 1, codes + 4] for padded batches.

        text [batch, t, dim] and places [batch, t] of `read`, prefix [batch, p, dim] (split LLM rows), codes [batch, c],
        any padding; row j of the output predicts code j, the last row the end.
        """
        device = text.device
        batch, t = text.shape[:2]
        p = prefix.shape[1]
        text_ok = torch.arange(t, device=device)[None] < text_lengths[:, None]
        prefix_ok = torch.arange(p, device=device)[None] < prefix_lengths[:, None]
        written = self.pre_network(text, text_ok[:, None, None, :])
        start = self.embedding.weight[[self.dims.bos]].expand(batch, 1, -1)
        sos = codes.new_full((batch, 1), self.dims.sos)
        code_rows = self.embedding(torch.cat([sos, codes], dim=1))
        x = torch.cat([start, written, code_rows], dim=1)
        c = code_rows.shape[1]
        if places is None:
            text_positions = torch.arange(t + 1, device=device)[None].expand(batch, -1)
            code_positions = text_lengths[:, None] + 1 + torch.arange(c, device=device)[None]
        else:
            text_positions = F.pad(places, (1, 0))
            code_positions = torch.arange(c, device=device)[None].expand(batch, -1)
        positions = torch.cat([text_positions, code_positions], dim=1)
        text_seen = F.pad(text_ok, (1, 0), value=True)
        visible_prefix = prefix_ok[:, None, :].expand(-1, t + 1 + c, -1)
        visible_text = text_seen[:, None, :].expand(-1, t + 1 + c, -1)
        causal = torch.ones(c, c, dtype=torch.bool, device=device).tril()
        visible_codes = F.pad(causal, (0, 0, t + 1, 0))[None].expand(batch, -1, -1)
        mask = torch.cat([visible_prefix, visible_text, visible_codes], dim=2)[:, None]
        prefix_mask = prefix_ok[:, None, None, :]
        prefix_turned, turned = self._rotation(torch.arange(p, device=device)), self._rotation(positions)
        y = prefix
        for before, block in zip(_blocks(self.layers_prefix), _blocks(self.layers), strict=True):
            pq, pk, pv = before.qkv(y, prefix_turned)
            y = before.finish(y, pq, pk, pv, prefix_mask)
            q, k, v = block.qkv(x, turned)
            x = block.finish(x, q, torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2), mask)
        out: Tensor = self.out_fnn(self.norm(x[:, t + 1 :]))
        return out


def _blocks(layers: nn.ModuleList) -> Iterator[LlamaBlock]:
    return (cast(LlamaBlock, layer) for layer in layers)
