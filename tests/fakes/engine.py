"""A scripted engine: audio levels stand for speech, and for what the state head thinks of it.

A sample value carries the meaning of a chunk, so that a test writes conversations as a list of levels:
`SILENCE`, `SPEECH` (continue), `ASK` (speech, after which the next silent chunk gets RESPOND), `HUM` (speech,
after which the next silent chunk gets IGNORE). Replies are `text` spoken at `samples_per_token` samples a token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from duplex.core.types import SamplingParams, TurnDecision
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
    ReplyState,
    ReplyStep,
    SpeakResult,
    SpeakStep,
    SpeechState,
    StepFailure,
)
from duplex.model.caches import Branch, BranchPool, StreamCaches
from duplex.model.segmenter import Segment

SILENCE, SPEECH, ASK, HUM, BROKEN = 0.0, 0.1, 0.2, 0.3, 0.4
LEVELS = np.array([SILENCE, SPEECH, ASK, HUM, BROKEN], np.float32)
CHUNK = 2560
PREFIX_TOKENS = 3
SUFFIX_TOKENS = 2
TOKENS_A_SEGMENT = 4


def chunks(*levels: float) -> np.ndarray:
    """Audio in which each chunk has one level."""
    return np.repeat(np.array(levels, np.float32), CHUNK)


class FakeHearState(HearState):
    """Nothing to remember."""


@dataclass
class FakeReplyState(ReplyState):
    words: list[str]
    start_length: int = 0
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finished: bool = False
    segment_start: int = 0


@dataclass
class FakeSpeechState(SpeechState):
    samples: int = 0
    segment: Segment | None = None
    spoken: int = 0


class FakeEngine:
    """Implements the Engine protocol on a real BranchPool; the KV-cache holds the ids of what was put in.

    `reply_text` is called with the branch's contents and gives the reply.
    """

    def __init__(
        self,
        *,
        slots: int = 6,
        max_length: int = 512,
        reply_text: str | Callable[[list[float]], str] = "one two three four five six seven eight",
        samples_per_token: int = 2400,
    ) -> None:
        self.branches = BranchPool(slots=slots, max_length=max_length, layers=1, kv_heads=1, head_dim=1)
        self.facts = EngineFacts(16000, CHUNK, 24000, 600, (19, 80), max_length, "fake")
        self.interruption: float | None = None  # told of every chunk of speech
        self.words_over: float | None = None  # told of every chunk
        self.reply_text = reply_text
        self.samples_per_token = samples_per_token
        self.served_by: list[tuple[str, str]] = []  # (kind, thread name) of every batch
        self.fail_next: dict[str, Exception] = {}
        self.gates: dict[str, threading.Event] = {}  # kind -> the batch waits for it

    def new_hear_state(self) -> HearState:
        return FakeHearState()

    def new_reply_state(self, sampling: SamplingParams, forced_text: str | None = None) -> FakeReplyState:
        words = [] if forced_text is None else forced_text.split()
        state = FakeReplyState(words)
        state.finished = False
        self._forced = forced_text is not None
        if forced_text is None:
            state.words = ["?"]  # filled in by the first step
        return state

    def new_speech_state(self, sampling: SamplingParams) -> FakeSpeechState:
        return FakeSpeechState()

    def contents(self, branch: Branch) -> list[float]:
        """What was put into a branch, as ids: 1 system, 2 turn opening, 3 suffix, 10 audio, 100+i reply words."""
        return self.branches.k[0][branch.slot, 0, : branch.length, 0].tolist()

    def hear(self, steps: Sequence[HearStep]) -> list[HearResult | StepFailure]:
        self._note("hear")
        results: list[HearResult | StepFailure] = []
        for step in steps:
            windows = step.pcm.reshape(5, 512)[:, 256]
            features = torch.full((19, 80), float(step.pcm[CHUNK // 2]))
            results.append(HearResult(features, tuple(0.9 if level > 0.05 else 0.01 for level in windows)))
        return results

    def prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult | StepFailure]:
        self._note("prefill")
        return [self._prefill(step) for step in steps]

    def _prefill(self, step: PrefillStep) -> PrefillResult | StepFailure:
        tokens = max(PREFIX_TOKENS, len(step.text.split()))
        try:
            self._put(step.branch, [1.0 if step.role == "system" else 4.0] * tokens)
        except Exception as error:
            return StepFailure(error)
        step.branch.stream = StreamCaches()
        return PrefillResult(step.branch.length)

    def listen(self, steps: Sequence[ListenStep]) -> list[ListenResult | StepFailure]:
        self._note("listen")
        return [self._listen(step) for step in steps]

    def _listen(self, step: ListenStep) -> ListenResult | StepFailure:
        level = float(LEVELS[np.abs(LEVELS - float(step.features[0, 0])).argmin()])
        if abs(level - BROKEN) < 0.01:
            return StepFailure(RuntimeError("broken chunk"))
        try:
            if step.first:
                self._put(step.branch, [2.0] * PREFIX_TOKENS)
                step.branch.stream = StreamCaches()
            self._put(step.branch, [10.0 + level] * 2)
        except Exception as error:
            return StepFailure(error)
        before = step.branch.stream.pe_index
        step.branch.stream = StreamCaches(pe_index=int(level * 10 + 0.5) or before)
        probs = (0.98, 0.01, 0.01)
        if level < 0.05:
            probs = {2: (0.02, 0.93, 0.05), 3: (0.05, 0.05, 0.9)}.get(before, probs)
        decision = TurnDecision(int(np.argmax(probs)))
        taking = None if level < 0.05 else self.interruption
        return ListenResult(probs, decision, step.branch.length, taking, self.words_over)

    def reply(self, steps: Sequence[ReplyStep]) -> list[ReplyResult | StepFailure]:
        self._note("reply")
        results: list[ReplyResult | StepFailure] = []
        for step in steps:
            try:
                results.append(self._reply(step))
            except Exception as error:
                results.append(StepFailure(error))
        return results

    def _reply(self, step: ReplyStep) -> ReplyResult:
        state = step.state
        assert isinstance(state, FakeReplyState)
        if not state.start_length:
            if state.words == ["?"]:
                text = self.reply_text
                state.words = (text if isinstance(text, str) else text(self.contents(step.branch))).split()
            self._put(step.branch, [3.0] * SUFFIX_TOKENS)
            state.start_length = step.branch.length
        made: list[int] = []
        segments: list[Segment] = []
        before = state.text
        while len(made) < step.max_tokens and not segments and not state.finished:
            if len(state.tokens) < len(state.words):
                token = len(state.tokens)
                state.tokens.append(token)
                made.append(token)
                state.text += state.words[token] + " "
                self._put(step.branch, [100.0 + token])
            state.finished = len(state.tokens) == len(state.words)
            count = len(state.tokens) - state.segment_start
            if count and (state.finished or count == TOKENS_A_SEGMENT):
                words = state.words[state.segment_start : len(state.tokens)]
                hidden = torch.zeros(count, 1)
                segments.append(
                    Segment(" ".join(words) + " ", state.segment_start, count, hidden, tuple(map(len, words)))
                )
                state.segment_start = len(state.tokens)
        return ReplyResult(tuple(made), state.text[len(before) :], tuple(segments), state.finished, step.branch.length)

    def speak(self, steps: Sequence[SpeakStep]) -> list[SpeakResult | StepFailure]:
        self._note("speak")
        return [self._speak(step) for step in steps]

    def _speak(self, step: SpeakStep) -> SpeakResult:
        state = step.state
        assert isinstance(state, FakeSpeechState)
        if step.segment is not None:
            state.segment, state.spoken = step.segment, 0
        assert state.segment is not None
        token = state.segment.first_token + state.spoken
        span = ((token, state.samples),)
        state.samples += self.samples_per_token
        state.spoken += 1
        pcm = np.full(self.samples_per_token, (token + 1) / 100, np.float32)
        return SpeakResult(pcm, state.spoken == state.segment.token_count, span, self.samples_per_token // 600)

    def _put(self, branch: Branch, ids: list[float]) -> None:
        self.branches.require(branch, len(ids))
        place = slice(branch.length, branch.length + len(ids))
        self.branches.k[0][branch.slot, 0, place, 0] = torch.tensor(ids)
        branch.length += len(ids)

    def _note(self, kind: str) -> None:
        self.served_by.append((kind, threading.current_thread().name))
        gate = self.gates.get(kind)
        if gate is not None:
            assert gate.wait(10)
        error = self.fail_next.pop(kind, None)
        if error is not None:
            raise error
