"""The engine over a loaded checkpoint: every step of DESIGN.md's pipeline, batched, on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from duplex.audio import features as fbank
from duplex.audio.vad import VadModel
from duplex.core.config import SessionConfig
from duplex.core.types import SamplingParams
from duplex.core.verdict import decide
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
from duplex.model.adapter import as_pieces
from duplex.model.caches import BranchPool, StreamCaches
from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.model.sampling import TextSampler
from duplex.model.segmenter import Segment, TextSegmenter

PLAIN = SessionConfig()  # the state head's word as it is
STATE_CLASSES = 3  # the head's other logits take no part in the decision (quirk 6)

S = TypeVar("S")
R = TypeVar("R")


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
        self._speech = SpeechSynthesizer(model)
        with torch.inference_mode():
            chat = model.chat
            opening = torch.cat([self.llm.embed(chat.prefix), model.prompt_embeddings.to(self.llm.dtype)])
            self._turn_opening, self._suffix = opening, self.llm.embed(chat.suffix)
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
        forced = None
        if forced_text is not None:
            forced = [*self.llm.encode(forced_text), self.model.chat.end_of_turn]
        return TorchReplyState(
            sampler=TextSampler(sampling),
            segmenter=TextSegmenter(self.llm.tokenizer, offline=offline),
            max_tokens=sampling.max_text_tokens,
            forced=forced,
        )

    def new_speech_state(self, sampling: SamplingParams) -> SpeechState:
        """State for speaking one reply."""
        return self._speech.new_state(sampling)

    def hear(self, steps: Sequence[HearStep]) -> list[HearResult | StepFailure]:
        """Features and speech probabilities of one chunk of each microphone."""
        return _guarded(steps, self._hear)

    def prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult | StepFailure]:
        """Text into branches."""
        return _guarded(steps, self._prefill)

    def listen(self, steps: Sequence[ListenStep]) -> list[ListenResult | StepFailure]:
        """One chunk of audio into each branch, and the state head's verdict."""
        return _guarded(steps, self._listen)

    def reply(self, steps: Sequence[ReplyStep]) -> list[ReplyResult | StepFailure]:
        """A few more text tokens of each reply."""
        return _guarded(steps, self._reply)

    def speak(self, steps: Sequence[SpeakStep]) -> list[SpeakResult | StepFailure]:
        """Each segment a little further."""
        return _guarded(steps, self._speak_each)

    def _speak_each(self, steps: Sequence[SpeakStep]) -> list[SpeakResult]:
        return [self._speech.speak(step) for step in steps]

    @torch.inference_mode()
    def _hear(self, steps: Sequence[HearStep]) -> list[HearResult]:
        states = [cast(TorchHearState, step.state) for step in steps]
        pcm = torch.stack([torch.from_numpy(step.pcm) for step in steps])
        probs = self._vad.probs([state.vad for state in states], pcm)
        features = fbank.push_batch([state.fbank for state in states], pcm)
        return [HearResult(row, tuple(float(p) for p in speech)) for row, speech in zip(features, probs, strict=True)]

    @torch.inference_mode()
    def _prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult]:
        chat = self.model.chat
        rows = []
        for step in steps:
            if step.role == "system":
                ids = chat.system(step.text)
            elif step.role == "user":
                ids = [*chat.prefix, *self.llm.encode(step.text)]
            else:
                raise ValueError(f"prefill role {step.role!r} is neither 'system' nor 'user'")
            rows.append(self.llm.embed(ids))
            self.branches.require(step.branch, len(ids))
        hidden = self.llm.forward(self.branches, [step.branch for step in steps], rows)
        for step, row, out in zip(steps, rows, hidden, strict=True):
            step.branch.stream = StreamCaches()
            if self.trace is not None and step.role == "system":
                self.trace.add("system_token_ids!", torch.tensor(chat.system(step.text)))
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
        chunk = torch.stack([step.features for step in steps]).to(self._device, self.llm.dtype)
        encoded = self.model.encoder.chunk(chunk, caches)
        adapted = self.model.adapter.chunk(encoded, caches)
        if self.model.adapter.dims.pieces:
            adapted = as_pieces(adapted, cast(Tensor, self.model.llm.embedding.weight))
        rows = [
            torch.cat([self._turn_opening, row]) if step.first else row
            for step, row in zip(steps, adapted, strict=True)
        ]
        hidden = self.llm.forward(self.branches, [step.branch for step in steps], rows)
        for step, cache in zip(steps, caches, strict=True):
            step.branch.stream = cache
        logits = self.model.state_head(torch.stack([h[-1] for h in hidden])).float()
        probs = torch.softmax(logits[:, :STATE_CLASSES], dim=-1)
        taking: list[float] | list[None] = [None] * len(steps)
        if (index := self.model.interruption_class) is not None:
            taking = torch.sigmoid(logits[:, index]).tolist()
        heard = [
            ListenResult(_triple(p), decide(_triple(p), PLAIN), step.branch.length, interruption)
            for p, step, interruption in zip(probs, steps, taking, strict=True)
        ]
        if self.trace is not None:
            for i, (step, result) in enumerate(zip(steps, heard, strict=True)):
                self.trace.listened(step.features, encoded[i], adapted[i], rows[i])
                self.trace.decided(hidden[i][-1], logits[i], probs[i], result.decision)
                self.trace.caches(step.branch.length, step.branch.stream)
        return heard

    @torch.inference_mode()
    def _reply(self, steps: Sequence[ReplyStep]) -> list[ReplyResult]:
        states = [cast(TorchReplyState, step.state) for step in steps]
        began = [(len(state.tokens), len(state.text)) for state in states]
        segments: list[list[Segment]] = [[] for _ in steps]
        for step, state in zip(steps, states, strict=True):
            state.segmenter.spoken = step.spoken
        for _ in range(max(step.max_tokens for step in steps)):
            active = [
                i
                for i, (step, state) in enumerate(zip(steps, states, strict=True))
                if not state.finished and not segments[i] and len(state.tokens) - began[i][0] < step.max_tokens
            ]
            if not active:
                break
            rows = [self._next_input(states[i]) for i in active]
            if self.trace is not None and not states[active[0]].started:
                self.trace.conversation_format(self.model.chat, self.model.prompt_embeddings, self._suffix)
            hidden = self.llm.forward(self.branches, [steps[i].branch for i in active], rows)
            last = torch.stack([h[-1] for h in hidden])
            for i, row, logits in zip(active, last, self.llm.logits(last), strict=True):
                if self.trace is not None:
                    self.trace.add("reply_llm_out_last", row)
                    self.trace.add("reply_logits", logits)
                    self.trace.add("reply_kv_len", steps[i].branch.length)
                state = states[i]
                if not state.started:
                    state.started, state.start_length = True, steps[i].branch.length
                segments[i] += self._take_token(state, row, logits)
        return [
            ReplyResult(
                tuple(state.tokens[start:]), state.text[chars:], tuple(pieces), state.finished, step.branch.length
            )
            for step, state, (start, chars), pieces in zip(steps, states, began, segments, strict=True)
        ]

    def _next_input(self, state: TorchReplyState) -> Tensor:
        if not state.started:
            return self._suffix
        assert state.pending is not None
        return self.llm.embed([state.pending])

    def _take_token(self, state: TorchReplyState, hidden: Tensor, logits: Tensor) -> list[Segment]:
        """Sample (or force) the token that `hidden` predicts; returns segments it completes."""
        token = state.forced.pop(0) if state.forced else state.sampler.sample(logits)
        if self.trace is not None:
            self.trace.add("reply_tokens", token)
        if token == self.model.chat.end_of_turn:
            state.finished, state.pending = True, None
        else:
            state.pending = token
            state.tokens.append(token)
            if self.trace is not None:
                self.trace.add("reply_hidden", hidden)
            done = state.segmenter.push(token, hidden.clone())
            state.text = state.segmenter.text
            state.finished = len(state.tokens) >= state.max_tokens and not state.forced
            if not state.finished:
                return [done] if done else []
            return [piece for piece in (done, self._flush(state)) if piece]
        rest = self._flush(state)
        return [rest] if rest else []

    @staticmethod
    def _flush(state: TorchReplyState) -> Segment | None:
        rest = state.segmenter.flush()
        state.text = state.segmenter.text
        return rest


def _triple(row: Tensor) -> tuple[float, float, float]:
    a, b, c = row.tolist()
    return a, b, c


def _guarded(steps: Sequence[S], run: Callable[[Sequence[S]], list[R]]) -> list[R | StepFailure]:
    """Run a batch; when it fails, run each step alone so that only the guilty one fails."""
    if not steps:
        return []
    try:
        return list(run(steps))
    except Exception as error:
        if len(steps) == 1:
            return [StepFailure(error)]
    alone = [_guarded([step], run) for step in steps]
    return [result for results in alone for result in results]
