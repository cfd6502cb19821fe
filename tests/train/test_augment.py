"""Degraded speech stays audio, and every effect does what its name says."""

import random

import numpy as np
import pytest
import torch

from duplex.train import augment, effects
from duplex.train.augment import SAMPLE_RATE, Pcm


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _tone(frequency_hz: float, seconds: float = 1.0) -> Pcm:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def test_augment_is_finite_in_range_and_deterministic() -> None:
    for seed in range(60):
        out = augment.augment(_tone(440.0), np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1.0
        assert 0.9 / 1.02 < SAMPLE_RATE / len(out) < 1.1 * 1.02
        np.testing.assert_array_equal(out, augment.augment(_tone(440.0), np.random.default_rng(seed)))


def test_augment_takes_the_standard_generator_too() -> None:
    one, two = (augment.augment(_tone(440.0), random.Random(9)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_strength_zero_and_silence_are_left_alone(rng: np.random.Generator) -> None:
    tone = _tone(440.0)
    assert augment.augment(tone, rng, 0.0) is tone
    assert len(augment.augment(np.zeros(0, np.float32), rng)) == 0
    assert np.abs(augment.augment(np.zeros(4000, np.float32), rng)).max() < 1e-3


def test_degrade_keeps_the_length(rng: np.random.Generator) -> None:
    for _ in range(30):
        assert len(augment.degrade(_tone(300.0, 0.7), rng)) == len(_tone(300.0, 0.7))


def test_snr_is_what_was_asked(rng: np.random.Generator) -> None:
    tone = _tone(440.0) * np.float32(0.3)
    noise = augment.colored_noise(len(tone), rng, 1.0)
    added = augment.add_at_snr(tone, noise, 10.0) - tone
    assert 20 * np.log10(augment.rms(tone) / augment.rms(added)) == pytest.approx(10.0, abs=0.1)


def test_silence_around_speech_does_not_make_the_noise_fainter(rng: np.random.Generator) -> None:
    tone = _tone(440.0) * np.float32(0.3)
    padded = np.pad(tone, 2 * SAMPLE_RATE)
    assert augment.speech_level(padded) == pytest.approx(augment.rms(tone), rel=0.02)
    added = augment.add_at_snr(padded, augment.colored_noise(len(padded), rng, 0.0), 10.0) - padded
    assert 20 * np.log10(augment.rms(tone) / augment.rms(added)) == pytest.approx(10.0, abs=0.2)
    assert augment.speech_level(np.zeros(SAMPLE_RATE, np.float32)) < 1e-6


def test_noise_colors_fall_as_named(rng: np.random.Generator) -> None:
    def low_share(exponent: float) -> float:
        power = np.square(np.abs(np.fft.rfft(augment.colored_noise(SAMPLE_RATE, rng, exponent))))
        return float(power[:1000].sum() / power.sum())

    assert low_share(0.0) < low_share(1.0) < low_share(2.0)


@pytest.mark.parametrize(("frequency_hz", "passes"), [(100.0, False), (1000.0, True), (6000.0, False)])
def test_telephone_passes_the_voice_band_only(frequency_hz: float, passes: bool) -> None:
    tone = _tone(frequency_hz)
    kept = augment.rms(augment.telephone(tone)) / augment.rms(tone)
    assert kept > 0.9 if passes else kept < 0.1


def test_mu_law_keeps_38_db() -> None:
    tone = _tone(440.0)
    error = effects.mu_law_round_trip(torch.from_numpy(tone)).numpy() - tone
    assert 20 * np.log10(augment.rms(tone) / augment.rms(error)) > 35


def test_reverberation_rings_on_after_the_sound(rng: np.random.Generator) -> None:
    clip = np.concatenate([_tone(440.0, 0.5), np.zeros(SAMPLE_RATE // 2, np.float32)])
    wet = augment.reverberate(clip, rng, 0.4)
    after = wet[int(0.52 * SAMPLE_RATE) :]
    assert augment.rms(after[:1600]) > 10 * augment.rms(after[-1600:])
    assert augment.rms(wet) == pytest.approx(augment.rms(clip), rel=0.02)


def test_speed_moves_pitch_and_length() -> None:
    fast = augment.change_speed(_tone(400.0), 1.1)
    assert len(fast) == round(SAMPLE_RATE / 1.1)
    peak_hz = np.argmax(np.abs(np.fft.rfft(fast))) * SAMPLE_RATE / len(fast)
    assert peak_hz == pytest.approx(440.0, abs=2.0)


@pytest.mark.parametrize("name", sorted(augment.EVENT_MAKERS))
def test_events_are_short_sounds(name: str, rng: np.random.Generator) -> None:
    for _ in range(10):
        event = augment.EVENT_MAKERS[name](rng)
        assert event.dtype == np.float32
        assert 0.01 < len(event) / SAMPLE_RATE < 5.0
        assert 0.01 < np.abs(event).max() <= 1.0


def test_humming_is_voiced_and_has_the_lips_closed(rng: np.random.Generator) -> None:
    for _ in range(20):
        hum = augment.humming(rng)
        assert hum.dtype == np.float32
        assert 0.15 < len(hum) / SAMPLE_RATE < 0.9
        assert 0.2 < np.abs(hum).max() <= 1.0
        power = np.square(np.abs(np.fft.rfft(hum)))
        hz = np.fft.rfftfreq(len(hum), 1 / SAMPLE_RATE)
        assert power[(hz > 60) & (hz < 700)].sum() > 0.8 * power.sum()
