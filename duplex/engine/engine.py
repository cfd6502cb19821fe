"""The engine over a loaded checkpoint: every step of DESIGN.md's pipeline, batched, on torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from duplex.audio import features as fbank
from duplex.audio.vad import VadModel
from duplex.core.config import SessionConfig
from duplex.core.spoken import as_heard
from duplex.core.types import SamplingParams
from duplex.core.verdict import decide
from duplex.engine.failures import attempt, batched, restored_on_error
from duplex.engine.speaking import SpeechSynthesizer
from duplex.engine.states import TorchHearState, TorchReplyState
from duplex.engine.steps import (
    EngineFacts,
    HearResult,
    HearState,
    HearStep,
    ListenResult,
    ListenStep,
    PrefillResult,
    PrefillStep,
    ReplyResult,
    ReplyStep,
    SpeakResult,
    SpeakStep,
    SpeechState,
    StepFailure,
)
from duplex.engine.trace import Trace
from duplex.engine.writing import TextWriter
from duplex.model.adapter import as_pieces
from duplex.model.caches import BranchPool, StreamCaches
from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.model.sampling import TextSampler
from duplex.model.segmenter import TextSegmenter

PLAIN = SessionConfig()  # the state head's word as it is
STATE_CLASSES = 3  # the head's other logits take no part in the decision (quirk 6)


class TorchEngine:
    """Stateless work over branches; holds weights and the slots, never a conversation.

    Thread-safe as the Engine protocol asks: torch modules are only read, and each branch or state belongs to one
    step at a time.
    """

    def __init__(self, model: DuplexModel, slots: int, max_length: int, *, trace: Trace | None = None) -> None:
        self.model = model
        self.llm = model.llm
        self.branches: BranchPool = self.llm.new_pool(slots, max_length)
        self.trace = trace
        self._vad = VadModel()
        self._device = self.llm.device
        self._text = TextWriter(model, self.branches, trace)
        self._speech = SpeechSynthesizer(model)
        with torch.inference_mode():
            prefix = self.llm.embed(model.chat.prefix)
            self._turn_opening = torch.cat([prefix, model.prompt_embeddings.to(self.llm.dtype)])
        self.facts = EngineFacts(
            input_sample_rate=fbank.SAMPLE_RATE,
            chunk_samples=fbank.CHUNK_SAMPLES,
            output_sample_rate=model.codec.sample_rate,
            samples_per_codec_token=model.codec.samples_per_token,
            feature_shape=(fbank.CHUNK_FRAMES, fbank.MEL_BINS),
            max_length=max_length,
            checkpoint=str(model.folder),
            tells_interruptions=model.interruption_class is not None,
        )

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        llm: Path | None = None,
        device: str = "cpu",
        slots: int = 8,
        max_length: int = 2048,
        *,
        trace: Trace | None = None,
    ) -> TorchEngine:
        """Load a checkpoint folder; float32 on CPU, bfloat16 elsewhere. Raises CheckpointError."""
        dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
        model = load_checkpoint(checkpoint, llm, device=device, dtype=dtype)
        return cls(model, slots, max_length, trace=trace)

    def new_hear_state(self) -> HearState:
        """A microphone that has heard nothing yet."""
        return TorchHearState()

    def new_reply_state(
        self, sampling: SamplingParams, forced_text: str | None = None, *, offline: bool = False
    ) -> TorchReplyState:
        """State for one reply; `offline` splits text as the reference's offline driver does (fixture quirk 19)."""
        return TorchReplyState(
            sampler=TextSampler(sampling),
            segmenter=TextSegmenter(self.llm.tokenizer, offline=offline),
            max_tokens=sampling.max_text_tokens,
            forced=None if forced_text is None else self._text.tokens_of(forced_text),
        )

    def new_speech_state(self, sampling: SamplingParams) -> SpeechState:
        """State for speaking one reply."""
        return self._speech.new_state(sampling)

    def hear(self, steps: Sequence[HearStep]) -> list[HearResult | StepFailure]:
        """Features and speech probabilities of one chunk of each microphone."""
        return batched(steps, self._hear)

    def prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult | StepFailure]:
        """Text into branches."""
        return batched(steps, self._prefill)

    def listen(self, steps: Sequence[ListenStep]) -> list[ListenResult | StepFailure]:
        """One chunk of audio into each branch, and the state head's verdict."""
        return batched(steps, self._listen)

    def reply(self, steps: Sequence[ReplyStep]) -> list[ReplyResult | StepFailure]:
        """A few more text tokens of each reply."""
        return self._text.write(steps)

    def speak(self, steps: Sequence[SpeakStep]) -> list[SpeakResult | StepFailure]:
        """Each segment a little further."""
        return [attempt(self._speech.speak, step) for step in steps]

    @torch.inference_mode()
    def _hear(self, steps: Sequence[HearStep]) -> list[HearResult]:
        states = [cast(TorchHearState, step.state) for step in steps]
        pcm = torch.stack([torch.from_numpy(step.pcm) for step in steps])
        vads, streams = [state.vad.copy() for state in states], [state.fbank.copy() for state in states]
        loudness = [state.loudness.copy() for state in states]
        probs = self._vad.probs(vads, np.stack([of.raised(step.pcm) for of, step in zip(loudness, steps, strict=True)]))
        features = fbank.push_batch(streams, pcm)
        for state, vad, stream, level in zip(states, vads, streams, loudness, strict=True):
            state.vad, state.fbank, state.loudness = vad, stream, level
        return [HearResult(row, tuple(float(p) for p in speech)) for row, speech in zip(features, probs, strict=True)]

    @torch.inference_mode()
    def _prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult]:
        chat = self.model.chat
        written = []
        for step in steps:
            if step.role == "system":
                ids = chat.system(self.llm.escaped(step.text))
            elif step.role == "user":
                text = as_heard(step.text) if self.model.typed_as_heard else step.text
                ids = [*chat.prefix, *self.llm.encode(self.llm.escaped(text))]
            else:
                raise ValueError(f"prefill role {step.role!r} is neither 'system' nor 'user'")
            written.append(ids)
            self.branches.require(step.branch, len(ids))
        rows = [self.llm.embed(ids) for ids in written]
        hidden = self.llm.forward(self.branches, [step.branch for step in steps], rows)
        for step, ids, row, out in zip(steps, written, rows, hidden, strict=True):
            step.branch.stream = StreamCaches()
            if self.trace is not None and step.role == "system":
                self.trace.add("system_token_ids!", torch.tensor(ids))
                self.trace.add("system_llm_in!", row)
                self.trace.add("system_llm_out!", out)
                self.trace.add("system_state_logits!", self.model.state_head(out[-1]))
        return [PrefillResult(step.branch.length) for step in steps]

    @torch.inference_mode()
    def _listen(self, steps: Sequence[ListenStep]) -> list[ListenResult]:
        positions = self.model.encoder.dims.chunk // 2
        for step in steps:
            opening = len(self._turn_opening) if step.first else 0
            self.branches.require(step.branch, opening + positions)
        caches = [StreamCaches() if step.first else step.branch.stream.copy() for step in steps]
        words_over: list[float] | list[None] = [None] * len(steps)
        chunk = torch.stack([step.features for step in steps]).to(self._device, self.llm.dtype)
        encoded = self.model.encoder.chunk(chunk, caches)
        adapted, cues = self.model.adapter.split(self.model.adapter.chunk(encoded, caches))
        if pieces := self.model.adapter.dims.pieces:
            weights = adapted[..., :pieces]
            adapted = as_pieces(adapted, cast(Tensor, self.model.llm.embedding.weight))
            if (search := self.model.word_search) is not None:
                for cache, further in zip(caches, search.advance([c.hypotheses for c in caches], weights), strict=True):
                    cache.hypotheses = further
                words_over = [search.boundary_probability(cache.hypotheses) for cache in caches]
        rows = [
            torch.cat([self._turn_opening, row]) if step.first else row
            for step, row in zip(steps, adapted, strict=True)
        ]
        branches = [step.branch for step in steps]
        with restored_on_error(branches):
            hidden = self.llm.forward(self.branches, branches, rows)
            logits = self.model.state_head(torch.stack([h[-1] for h in hidden])).float()
            if self.model.adapter.dims.cues:
                logits = logits + cues[:, -1].float()
        for step, cache in zip(steps, caches, strict=True):
            step.branch.stream = cache
        probs = torch.softmax(logits[:, :STATE_CLASSES], dim=-1)
        taking: list[float] | list[None] = [None] * len(steps)
        if (index := self.model.interruption_class) is not None:
            taking = torch.sigmoid(logits[:, index]).tolist()
        heard = [
            ListenResult(_triple(p), decide(_triple(p), PLAIN), step.branch.length, interruption, over)
            for p, step, interruption, over in zip(probs, steps, taking, words_over, strict=True)
        ]
        if self.trace is not None:
            for i, (step, result) in enumerate(zip(steps, heard, strict=True)):
                self.trace.listened(step.features, encoded[i], adapted[i], rows[i])
                self.trace.decided(hidden[i][-1], logits[i], probs[i], result.decision)
                self.trace.caches(step.branch.length, step.branch.stream)
        return heard


def _triple(row: Tensor) -> tuple[float, float, float]:
    a, b, c = row.tolist()
    return a, b, c
