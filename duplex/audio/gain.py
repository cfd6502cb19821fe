"""Quiet microphones made louder for the VAD, which misses voices far below full scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

TARGET_PEAK = 0.1  # of full scale: what is quieter is raised to it,
MOST_GAIN = 10.0  # by at most so much
KEPT_A_CHUNK = 0.98  # of the loudest sample remembered: it is half after 5.5 s of 160 ms chunks


@dataclass
class Loudness:
    """The loudest sample of a stream, of late."""

    peak: float = 0.0

    def copy(self) -> Loudness:
        """An independent one at the same place."""
        return Loudness(self.peak)

    def raised(self, pcm: Float32) -> Float32:
        """A chunk [samples] in [-1, 1], louder if all of the stream has been quiet of late; what is loud stays as it is."""
        self.peak = max(self.peak * KEPT_A_CHUNK, float(np.abs(pcm).max(initial=0.0)))
        gain = min(MOST_GAIN, max(1.0, TARGET_PEAK / self.peak)) if self.peak else 1.0
        louder: Float32 = pcm * np.float32(gain)
        return louder
