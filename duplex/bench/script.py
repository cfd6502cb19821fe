"""What the user of a scripted conversation says, and when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from duplex.bench.recordings import Recording
from duplex.bench.speaker import HeardReply
from duplex.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class At:
    """A moment `sec` seconds after the session began."""

    sec: float


@dataclass(frozen=True, slots=True)
class AfterReply:
    """`delay_sec` after the reply to what was said before has been heard to its end."""

    delay_sec: float = 0.5


@dataclass(frozen=True, slots=True)
class DuringReply:
    """`delay_sec` after the first sample of the reply to the latest item that expects one was heard."""

    delay_sec: float = 0.8


Trigger = At | AfterReply | DuringReply


def parse_trigger(text: str) -> Trigger:
    """`2.5`, `after-reply`, `after-reply+1`, `during-reply+0.8`. Raises ConfigError."""
    match = re.fullmatch(r"(?:(after-reply|during-reply)(?:\+(\d+(?:\.\d+)?))?)|(\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no time: use seconds, after-reply[+SEC] or during-reply[+SEC]")
    relative, delay, absolute = match.groups()
    if relative is None:
        return At(float(absolute))
    kind = AfterReply if relative == "after-reply" else DuringReply
    return kind(float(delay)) if delay is not None else kind()


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording spoken into the microphone. `expects_reply`: whether the conversation waits for an answer to it."""

    recording: Recording
    when: Trigger = field(default_factory=AfterReply)
    expects_reply: bool = True


@dataclass(frozen=True, slots=True)
class Typed:
    """A typed message. `role` "agent" makes the agent say exactly this."""

    text: str
    when: Trigger = field(default_factory=AfterReply)
    role: str = "user"
    expects_reply: bool = True


Item = Utterance | Typed


@dataclass(frozen=True, slots=True)
class SaidItem:
    """An item that was begun at `start_sec`; its speech lies between `onset_sec` and `end_sec`."""

    item: Item
    start_sec: float
    onset_sec: float
    end_sec: float
    audio_end_sec: float  # when its recording runs out


def reply_to(said: SaidItem, replies: Sequence[HeardReply], rate: int) -> HeardReply | None:
    """The reply to an item: the first that began after its speech did and was not withdrawn, or cut while it went on."""
    for reply in replies:
        cut_meanwhile = reply.interrupted and reply.end is not None and reply.end / rate <= said.end_sec
        if reply.start / rate >= said.onset_sec and not reply.withdrawn and not cut_meanwhile:
            return reply
    return None


class Cue:
    """Decides which item is due. Pure: asked with the time and the replies so far.

    An item that waits for a reply is begun anyway when none has started `reply_timeout_sec` after the item
    before it ended.
    """

    def __init__(self, script: Sequence[Item], reply_timeout_sec: float) -> None:
        self.said: list[SaidItem] = []
        self._waiting = list(script)
        self._reply_timeout_sec = reply_timeout_sec

    def due(
        self, now_sec: float, replies: Sequence[HeardReply], rate: int, agent_idle: bool
    ) -> tuple[Item, float] | None:
        """The next item and its moment, if that has come; the caller then tells `begin`."""
        if not self._waiting:
            return None
        item = self._waiting[0]
        moment = self._moment(item.when, now_sec, replies, rate, agent_idle)
        if moment is None or now_sec < moment:
            return None
        return self._waiting.pop(0), moment

    def begin(self, item: Item, start_sec: float) -> SaidItem:
        """Notes that an item begins."""
        if isinstance(item, Typed):
            said = SaidItem(item, start_sec, start_sec, start_sec, start_sec)
        else:
            recording = item.recording
            onset, end, length = (n / recording.rate for n in (recording.onset, recording.end, len(recording.pcm)))
            said = SaidItem(item, start_sec, start_sec + onset, start_sec + end, start_sec + length)
        self.said.append(said)
        return said

    def over_since(self, replies: Sequence[HeardReply], rate: int, agent_idle: bool, now_sec: float) -> float | None:
        """Since when everything is said and answered; None while something is outstanding."""
        if self._waiting:
            return None
        return self._quiet_since(replies, rate, agent_idle, now_sec)

    def _moment(
        self, when: Trigger, now_sec: float, replies: Sequence[HeardReply], rate: int, agent_idle: bool
    ) -> float | None:
        match when:
            case At(sec):
                return sec
            case AfterReply(delay_sec):
                since = self._quiet_since(replies, rate, agent_idle, now_sec)
                return None if since is None else since + delay_sec
            case DuringReply(delay_sec):
                asked = next((said for said in reversed(self.said) if said.item.expects_reply), None)
                if asked is None:
                    return delay_sec
                reply = reply_to(asked, replies, rate)
                return self._given_up(now_sec) if reply is None else reply.start / rate + delay_sec

    def _quiet_since(self, replies: Sequence[HeardReply], rate: int, agent_idle: bool, now_sec: float) -> float | None:
        if not self.said:
            return 0.0
        last = self.said[-1]
        if replies and not replies[-1].over:
            return None
        reply = reply_to(last, replies, rate)
        if last.item.expects_reply and reply is None:
            return self._given_up(now_sec)
        if not agent_idle:
            return None
        ended = replies[-1].end if replies else None
        return max(last.audio_end_sec, 0.0 if ended is None else ended / rate)

    def _given_up(self, now_sec: float) -> float | None:
        deadline = self.said[-1].audio_end_sec + self._reply_timeout_sec
        return deadline if now_sec >= deadline else None
