"""Microphone audio into chunks."""

import numpy as np

from duplex.session.intake import Intake


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def test_chunks_are_cut_wherever_the_frames_end() -> None:
    intake = Intake(16000, 16000, 2560)
    pcm = noise(2560 * 3)
    for start in range(0, len(pcm), 333):
        intake.push(pcm[start : start + 333], 0, 0.0)
    taken = [intake.take() for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate([piece for piece in taken if piece is not None]), pcm)
    assert intake.take() is None


def test_missing_samples_become_silence_but_not_twice() -> None:
    intake = Intake(16000, 16000, 2560)
    intake.push(np.ones(2560, np.float32), 0, 0.0)
    intake.take()
    assert intake.silence_due_sec() == 0.25
    intake.fill_silence()  # the client was mute for a while
    assert intake.silence_due_sec() == 0.25 + 0.16
    intake.push(np.ones(2560, np.float32), 4000, 1.0)
    assert intake.waiting_chunks == 2
    first, second = intake.take(), intake.take()
    assert first is not None
    assert second is not None
    assert not first.any()
    assert np.flatnonzero(second)[0] == 4000 - 2560


def test_a_long_gap_is_cut_short() -> None:
    intake = Intake(16000, 16000, 2560)
    intake.push(np.ones(16, np.float32), 10**9, 0.0)
    assert intake.waiting_chunks == 16000 // 2560


def test_too_much_audio_loses_the_oldest() -> None:
    intake = Intake(48000, 16000, 2560)
    for _ in range(50):
        intake.push(noise(4800), 0, 0.0)
    assert intake.waiting_chunks <= 12
    assert intake.skipped_samples == 2560 * (50 * 1600 // 2560 - intake.waiting_chunks)
    skipped = intake.skipped_samples
    assert intake.take() is not None
    assert intake.passed_samples == skipped + 2560, "a chunk ends where it ended on the client's clock"
