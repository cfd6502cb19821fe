"""Recordings as microphones: where the speech in them lies, at any rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duplex.audio.pcm import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Float32, resample
from duplex.audio.wav import read_wav
from duplex.core.errors import ConfigError

_ENERGY_FRAME_SEC = 0.01
_SILENCE_RMS = 0.003  # of full scale, -50 dB: nothing below it is speech
_SPEECH_BELOW_PEAK = 0.03  # -30 dB: the softest speech against the loudest frame
_ABOVE_NOISE = 3.0  # times the noise floor, taken as the quietest tenth of the frames
_NOISE_CEILING = 0.3  # a "noise floor" above this part of the peak is speech without pauses


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono audio `pcm` float32 [samples] at `rate` Hz, and the span [onset, end) of samples that holds its speech."""

    pcm: Float32
    rate: int
    onset: int
    end: int

    @classmethod
    def of(cls, pcm: Float32, rate: int) -> Recording:
        """Mono samples with the bounds of their speech."""
        onset, end = speech_bounds(pcm, rate)
        return cls(pcm, rate, onset, end)

    @classmethod
    def read(cls, path: Path) -> Recording:
        """A WAV file, mixed to mono. Raises WavError, OSError."""
        return cls.of(*read_wav(path))

    def at_rate(self, rate: int) -> Recording:
        """The same recording at another rate."""
        if rate == self.rate:
            return self
        scale = rate / self.rate
        return Recording(resample(self.pcm, self.rate, rate), rate, round(self.onset * scale), round(self.end * scale))


def check_rate(rate: int, name: object) -> None:
    """Raises ConfigError, naming what has it, unless a server takes such a sample rate (Hz)."""
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise ConfigError(f"{name}: {rate} Hz is not between {MIN_SAMPLE_RATE} and {MAX_SAMPLE_RATE} Hz")


def speech_bounds(pcm: Float32, rate: int) -> tuple[int, int]:
    """First and one-past-last sample of the speech, by the energy of 10 ms frames; (0, 0) if there is none."""
    frame = max(1, round(rate * _ENERGY_FRAME_SEC))
    count = len(pcm) // frame
    if count == 0:
        return 0, 0
    rms = np.sqrt(np.mean(pcm[: count * frame].reshape(count, frame) ** 2, axis=1))
    peak = float(rms.max())
    noise = min(_ABOVE_NOISE * float(np.percentile(rms, 10)), _NOISE_CEILING * peak)
    loud = np.flatnonzero(rms > max(_SILENCE_RMS, _SPEECH_BELOW_PEAK * peak, noise))
    if len(loud) == 0:
        return 0, 0
    return int(loud[0]) * frame, (int(loud[-1]) + 1) * frame
