"""Microphone audio on its way into chunks: resampling, gaps, silence while the client is mute."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from duplex.audio.pcm import Resampler

Float32 = npt.NDArray[np.float32]

MAX_BACKLOG_SEC = 2.0  # audio that may wait; beyond it the oldest is skipped
MAX_GAP_SEC = 1.0  # a longer gap is filled with this much silence
MUTE_AFTER_SEC = 0.25  # without audio for this long, the client is taken to be mute


class Intake:
    """Collects microphone audio at the client's rate and yields chunks at the model's rate.

    Bounded: over MAX_BACKLOG_SEC the oldest chunks are skipped and counted in `skipped_samples`.
    """

    def __init__(self, input_rate: int, model_rate: int, chunk_samples: int) -> None:
        self._resampler = Resampler(input_rate, model_rate)
        self._input_rate = input_rate
        self._model_rate = model_rate
        self._chunk_samples = chunk_samples
        self._pieces: deque[Float32] = deque()
        self._waiting = 0
        self._filled = 0  # input samples of silence put in since the client was last heard
        self._last_audio_sec: float | None = None
        self._next_silence_sec = 0.0
        self.skipped_samples = 0  # model-rate samples skipped since this was last taken
        self.passed_samples = 0  # model-rate samples taken or skipped so far: where the last chunk ended

    @property
    def waiting_chunks(self) -> int:
        """Whole chunks that can be taken."""
        return self._waiting // self._chunk_samples

    def push(self, pcm: Float32, missing: int, now_sec: float) -> None:
        """Take `pcm` float32 [n] at the input rate; `missing` samples were lost before it."""
        gap = max(0, min(missing, int(MAX_GAP_SEC * self._input_rate)) - self._filled)
        self._filled = 0
        self._last_audio_sec = now_sec
        self._next_silence_sec = now_sec + MUTE_AFTER_SEC
        if gap:
            self._add(self._resampler.push(np.zeros(gap, dtype=np.float32)))
        self._add(self._resampler.push(pcm))
        self._bound()

    def silence_due_sec(self) -> float | None:
        """When the next chunk of silence is due if the client stays mute; None before its first audio."""
        return None if self._last_audio_sec is None else self._next_silence_sec

    def fill_silence(self) -> None:
        """Put in one chunk of silence, because the client sends nothing and time goes on."""
        needed = self._chunk_samples - self._waiting % self._chunk_samples
        samples = -(-needed * self._input_rate // self._model_rate)
        self._filled += samples
        self._next_silence_sec += self._chunk_samples / self._model_rate
        self._add(self._resampler.push(np.zeros(samples, dtype=np.float32)))

    def take(self) -> Float32 | None:
        """The next chunk float32 [chunk_samples], or None."""
        if self._waiting < self._chunk_samples:
            return None
        parts: list[Float32] = []
        needed = self._chunk_samples
        while needed:
            piece = self._pieces.popleft()
            if len(piece) > needed:
                self._pieces.appendleft(piece[needed:])
                piece = piece[:needed]
            parts.append(piece)
            needed -= len(piece)
        self._waiting -= self._chunk_samples
        self.passed_samples += self._chunk_samples
        return np.concatenate(parts)

    def _add(self, pcm: Float32) -> None:
        if len(pcm):
            self._pieces.append(pcm)
            self._waiting += len(pcm)

    def _bound(self) -> None:
        while self._waiting > MAX_BACKLOG_SEC * self._model_rate:
            skipped = self.take()
            assert skipped is not None
            self.skipped_samples += len(skipped)
