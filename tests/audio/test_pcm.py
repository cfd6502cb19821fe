"""Sample formats and streaming resampling."""

import numpy as np
import pytest

from duplex.audio.pcm import (
    Resampler,
    alaw_to_float,
    float_to_alaw,
    float_to_int16,
    float_to_mulaw,
    int16_to_float,
    mulaw_to_float,
    resample,
)

RATES = [
    (8000, 16000),
    (48000, 16000),
    (44100, 16000),
    (11025, 16000),
    (24000, 48000),
    (24000, 8000),
    (22050, 24000),
]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_chunked_resampling_equals_whole(source: int, target: int) -> None:
    noise = np.random.default_rng(7).standard_normal(source // 2).astype(np.float32) * 0.1
    whole = resample(noise, source, target)
    resampler, pieces, position = Resampler(source, target), [], 0
    sizes = np.random.default_rng(1)
    while position < len(noise):
        size = int(sizes.integers(1, 700))
        pieces.append(resampler.push(noise[position : position + size]))
        position += size
    pieces.append(resampler.flush())
    chunked = np.concatenate(pieces)
    assert len(whole) == -(-len(noise) * target // source)
    np.testing.assert_allclose(chunked, whole, atol=1e-5)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_tone_keeps_its_shape(source: int, target: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(source // 2) / source).astype(np.float32)
    ideal = np.sin(2 * np.pi * 440 * np.arange(target // 2) / target)
    np.testing.assert_allclose(resample(tone, source, target)[300:-300], ideal[300:-300], atol=2e-4)


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    tone = np.sin(2 * np.pi * 10_000 * np.arange(24_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000, 16_000)[300:-300]).max() < 1e-3


def test_resampler_delay_is_small() -> None:
    assert len(Resampler(48_000, 16_000).push(np.zeros(960, np.float32))) >= 320 - 20


def test_rates_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="96000"):
        Resampler(96_000, 16_000)


def test_full_scale_does_not_wrap() -> None:
    assert float_to_int16(np.array([1.0, 1.5, -1.0, -2.0], np.float32)).tolist() == [
        32767,
        32767,
        -32768,
        -32768,
    ]


def test_odd_byte_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        int16_to_float(b"abc")


def test_g711_bytes_survive_decoding_and_encoding() -> None:
    every_byte = bytes(range(256))
    assert float_to_alaw(alaw_to_float(every_byte)) == every_byte
    # mu-law has two zeros; 0x7f (minus zero) comes back as 0xff
    assert float_to_mulaw(mulaw_to_float(every_byte)) == every_byte.replace(b"\x7f", b"\xff")


@pytest.mark.parametrize(
    ("sample", "mulaw", "alaw"),
    [(0, 0xFF, 0xD5), (32767, 0x80, 0xAA), (-32768, 0x00, 0x2A), (1000, 0xCE, 0xFA), (-1000, 0x4E, 0x7A)],
)
def test_g711_reference_values(sample: int, mulaw: int, alaw: int) -> None:
    """Values of ITU-T G.191's g711 (as Python's former audioop gave them)."""
    pcm = int16_to_float(np.array([sample], np.int16))
    assert float_to_mulaw(pcm) == bytes([mulaw])
    assert float_to_alaw(pcm) == bytes([alaw])
