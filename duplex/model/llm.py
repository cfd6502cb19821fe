"""The text LLM: a Hugging Face causal LM, run over slots of a BranchPool.

Any will do whose attention goes through transformers' attention interface: `load` tries it out and refuses others.

Sequences of different lengths run as one ragged batch: their new positions lie packed behind one another on the
time axis, so every linear layer sees one matrix, and the attention hook attends each sequence to its own slot.
Keys and values are written once into the slot and read back as views: nothing is copied per token.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.core.errors import CheckpointError
from duplex.model.caches import Branch, BranchPool
from duplex.model.cpu_llm import CpuLlm

log = logging.getLogger(__name__)

ATTENTION_NAME = "duplex"
PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
TRIAL_TOKENS = 5
TRIAL_TOLERANCE = 0.1  # of the logits' norm: bfloat16 rounds to a few hundredths, another scale is far off
PACKED_TOLERANCE = 1e-3  # the same of float32


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a Hugging Face directory.

    One that declares itself a plain tokenizer.json is read as such: AutoTokenizer would go by the model type in
    config.json and rebuild, say, a SentencePiece tokenizer beside a Qwen2 as a byte-level one.
    Raises OSError, ValueError.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    declared = folder / "tokenizer_config.json"
    kind = json.loads(declared.read_text(encoding="utf-8")).get("tokenizer_class") if declared.is_file() else None
    plain = kind in PLAIN_TOKENIZERS and (folder / "tokenizer.json").is_file()
    read: Any = PreTrainedTokenizerFast.from_pretrained if plain else AutoTokenizer.from_pretrained
    return (
        read(folder, local_files_only=True) if plain else read(folder, local_files_only=True, trust_remote_code=False)
    )


@dataclass(frozen=True)
class PackedBatch:
    """Where each packed sequence's keys and values go: (slot, positions already there, new positions)."""

    pool: BranchPool
    spans: tuple[tuple[int, int, int], ...]
    masks: tuple[Tensor | None, ...]


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    duplex_batch: PackedBatch | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention hook for transformers: query [1, heads, positions, head_dim], key and value with kv_heads.

    Returns [1, positions, heads, head_dim]. Without a batch it is plain causal attention. Raises ValueError where
    scores are to be capped (`softcap`) or to share their softmax with a sink (`s_aux`).
    """
    if softcap is not None or s_aux is not None:
        raise ValueError("capped attention scores and attention sinks are not supported")
    if duplex_batch is None:
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            is_causal=attention_mask is None,
            scale=scaling,
            enable_gqa=True,
        )
        return out.transpose(1, 2), None
    layer: int = module.layer_idx  # type: ignore[assignment]
    cache_k, cache_v = duplex_batch.pool.k[layer], duplex_batch.pool.v[layer]
    outputs: list[Tensor] = []
    offset = 0
    for (slot, start, count), mask in zip(duplex_batch.spans, duplex_batch.masks, strict=True):
        here, end = slice(offset, offset + count), start + count
        cache_k[slot, :, start:end] = key[0, :, here]
        cache_v[slot, :, start:end] = value[0, :, here]
        keys, values = cache_k[slot : slot + 1, :, :end], cache_v[slot : slot + 1, :, :end]
        asked = query[:, :, here]
        if count == 1:
            # The queries of one group stand where query positions would: one kernel call without repeating keys.
            grouped = asked.reshape(1, keys.shape[1], -1, asked.shape[3])
            attended = F.scaled_dot_product_attention(grouped, keys, values, scale=scaling).reshape(asked.shape)
        else:
            attended = F.scaled_dot_product_attention(
                asked, keys, values, attn_mask=mask, scale=scaling, enable_gqa=True
            )
        outputs.append(attended)
        offset += count
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return joined.transpose(1, 2), None


class CausalLanguageModel:
    """A frozen causal LM with its tokenizer, run on branches."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        special = {re.escape(token) for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1}
        # The first character of each, so that of overlapping ones none is missed; (?!) matches nothing.
        self._special = re.compile(f"(?={'|'.join(sorted(special)) or '(?!)'}).", re.DOTALL)
        config = model.config
        self.hidden_size: int = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.body = model.base_model
        self.embedding: nn.Module = model.get_input_embeddings()
        self.head: nn.Module = model.get_output_embeddings()
        self._packed: CpuLlm | None = None

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32, packed: bool = True
    ) -> CausalLanguageModel:
        """Load a Hugging Face directory strictly; `packed` for `cpu_kernels` as well, where these can run it.

        Raises CheckpointError naming what is missing or unexpected, or the architecture that cannot be run here.
        """
        from transformers import AttentionInterface, AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging

        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} has no config.json: not a Hugging Face model directory")
        AttentionInterface.register(ATTENTION_NAME, slot_attention)
        quiet: Any = transformers_logging.disable_progress_bar
        quiet()
        read: Any = AutoModelForCausalLM.from_pretrained  # its annotation knows nothing of output_loading_info
        try:
            model, report = read(
                folder,
                dtype=dtype,
                attn_implementation=ATTENTION_NAME,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
            tokenizer = load_tokenizer(folder)
        except (OSError, ValueError, RuntimeError, KeyError) as error:  # KeyError: it looks up its own attention
            raise CheckpointError(f"the language model in {folder} cannot be read: {error}") from error
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            names = sorted(str(name) for name in report.get(kind) or ())
            if names:
                raise CheckpointError(f"{folder}: {kind.replace('_', ' ')}: {', '.join(names[:5])}")
        model = model.to(device)
        try:
            llm = cls(model, tokenizer)
            llm._try_out(packed=packed)
        except Exception as error:  # whatever a foreign architecture stumbles over
            name = type(model).__name__
            raise CheckpointError(f"{folder}: {name} cannot be run on our attention hook and cache: {error}") from error
        return llm

    @torch.no_grad()
    def _try_out(self, *, packed: bool) -> None:
        """A few tokens through our cache, as transformers itself runs them: `packed` where that agrees with it, or else
        through our hook. Raises ValueError otherwise.
        """
        ids = list(range(TRIAL_TOKENS))
        self.model.set_attn_implementation("eager")
        theirs = self.model(torch.tensor([ids], device=self.device), use_cache=False).logits[0].float()
        self.model.set_attn_implementation(ATTENTION_NAME)
        if packed:
            try:
                self._packed = CpuLlm(self.model)
            except (ValueError, AttributeError) as error:  # another kind of model
                log.debug("the language model runs by its own modules", extra={"cause": str(error)})
            else:
                if _apart(self._trial(ids), theirs) <= PACKED_TOLERANCE:
                    return
                self._packed = None
        if _apart(self._trial(ids), theirs) > TRIAL_TOLERANCE:
            raise ValueError("its logits differ from those that transformers computes")

    def _trial(self, ids: list[int]) -> Tensor:
        pool = self.new_pool(1, len(ids))
        branch = pool.acquire()
        pieces = [self.forward(pool, [branch], [self.embed(part)])[0] for part in (ids[:-1], ids[-1:])]
        if not all(bool(keys.any()) for keys in pool.k):
            raise ValueError("not every layer keeps keys and values through the attention interface")
        return self.logits(torch.cat(pieces))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return self.embedding.weight.dtype  # type: ignore[return-value]

    def new_pool(self, slots: int, max_length: int) -> BranchPool:
        """Preallocated KV slots of this model's shape.

        Raises CheckpointError when they are longer than what our slots stand for: a sliding window forgets what a slot
        keeps, and learned positions end with their table (rotary ones do not).
        """
        config = self.model.config
        window = getattr(config, "sliding_window", None)
        table = None if getattr(config, "rope_parameters", None) else getattr(config, "max_position_embeddings", None)
        longest = min((limit for limit in (window, table) if limit is not None), default=max_length)
        if max_length > longest:
            raise CheckpointError(
                f"{type(self.model).__name__} attends over {longest} tokens at most, so a conversation cannot hold "
                f"{max_length} (--max-length)"
            )
        return BranchPool(
            slots=slots,
            max_length=max_length,
            layers=self.layers,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            dtype=self.dtype,
            device=self.device,
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens in it recognised, none added. A user's text goes through `escaped`."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_parts(self, text: str) -> list[tuple[int, str]]:
        """Token ids of `text`, as `encode` has them, each with its part of the text, also where the vocabulary lacks it.

        A character of several tokens is the first one's. All parts together are the text.
        """
        if not self.tokenizer.is_fast:
            return [(token, self.tokenizer.decode([token])) for token in self.encode(text)]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [int(end) for _, end in encoded["offset_mapping"]]
        starts = [0, *ends[:-1]]
        ends[-1:] = [len(text)] if ends else []
        return [(token, text[start:end]) for token, start, end in zip(encoded["input_ids"], starts, ends, strict=True)]

    def escaped(self, text: str) -> str:
        """A user's text with a space inside whatever `encode` would take for a special token, as for "<|im_end|>".

        Not by `split_special_tokens`: that is a switch of the tokenizer which all threads share, and it knows no
        exception for tokens of one character, such as a line break that is in the vocabulary only as a special token.
        """
        return self._special.sub(r"\g<0> ", text)

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Embeddings [tokens, hidden]."""
        ids = torch.tensor(list(token_ids), dtype=torch.long, device=self.device)
        out: Tensor = self.embedding(ids)
        return out

    def forward(self, pool: BranchPool, branches: Sequence[Branch], embeds: Sequence[Tensor]) -> list[Tensor]:
        """Append `embeds[i]` [n_i, hidden] to `branches[i]`; returns the last hidden states [n_i, hidden] of each.

        Raises BranchOverflowError before anything is changed when a branch would outgrow its slot.
        """
        for branch, embed in zip(branches, embeds, strict=True):
            pool.require(branch, embed.shape[0])
        spans = tuple((b.slot, b.length, e.shape[0]) for b, e in zip(branches, embeds, strict=True))
        packed = embeds[0] if len(embeds) == 1 else torch.cat(list(embeds))
        run = self._run if self._packed is None else self._packed.forward
        hidden = run(pool, spans, packed)
        for branch, embed in zip(branches, embeds, strict=True):
            branch.length += embed.shape[0]
        return list(torch.split(hidden, [e.shape[0] for e in embeds]))

    def _run(self, pool: BranchPool, spans: Sequence[tuple[int, int, int]], packed: Tensor) -> Tensor:
        """Packed rows [n, hidden] through the model's own modules."""
        masks = tuple(self._mask(start, count) for _, start, count in spans)
        positions = torch.cat([torch.arange(s, s + n, device=self.device) for _, s, n in spans])
        hidden: Tensor = self.body(
            inputs_embeds=packed[None].to(self.dtype),
            position_ids=positions[None],
            attention_mask=None,
            use_cache=False,
            duplex_batch=PackedBatch(pool, tuple(spans), masks),
        ).last_hidden_state[0]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of hidden states [..., hidden], float32."""
        if self._packed is not None:
            return self._packed.logits(hidden)
        out: Tensor = self.head(hidden)
        return out.float()

    def _mask(self, start: int, count: int) -> Tensor | None:
        """Boolean mask [count, start + count] for new positions behind `start` old ones; None where all is visible."""
        if count == 1:
            return None
        keys = torch.arange(start + count, device=self.device)
        return keys[None, :] <= keys[start:, None]


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """How far apart logits are, as a share of their norm."""
    return float((ours - theirs).norm() / theirs.norm())
