"""What one session carries between steps outside its branches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from duplex.audio.features import FbankStream
from duplex.audio.gain import Loudness
from duplex.audio.vad import VadState
from duplex.engine.steps import HearState, ReplyState, SpeechState
from duplex.model.sampling import CodeSampler, TextSampler
from duplex.model.segmenter import Segment, TextSegmenter
from duplex.model.speech_decoder import SpeechCache
from duplex.model.vocoder import StreamingVocoder


@dataclass
class TorchHearState(HearState):
    """Feature overlap and VAD recurrence of one microphone, and how loud it has been of late."""

    fbank: FbankStream = field(default_factory=FbankStream)
    vad: VadState = field(default_factory=VadState)
    loudness: Loudness = field(default_factory=Loudness)


@dataclass
class TorchReplyState(ReplyState):
    """One reply being written.

    `pending` is the last sampled token: it enters the KV-cache only when the next one is asked for, so never when
    the reply is cut (fixture quirk 7). `forced` holds tokens still to be said instead of sampled ones, with their text.
    """

    sampler: TextSampler
    segmenter: TextSegmenter
    max_tokens: int
    start_length: int = 0
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finished: bool = False
    started: bool = False
    pending: int | None = None
    forced: list[tuple[int, str]] | None = None

    def end(self) -> list[Segment]:
        """The segment that is still open, closed, if there is anything to say in it."""
        rest = self.segmenter.flush()
        self.text = self.segmenter.text
        return [rest] if rest else []


@dataclass
class TorchSpeechState(SpeechState):
    """One reply being spoken, segment after segment."""

    sampler: CodeSampler
    vocoder: StreamingVocoder
    seconds_per_token: float
    cache: SpeechCache | None = None
    next_input: int = 0
    codes: list[int] = field(default_factory=list)
    limit: int = 0
    samples: int = 0  # of the reply, given out so far
    segment_start: int = 0  # sample at which the current segment began
    first_token: int = 0
    weights: Tensor = field(default_factory=lambda: torch.zeros(0))  # relative length of each text token
