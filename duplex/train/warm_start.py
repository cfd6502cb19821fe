"""Begin a training with the weights of a finished checkpoint instead of random ones.

A part is taken over where its sizes are those of the preset, or where the preset has more blocks or wider feed-forwards in
LLM or encoder; a tokenizer or size that differs otherwise is an error that names it. What a checkpoint does not hold (CTC heads, optimizer states) starts fresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duplex.core.errors import CheckpointError
from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.model.speech_decoder import SpeechDecoder
from duplex.train.codec_stage import OPEN_STEPS, CodecTrainer
from duplex.train.ctc_stage import CtcModel
from duplex.train.listen_stage import ListenModel


class WarmStart:
    """The weights of the checkpoint in `folder`, copied into fresh modules. Raises CheckpointError where unfit."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "llm" / "tokenizer.json").is_file():
            raise CheckpointError(f"{folder} is no checkpoint to start from: it has no llm/tokenizer.json")
        self.folder = folder

    @cached_property
    def checkpoint(self) -> DuplexModel:
        """All of it, float32, on the CPU."""
        return load_checkpoint(self.folder, None)

    def text(self, model: Any) -> None:
        """The text LLM, float32. Where only the new one ties its embeddings, those that are read are kept.

        Layers that only the new one has begin by passing on what they get, wider feed-forwards with nothing of what is
        added.
        """
        weights = _grown(
            self.checkpoint.llm.model.state_dict(), model.state_dict(), ".layers.", ".mlp.", (".o_proj.", ".down_proj.")
        )
        if model.config.tie_word_embeddings:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        self._load(weights, model, "llm")

    def ctc(self, model: CtcModel) -> None:
        """The encoder; its CTC heads are fresh. Blocks that only the new one has and what is added to feed-forwards begin
        as in `text`.
        """
        old, new = self.checkpoint.encoder.state_dict(), model.encoder.state_dict()
        self._load(
            _grown(old, new, ".encoders.", ".feed_forward.", (".linear_out.", ".w_2.")), model.encoder, "encoder"
        )

    def listen(self, model: ListenModel) -> None:
        """Adapter, prompt embeddings and state head; the encoder is the ctc stage's. Cues that it lacks stay fresh."""
        weights = dict(self.checkpoint.adapter.state_dict())
        if not self.checkpoint.adapter.dims.cues:
            weights |= {name: value for name, value in model.adapter.state_dict().items() if name.startswith("cues.")}
        self._load(weights, model.adapter, "adapter")
        self._copy(self.checkpoint.state_head, model.state_head, "state head")
        with torch.no_grad():
            model.prompt_embeddings.copy_(self.checkpoint.prompt_embeddings)

    def codec(self, trainer: CodecTrainer) -> None:
        """Codec with its encoder; the codebook counts as found."""
        encoder = self.checkpoint.codec_encoder
        if encoder is None:
            raise CheckpointError(f"{self.folder} holds no codec encoder: its codec cannot be trained on")
        self._copy(encoder, trainer.encoder, "codec encoder")
        self._copy(self.checkpoint.codec.generator, trainer.generator, "codec decoder")
        self._copy(self.checkpoint.codec.quantizer, trainer.quantizer, "codebook")
        trainer.usage.fill_(1.0)
        trainer.sums.copy_(trainer.quantizer.codebook.embedding.weight)
        trainer.step.fill_(OPEN_STEPS)

    def decoder(self, decoder: SpeechDecoder) -> None:
        """The speech decoder. Where only the new one reads symbols, the parts that read text stay fresh."""
        weights = dict(self.checkpoint.speech_decoder.state_dict())
        if decoder.dims.symbols and not self.checkpoint.speech_decoder.dims.symbols:
            reading = ("symbol_", "layers_pre_nn.")
            weights |= {name: value for name, value in decoder.state_dict().items() if name.startswith(reading)}
        self._load(weights, decoder, "speech decoder")

    def _copy(self, source: nn.Module, target: nn.Module, part: str) -> None:
        self._load(source.state_dict(), target, part)

    def _load(self, weights: Mapping[str, Any], target: nn.Module, part: str) -> None:
        try:
            target.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{self.folder}: its {part} does not fit the preset: {error}") from error


def _grown(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], blocks: str, feed_forward: str, outputs: tuple[str, ...]
) -> dict[str, Tensor]:
    """Weights `old` in the sizes of `new`, which may have more blocks and wider feed-forwards: the same function.

    What is added has the fresh weights of `new`, but zeros where its output is written. `blocks`, `feed_forward`, `outputs`:
    parts of the names of weights in blocks, in their feed-forwards, and of those that write an output.
    """
    weights = dict(old)
    for name, fresh_weight in new.items():
        kept, writes = old.get(name), any(output in name for output in outputs)
        if kept is None and blocks in name:
            weights[name] = torch.zeros_like(fresh_weight) if writes else fresh_weight
        elif (
            kept is not None
            and feed_forward in name
            and all(a <= b for a, b in zip(kept.shape, fresh_weight.shape, strict=True))
        ):
            wide = torch.zeros_like(fresh_weight) if writes else fresh_weight.clone()
            wide[tuple(slice(size) for size in kept.shape)] = kept
            weights[name] = wide
    return weights
