"""A loudspeaker that makes no sound: plays agent audio on a sample clock and knows what was heard when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from duplex.audio.pcm import Float32, int16_to_float
from duplex.protocols.native import FLAG_FIRST, FLAG_LAST, HEADER, AudioHeader

EPOCHS = 1 << 16


def epoch_before(epoch: int, other: int) -> bool:
    """True when `epoch` comes before `other` on the circle of 16-bit epochs."""
    return (epoch - other) % EPOCHS > EPOCHS // 2


@dataclass(slots=True)
class HeardReply:
    """One reply as it came out of the loudspeaker; `start` and `end` in samples of the speaker's clock.

    `withdrawn`: the server cut it before any word of it was heard; it is no answer.
    """

    turn: int
    epoch: int
    start: int
    end: int | None = None
    interrupted: bool = False
    withdrawn: bool = False

    @property
    def over(self) -> bool:
        """Whether it was played to its end or cut."""
        return self.end is not None


@dataclass(frozen=True, slots=True)
class _Queued:
    header: AudioHeader
    pcm: Float32
    arrival: int  # speaker clock
    turn: int


class VirtualSpeaker:
    """Plays frames in order as soon as they arrive, and silence in between.

    Time is seconds since the clock's start; nothing sounds before it arrived. `timeline` is what a recorder
    beside the loudspeaker would have; without `keep` nothing of it is kept.
    """

    def __init__(self, rate: int, *, keep: bool = True) -> None:
        self.rate = rate
        self._keep = keep
        self.replies: list[HeardReply] = []
        self.epoch = 0  # newest known
        self.heard_epoch = 0
        self.heard_pts = 0
        self.underruns = 0
        self.stale_frames = 0
        self._next_pts = 0
        self._queue: deque[_Queued] = deque()
        self._rendered: list[Float32] = []
        self._position = 0
        self._starving = False

    def reset(self, epoch: int, pts: int) -> None:
        """Another session begins at these clocks."""
        self._stop()
        self.epoch = self.heard_epoch = epoch
        self.heard_pts = self._next_pts = pts

    def push(self, frame: bytes, now_sec: float, turn: int = 0) -> None:
        """One agent frame that arrived now; frames of older epochs and what was received before are dropped."""
        header = AudioHeader.unpack(frame)
        if epoch_before(header.epoch, self.epoch):
            self.stale_frames += 1
            return
        self.epoch = header.epoch
        pcm = int16_to_float(frame[HEADER.size :])
        known = min(len(pcm), max(0, self._next_pts - header.pts))
        if known and known == len(pcm):
            return
        self._next_pts = header.pts + len(pcm)
        trimmed = AudioHeader(header.kind, header.flags, header.epoch, header.seq, header.pts + known)
        self._queue.append(_Queued(trimmed, pcm[known:], round(now_sec * self.rate), turn))

    def cut(self, epoch: int, now_sec: float, *, withdrawn: bool = False) -> None:
        """Falls silent now; older epochs are stale from here on."""
        self.render_until(now_sec)
        if self.replies and not self.replies[-1].over:
            self.replies[-1].withdrawn = withdrawn
        self._stop()
        self.epoch = epoch

    def render_until(self, now_sec: float) -> None:
        """Plays on to this moment."""
        target = round(now_sec * self.rate)
        while self._position < target or (self._queue and not len(self._queue[0].pcm)):
            if not self._queue:
                self._starve()
                self._emit(np.zeros(target - self._position, np.float32))
            elif self._queue[0].arrival > self._position:
                self._starve()
                self._emit(np.zeros(min(target, self._queue[0].arrival) - self._position, np.float32))
                if self._position >= target:
                    return
            else:
                self._play(target - self._position)

    @property
    def queued_ms(self) -> float:
        """Audio that arrived and was not played yet."""
        return 1000 * sum(len(queued.pcm) for queued in self._queue) / self.rate

    @property
    def playing(self) -> bool:
        """Whether a reply has begun to sound and is not over."""
        return bool(self._queue) or (bool(self.replies) and not self.replies[-1].over)

    @property
    def timeline(self) -> Float32:
        """Everything rendered so far, float32 [samples]."""
        return np.concatenate(self._rendered) if self._rendered else np.zeros(0, np.float32)

    def _play(self, room: int) -> None:
        queued = self._queue.popleft()
        header = queued.header
        open_reply = self.replies[-1] if self.replies and not self.replies[-1].over else None
        if len(queued.pcm) and (header.flags & FLAG_FIRST or open_reply is None):
            if open_reply is not None:
                open_reply.end = self._position
            open_reply = HeardReply(queued.turn, header.epoch, self._position)
            self.replies.append(open_reply)
        self._starving = False
        count = min(room, len(queued.pcm))
        self._emit(queued.pcm[:count])
        self.heard_epoch, self.heard_pts = header.epoch, header.pts + count
        if count < len(queued.pcm):
            rest = AudioHeader(header.kind, header.flags & ~FLAG_FIRST, header.epoch, header.seq, header.pts + count)
            self._queue.appendleft(_Queued(rest, queued.pcm[count:], queued.arrival, queued.turn))
        elif header.flags & FLAG_LAST and open_reply is not None:
            open_reply.end = self._position

    def _starve(self) -> None:
        """Silence inside a reply is an underrun, counted once however long it lasts."""
        if self.replies and not self.replies[-1].over and not self._starving:
            self._starving = True
            self.underruns += 1

    def _stop(self) -> None:
        self._queue.clear()
        self._starving = False
        if self.replies and not self.replies[-1].over:
            self.replies[-1].end = self._position
            self.replies[-1].interrupted = True

    def _emit(self, pcm: Float32) -> None:
        if self._keep:
            self._rendered.append(pcm)
        self._position += len(pcm)
