"""The bounds of the speech in recordings."""

from __future__ import annotations

import numpy as np

from duplex.bench.recordings import Recording, speech_bounds

RATE = 16000


def test_speech_is_found_between_silence_and_noise() -> None:
    generator = np.random.default_rng(1)
    pcm = generator.normal(0, 0.002, 3 * RATE).astype(np.float32)
    pcm[RATE : 2 * RATE] += 0.2 * np.sin(np.arange(RATE) * 0.1).astype(np.float32)
    onset, end = speech_bounds(pcm, RATE)
    assert abs(onset - RATE) <= RATE // 100
    assert abs(end - 2 * RATE) <= RATE // 100


def test_silence_has_no_speech() -> None:
    assert speech_bounds(np.zeros(RATE, np.float32), RATE) == (0, 0)
    assert speech_bounds(np.zeros(3, np.float32), RATE) == (0, 0)


def test_bounds_follow_the_rate() -> None:
    pcm = np.zeros(2 * RATE, np.float32)
    pcm[4000:8000] = 0.1
    faster = Recording.of(pcm, RATE).at_rate(24000)
    assert (faster.onset, faster.end, len(faster.pcm)) == (6000, 12000, 48000)
