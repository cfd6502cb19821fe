"""What happened in one scripted conversation, and the latencies in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from duplex.audio.pcm import Float32, resample
from duplex.bench.script import SaidItem, Utterance, reply_to
from duplex.bench.speaker import HeardReply, VirtualSpeaker
from duplex.protocols.native import HEADER, AudioHeader

AUDIBLE = 0.003  # of full scale, -50 dB: below it a sample is silence to a listener


@dataclass(frozen=True, slots=True)
class Event:
    """A message from the server or something the client did, `t_sec` after the session began."""

    t_sec: float
    type: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """An agent audio frame; `samples` of PCM that arrived at `t_sec`."""

    t_sec: float
    epoch: int
    seq: int
    pts: int
    flags: int
    samples: int

    @classmethod
    def of(cls, frame: bytes, t_sec: float) -> ReceivedFrame:
        """The header of a frame that arrived now."""
        header = AudioHeader.unpack(frame)
        samples = (len(frame) - HEADER.size) // 2
        return cls(t_sec, header.epoch, header.seq, header.pts, header.flags, samples)


@dataclass(slots=True)
class ReplyText:
    """The agent's words in a turn. `heard`: what the server says was heard of a reply that was cut."""

    turn: int
    deltas: list[tuple[int, str]] = field(default_factory=list)  # (pts, words)
    final: bool = False
    heard: str | None = None

    @property
    def text(self) -> str:
        """Every word sent."""
        return "".join(words for _, words in self.deltas)

    @property
    def remembered(self) -> str:
        """What the agent remembers having said."""
        return self.text if self.heard is None else self.heard


@dataclass(frozen=True, slots=True)
class Answered:
    """A user item and how long its answer took, from the last sample of speech (typed: from sending).

    `first_sample_ms`: to the first sample of the reply played; `audible_ms`: to the first one above silence.
    None without an answer.
    """

    item: int
    turn: int | None
    first_sample_ms: float | None
    audible_ms: float | None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A reply that the user talked over, and how long it went on, from the user's first sample of speech."""

    item: int
    turn: int
    last_sent_ms: float  # to the arrival of the old epoch's last frame
    last_heard_ms: float  # to its last sample played


@dataclass
class ConversationLog:
    """Everything that was said, heard and received. Times in seconds since the first `ready`."""

    input_rate: int
    output_rate: int
    ready: list[dict[str, Any]] = field(default_factory=list)  # one a connection
    events: list[Event] = field(default_factory=list)
    frames: list[ReceivedFrame] = field(default_factory=list)
    replies: list[HeardReply] = field(default_factory=list)
    texts: list[ReplyText] = field(default_factory=list)
    said: list[SaidItem] = field(default_factory=list)
    user_frames: list[Float32] = field(default_factory=list)
    heard: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))  # at output_rate
    underruns: int = 0
    stale_frames: int = 0  # of an epoch that had ended when they arrived; a correct server sends none
    close_code: int | None = None
    close_reason: str = ""

    def add(self, event: Event) -> None:
        """Note an event, and what it says about the agent's words."""
        self.events.append(event)
        if event.type == "text":
            reply = self._open_text(event.fields["turn"])
            delta = (event.fields["pts"], event.fields["delta"])
            if delta not in reply.deltas:  # a resumed session sends some again
                reply.deltas.append(delta)
            reply.final = reply.final or event.fields["final"]
        elif event.type == "cut":
            turn = event.fields["turn"]
            for reply in reversed(self.texts):
                if reply.turn == turn and reply.heard is None:
                    reply.heard = event.fields["heard_text"]
                    return

    def finish(self, speaker: VirtualSpeaker, said: list[SaidItem]) -> None:
        """Take over what the loudspeaker and the script know."""
        self.heard = speaker.timeline
        self.replies = speaker.replies
        self.underruns = speaker.underruns
        self.stale_frames = speaker.stale_frames
        self.said = said

    def of_type(self, kind: str) -> list[Event]:
        """Every event of a type, in order."""
        return [event for event in self.events if event.type == kind]

    @property
    def reply_texts(self) -> list[str]:
        """The agent's words, a string for each reply that was not withdrawn; interrupted ones as far as heard."""
        return [reply.remembered.strip() for reply in self.texts if reply.remembered.strip()]

    @property
    def user(self) -> Float32:
        """What the microphone heard, float32 at `input_rate`."""
        return np.concatenate(self.user_frames) if self.user_frames else np.zeros(0, np.float32)

    def stereo(self) -> Float32:
        """User on the left, agent on the right, on one clock: float32 [samples, 2] at `output_rate`."""
        user = resample(self.user, self.input_rate, self.output_rate)
        both = np.zeros((max(len(user), len(self.heard)), 2), np.float32)
        both[: len(user), 0] = user
        both[: len(self.heard), 1] = self.heard
        return both

    def answers(self) -> list[Answered]:
        """The latency of the answer to each item that expected one."""
        return [self._answer(i, said) for i, said in enumerate(self.said) if said.item.expects_reply]

    def interruptions(self) -> list[Interrupted]:
        """Every reply that was cut because the user talked over it."""
        cuts = (self._interruption(reply) for reply in self.replies if reply.interrupted)
        return [cut for cut in cuts if cut is not None]

    def _answer(self, index: int, said: SaidItem) -> Answered:
        reply = reply_to(said, self.replies, self.output_rate)
        later = self.said[index + 1].onset_sec if index + 1 < len(self.said) else float("inf")
        if reply is None or reply.start / self.output_rate >= later:
            return Answered(index, None, None, None)
        audible = np.flatnonzero(np.abs(self.heard[reply.start : reply.end]) > AUDIBLE)
        first = self._since(said.end_sec, reply.start)
        sounding = self._since(said.end_sec, reply.start + int(audible[0])) if len(audible) else None
        return Answered(index, reply.turn, first, sounding)

    def _interruption(self, reply: HeardReply) -> Interrupted | None:
        """The newest utterance begun while the reply sounded is what cut it."""
        ended_sec = (reply.end or 0) / self.output_rate
        for index, said in reversed(list(enumerate(self.said))):
            if isinstance(said.item, Utterance) and reply.start / self.output_rate < said.onset_sec <= ended_sec:
                sent_sec = max(frame.t_sec for frame in self.frames if frame.epoch == reply.epoch)
                last_sent_ms = 1000 * max(0.0, sent_sec - said.onset_sec)
                return Interrupted(index, reply.turn, last_sent_ms, 1000 * (ended_sec - said.onset_sec))
        return None

    def _since(self, moment_sec: float, sample: int) -> float:
        return 1000 * (sample / self.output_rate - moment_sec)

    def _open_text(self, turn: int) -> ReplyText:
        """The reply a delta belongs to; a withdrawn reply may be followed by another one to the same turn."""
        for reply in reversed(self.texts):
            if reply.turn == turn and reply.heard is None:
                return reply
        self.texts.append(ReplyText(turn))
        return self.texts[-1]


def p50(values: list[float]) -> float | None:
    """The median, or None of nothing."""
    return median(values) if values else None
