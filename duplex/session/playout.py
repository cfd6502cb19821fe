"""Agent audio on its way to the user: pacing, what was heard, what is cut.

No tasks and no clock inside: `due(now)` gives what may be sent, `wait_sec(now)` says when to ask again. The
agent audio clock counts samples sent at the output rate; it has no gaps.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from duplex.audio.pcm import Resampler
from duplex.core.events import AgentAudio, TextDelta
from duplex.model.segmenter import Segment

Float32 = npt.NDArray[np.float32]

FRAME_MS = 40
REPORT_REACH_SEC = 0.25  # a playback report is extrapolated for this long
OUTPUT_LATENCY_SEC = 1.0  # of a sound device is made up for, at most
REPORT_PATIENCE_SEC = 1.0  # without any report for this long, playback is taken to be in real time
RESEND_LEADS = 4  # how much sent audio is kept for a resume where playback is virtual, in units of the lead
RESEND_SEC = 40.0  # the same with reports, at most: so long goes by until a keepalive finds a link dead (20 s + 20 s)
_WORD = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the user has heard of a reply: whole text tokens, and their text."""

    tokens: int
    text: str


@dataclass(slots=True)
class _Word:
    token: int  # text token of the reply in which it begins
    text: str


@dataclass
class _Utterance:
    """One reply's audio and its alignment sample -> text token."""

    turn: int
    generation: int
    start_pts: int
    begins: dict[int, int] = field(default_factory=dict)  # text token -> sample offset at the codec's rate
    words: list[_Word] = field(default_factory=list)
    tokens: int = 0  # text tokens of the segments given so far
    told: int = 0  # words sent as text
    sent: int = 0  # samples sent, at the output rate
    queued: deque[Float32] = field(default_factory=deque)
    waiting: int = 0  # samples in `queued`
    finished: bool = False
    closed: bool = False  # the last frame was sent


class Playout:
    """Paces one session's agent audio so that sent - heard <= max_lead_ms, and knows what was heard.

    What is in the sound device is neither heard nor in the client's queue, so as much more is sent as the client says
    that is.

    Heard position: the client's reports, each carried on for a short while; the clock of the audio sent when
    `virtual` is set or no report comes, until one does.
    """

    def __init__(self, *, output_rate: int, codec_rate: int, max_lead_ms: int, virtual: bool) -> None:
        self._rate = output_rate
        self._codec_rate = codec_rate
        self._resampler = Resampler(codec_rate, output_rate)  # of the current reply
        self._queue_lead = max_lead_ms * output_rate // 1000
        self._in_device = 0  # samples, by the last report
        self._frame = FRAME_MS * output_rate // 1000
        self._virtual = virtual
        self.epoch = 0
        self.sent_pts = 0
        self._seq = 0
        self._heard = 0  # position last reported or inferred, at `_heard_sec`
        self._heard_sec = 0.0
        self._reported = 0  # the last position that the client has told
        self._reported_sec: float | None = None
        self._unreported = False  # patience for a report ran out while something was played; until one comes
        self._current: _Utterance | None = None
        self._ended: _Utterance | None = None  # the reply before
        self._epoch_pts = 0  # where the current epoch begins
        self._recent: deque[AgentAudio | TextDelta] = deque()  # sent, in order, of the current epoch
        self._lacking: deque[AgentAudio | TextDelta] = deque()  # of these, what is to be sent again
        self._paused = False

    # --- filling -----------------------------------------------------------------------------------------

    def begin(self, turn: int, generation: int) -> None:
        """A reply starts; what is left of the one before is forgotten (cut it first)."""
        self._resampler.reset()
        self._current = _Utterance(turn, generation, self.sent_pts)

    def add_text(self, generation: int, segment: Segment) -> None:
        """A segment that is about to be spoken: its words and the tokens they begin in."""
        utterance = self._of(generation)
        if utterance is None:
            return
        ends = list(accumulate(segment.token_lengths))  # in visible characters
        visible = 0
        for word in _WORD.findall(segment.text):
            token = min(bisect_right(ends, visible), segment.token_count - 1)
            utterance.words.append(_Word(segment.first_token + token, word))
            visible += sum(not character.isspace() for character in word)
        utterance.tokens = segment.first_token + segment.token_count

    def push(self, generation: int, pcm: Float32, spans: tuple[tuple[int, int], ...]) -> bool:
        """Audio at the codec's rate and where its text tokens begin. False for an old one."""
        utterance = self._of(generation)
        if utterance is None:
            return False
        utterance.begins.update(spans)
        self._queue(utterance, self._resampler.push(pcm))
        return True

    def finish(self, generation: int) -> None:
        """No more audio will come for this reply."""
        utterance = self._of(generation)
        if utterance is not None and not utterance.finished:
            self._queue(utterance, self._resampler.flush())
            utterance.finished = True

    def ahead_sec(self, now_sec: float) -> float:
        """Seconds of audio that the user has not heard yet: sent and waiting."""
        waiting = self._current.waiting if self._current is not None else 0
        return (waiting + self.sent_pts - self.heard_pts(now_sec)) / self._rate

    # --- sending -----------------------------------------------------------------------------------------

    def due(self, now_sec: float) -> list[AgentAudio | TextDelta]:
        """Frames and words that may be sent now, in order: first what a client that has come back lacks."""
        if self._paused:
            return []
        again = self._again(now_sec)
        return again if self._lacking else again + self._fresh(now_sec)

    def wait_sec(self, now_sec: float) -> float | None:
        """Seconds until `due` may give more or `heard` may change; None: only a push or a report can."""
        if self._paused:
            return None
        if self._lacking:
            excess = _end(self._lacking[0]) - self.heard_pts(now_sec) - self._lead
            return max(0.005, excess / self._rate)
        utterance = self._current
        if utterance is None:
            return None
        if not utterance.closed and self._sendable(utterance):
            excess = self.sent_pts + min(self._frame, utterance.waiting) - self.heard_pts(now_sec) - self._lead
            return max(0.005, excess / self._rate)
        if self.heard_pts(now_sec) < self.sent_pts:
            return min(0.1, max(0.005, (self.sent_pts - self.heard_pts(now_sec)) / self._rate))
        return None

    # --- hearing -----------------------------------------------------------------------------------------

    def report(
        self, now_sec: float, epoch: int, pts: int, queued_ms: float | None = None, output_ms: float = 0.0
    ) -> None:
        """The client says that everything before `pts` was heard, and that it holds so much more, `output_ms` of it in its
        sound device. Old epochs are void.

        A client whose queue ran empty behind the end of a reply, and that stays a little short of it (by its output's
        latency, for instance), has nothing new to say: patience runs out as if it said nothing.
        """
        if epoch != self.epoch:
            return
        reported = max(self._epoch_pts, min(pts, self.sent_pts))
        if reported == self._reported and queued_ms == 0 and self._sent_whole:
            return
        self._reported_sec = now_sec
        if self._virtual:
            return
        self._in_device = round(min(output_ms / 1000, OUTPUT_LATENCY_SEC) * self._rate)
        self._reported = reported
        self._heard = self._reported if self._unreported else max(self._heard, self._reported)
        self._heard_sec = now_sec
        self._unreported = False

    def heard_pts(self, now_sec: float) -> int:
        """Everything before this position was heard, as far as is known."""
        if self._paused or self._heard >= self.sent_pts:
            return self._heard
        elapsed = now_sec - self._heard_sec
        if not (self._virtual or self._unreported) and elapsed <= REPORT_PATIENCE_SEC:
            if self._reported_sec != self._heard_sec:
                return self._heard  # no report since this playback began
            elapsed = min(elapsed, REPORT_REACH_SEC)
        return min(self.sent_pts, self._heard + round(elapsed * self._rate))

    def audible(self, now_sec: float) -> bool:
        """Whether anything of the current reply was heard."""
        return self._current is not None and self.heard_pts(now_sec) > self._current.start_pts

    def started(self) -> bool:
        """Whether anything of the current reply was sent."""
        return self._current is not None and self._current.sent > 0

    def over(self, now_sec: float) -> bool:
        """Whether the current reply was sent and heard to its end."""
        utterance = self._current
        return utterance is not None and utterance.closed and self.heard_pts(now_sec) >= self.sent_pts

    def heard(self, now_sec: float) -> Heard:
        """What was heard of the current reply."""
        utterance = self._current
        if utterance is None:
            return Heard(0, "")
        tokens = self._heard_tokens(utterance, self.heard_pts(now_sec) - utterance.start_pts)
        return Heard(tokens, "".join(word.text for word in utterance.words if word.token < tokens))

    # --- cutting and resuming ----------------------------------------------------------------------------

    def cut(self) -> tuple[int, int]:
        """Void what is not heard; returns (old epoch, new epoch)."""
        old = self.epoch
        self.epoch = (old + 1) % 65536
        self._current = None
        self._epoch_pts = self._reported = self._heard = self.sent_pts  # what was in flight is flushed, and gone
        self._recent.clear()
        self._lacking.clear()
        return old, self.epoch

    def pause(self, now_sec: float) -> None:
        """The connection is gone: nothing is sent or heard until `resume`."""
        self._heard = self.heard_pts(now_sec)
        self._paused = True

    def resume(self, now_sec: float, last_seq: int, played_epoch: int | None, played_pts: int | None) -> None:
        """The client is back; what it lacks of the current epoch is sent again, by `due`.

        It has heard nothing of the current epoch if it does not know it yet. Words that were sent just behind the
        last frame it has may have reached it; they come again.
        """
        self._paused = False
        if played_pts is not None and not self._virtual:
            told = played_pts if played_epoch == self.epoch else self._epoch_pts
            self._reported = self._heard = max(self._epoch_pts, min(told, self.sent_pts))
        self._heard_sec = now_sec
        self._reported_sec = None
        self._unreported = False
        self._lacking.clear()
        for event in self._recent:
            if isinstance(event, TextDelta) or (event.seq > last_seq and _end(event) > self._heard):
                self._lacking.append(event)
            elif event.seq <= last_seq:
                self._lacking.clear()

    def forget(self) -> None:
        """The current reply is over."""
        self._current, self._ended = None, self._current

    def repeated(self) -> tuple[int, str] | None:
        """Turn and text of a reply that is over and being sent again; None: there is none."""
        if not self._lacking or self._current is not None or self._ended is None:
            return None
        return self._ended.turn, "".join(word.text for word in self._ended.words)

    # --- inside ------------------------------------------------------------------------------------------

    @property
    def _lead(self) -> int:
        """How many samples may be sent beyond what was heard."""
        return self._queue_lead + self._in_device

    @property
    def _sent_whole(self) -> bool:
        """Whether nothing of the current reply is still to be sent."""
        return not self._lacking and (self._current is None or self._current.closed)

    def _again(self, now_sec: float) -> list[AgentAudio | TextDelta]:
        events: list[AgentAudio | TextDelta] = []
        while self._lacking and _end(self._lacking[0]) - self.heard_pts(now_sec) <= self._lead:
            events.append(self._lacking.popleft())
        return events

    def _fresh(self, now_sec: float) -> list[AgentAudio | TextDelta]:
        events: list[AgentAudio | TextDelta] = []
        utterance = self._current
        while utterance is not None and not utterance.closed:
            if not self._sendable(utterance):
                break
            size = min(self._frame, utterance.waiting)
            if self.sent_pts + size - self.heard_pts(now_sec) > self._lead:
                break
            last = utterance.finished and size == utterance.waiting
            events += self._words_before(utterance, utterance.sent + size, everything=last)
            if utterance.sent or size:  # else nothing was said at all
                events.append(self._frame_event(utterance, size, last, now_sec))
            if last:
                events.append(TextDelta(utterance.turn, "", self.sent_pts, final=True))
                utterance.closed = True
        self._remember(events)
        return events

    def _of(self, generation: int) -> _Utterance | None:
        current = self._current
        return current if current is not None and current.generation == generation else None

    def _sendable(self, utterance: _Utterance) -> bool:
        """A whole frame, the first sound of a reply, or its end."""
        first = utterance.sent == 0 and utterance.waiting > 0
        return utterance.finished or first or utterance.waiting >= self._frame

    def _queue(self, utterance: _Utterance, pcm: Float32) -> None:
        if len(pcm):
            utterance.queued.append(pcm)
            utterance.waiting += len(pcm)

    def _frame_event(self, utterance: _Utterance, size: int, last: bool, now_sec: float) -> AgentAudio:
        if self._heard < self.sent_pts and now_sec - self._heard_sec > REPORT_PATIENCE_SEC:
            self._unreported = True
        if self.heard_pts(now_sec) >= self.sent_pts:
            self._heard, self._heard_sec = self.sent_pts, now_sec  # playback starts (again) with this frame
        pcm = _take(utterance.queued, size)
        utterance.waiting -= size
        frame = AgentAudio(pcm, self.epoch, self._seq, self.sent_pts, utterance.sent == 0, last)
        utterance.sent += size
        self.sent_pts += size
        self._seq = (self._seq + 1) % (1 << 32)
        return frame

    def _remember(self, events: list[AgentAudio | TextDelta]) -> None:
        """Keep what was sent for a client that comes back, as far as it can still be unheard."""
        self._recent.extend(events)
        if self._virtual:
            from_pts = self.sent_pts - RESEND_LEADS * self._lead
        else:  # what is taken for heard, because no report comes, may have been lost on its way
            from_pts = max(self._reported, self.sent_pts - round(RESEND_SEC * self._rate))
        while self._recent and _end(self._recent[0]) < from_pts:
            self._recent.popleft()

    def _words_before(self, utterance: _Utterance, sample: int, *, everything: bool) -> list[TextDelta]:
        """The words that begin in the audio before `sample` (output rate, of the utterance), as one delta."""
        pieces: list[str] = []
        pts = self.sent_pts
        while utterance.told < len(utterance.words):
            word = utterance.words[utterance.told]
            begin = utterance.begins.get(word.token)
            if not everything and (begin is None or self._to_output(begin) >= sample):
                break
            if not pieces and begin is not None:
                pts = utterance.start_pts + self._to_output(begin)
            pieces.append(word.text)
            utterance.told += 1
        return [TextDelta(utterance.turn, "".join(pieces), pts)] if pieces else []

    def _to_output(self, codec_samples: int) -> int:
        return codec_samples * self._rate // self._codec_rate

    def _heard_tokens(self, utterance: _Utterance, heard: int) -> int:
        """Number of leading text tokens that were heard whole: all before the last one that has begun."""
        if utterance.closed and heard >= utterance.sent:
            return utterance.tokens
        begun = [token for token, begin in utterance.begins.items() if self._to_output(begin) <= heard]
        return max(begun, default=0) if heard > 0 else 0


def _end(event: AgentAudio | TextDelta) -> int:
    """The position behind an event on the agent audio clock."""
    return event.pts + len(event.pcm) if isinstance(event, AgentAudio) else event.pts


def _take(pieces: deque[Float32], size: int) -> Float32:
    """The first `size` samples off a queue of arrays."""
    parts: list[Float32] = []
    while size:
        piece = pieces.popleft()
        if len(piece) > size:
            pieces.appendleft(piece[size:])
            piece = piece[:size]
        parts.append(piece)
        size -= len(piece)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
