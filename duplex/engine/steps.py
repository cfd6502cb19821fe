"""What an engine is asked to do and what it answers.

Every step is small enough to cancel between two of them. Engines take lists of steps of one kind and
return lists of results in the same order, so that batching across sessions needs no other interface.
A step that fails alone yields a `StepFailure` in its place; the other steps of the batch still succeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from duplex.core.types import SamplingParams, TurnDecision

if TYPE_CHECKING:
    import torch

    from duplex.model.caches import Branch, BranchPool
    from duplex.model.segmenter import Segment

Float32 = npt.NDArray[np.float32]


class HearState:
    """Streaming front end of one session: fbank overlap, VAD recurrence. Opaque outside the engine."""


class ReplyState:
    """One reply being written: sampler, tokens so far, segmenter. Opaque but for the fields below."""

    start_length: int  # branch length before the reply's first position (suffix included)
    tokens: list[int]  # text token ids sampled so far
    text: str  # their text so far
    finished: bool  # end-of-turn or token limit reached


class SpeechState:
    """One reply being spoken: speech-decoder caches, vocoder buffer, sampler. Opaque outside the engine."""


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Takes the place of a result when one step of a batch failed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class HearStep:
    """One chunk of microphone audio. `pcm` float32 [chunk_samples] in [-1, 1) at 16 kHz."""

    state: HearState
    pcm: Float32


@dataclass(frozen=True, slots=True)
class HearResult:
    """`features` [19, 80] log-mel (a torch tensor), `speech_probs` one VAD probability per 32 ms window."""

    features: torch.Tensor
    speech_probs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """Text put into a branch without sampling: the system prompt, or a turn typed by the user.

    role "system": the chat template's system part without its closing token (fixture quirk 7).
    role "user": end-of-turn token, user prefix, the text; a reply may follow.
    """

    branch: Branch
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """`length`: tokens in the branch afterwards."""

    length: int


@dataclass(frozen=True, slots=True)
class ListenStep:
    """One chunk of features into a branch. `first` opens a user turn (fixture quirk 7: end-of-turn token,
    user prefix and prompt embeddings go before the audio, encoder and adapter caches start empty).
    """

    branch: Branch
    features: torch.Tensor
    first: bool = False


@dataclass(frozen=True, slots=True)
class ListenResult:
    """`probs` = P(continue), P(respond), P(ignore); `decision` by the thresholds of fixture quirk 6.

    `interruption`: P(the user is taking the floor), if the agent is speaking; None from checkpoints that do not tell.
    `words_over`: P(the words found so far are a whole turn); None where no words are searched for.
    """

    probs: tuple[float, float, float]
    decision: TurnDecision
    length: int
    interruption: float | None = None
    words_over: float | None = None


@dataclass(frozen=True, slots=True)
class ReplyStep:
    """Write up to `max_tokens` more text tokens of a reply; the first step of a state feeds the suffix.

    `spoken`: whether audio of this reply has been produced already (fixture quirk 18 splits earlier before).
    Stops early after a token that completes a segment, so that speech can start.
    """

    branch: Branch
    state: ReplyState
    max_tokens: int = 8
    spoken: bool = False


@dataclass(frozen=True, slots=True)
class ReplyResult:
    """`segments` are complete pieces ready to be spoken; `text_delta` the new text."""

    tokens: tuple[int, ...]
    text_delta: str
    segments: tuple[Segment, ...]
    finished: bool
    length: int


@dataclass(frozen=True, slots=True)
class SpeakStep:
    """Speak the current segment a little further: at most one vocoder call.

    `segment` starts a new segment and is None to go on with the current one.
    """

    state: SpeechState
    segment: Segment | None = None


@dataclass(frozen=True, slots=True)
class SpeakResult:
    """`pcm` float32 [n] at the codec's rate (24 kHz), maybe empty.

    `segment_done`: the segment is wholly spoken; give the next one.
    `spans`: for each text token of the segment, (token index in the reply, sample offset in the reply's
    audio where it begins), both counted from the start of the reply. At a segment's start they are an estimate from
    the speaking rate so far; its last result gives them again, corrected: a later span of a token replaces an
    earlier one.
    """

    pcm: Float32
    segment_done: bool
    spans: tuple[tuple[int, int], ...] = ()
    codec_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Sizes a session needs to know, read from the checkpoint."""

    input_sample_rate: int  # Hz, of the front end (16000)
    chunk_samples: int  # input samples a chunk (2560)
    output_sample_rate: int  # Hz, of the codec (24000)
    samples_per_codec_token: int  # 600
    feature_shape: tuple[int, int]  # (19, 80)
    max_length: int  # tokens a branch can hold
    checkpoint: str = ""
    tells_interruptions: bool = False  # whether ListenResult.interruption is told
    extra: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Model work over branches. Thread-safe: several workers may call one engine at once on different branches."""

    facts: EngineFacts
    branches: BranchPool

    def new_hear_state(self) -> HearState: ...

    def new_reply_state(self, sampling: SamplingParams, forced_text: str | None = None) -> ReplyState:
        """State for one reply. `forced_text` makes the agent say exactly that instead of sampling."""
        ...

    def new_speech_state(self, sampling: SamplingParams) -> SpeechState: ...

    def hear(self, steps: Sequence[HearStep]) -> list[HearResult | StepFailure]: ...

    def prefill(self, steps: Sequence[PrefillStep]) -> list[PrefillResult | StepFailure]: ...

    def listen(self, steps: Sequence[ListenStep]) -> list[ListenResult | StepFailure]: ...

    def reply(self, steps: Sequence[ReplyStep]) -> list[ReplyResult | StepFailure]: ...

    def speak(self, steps: Sequence[SpeakStep]) -> list[SpeakResult | StepFailure]: ...
