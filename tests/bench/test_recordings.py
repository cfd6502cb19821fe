"""WAV files as they are found in the wild, and the bounds of the speech in them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from duplex.bench.recordings import Recording, RecordingError, read_wav, speech_bounds, write_wav

RATE = 16000
RAMP = np.array([0.0, 0.5, -0.5, 0.25, -1.0], np.float32)

ENCODERS = {
    (1, 8): lambda x: np.clip(np.rint(x * 128) + 128, 0, 255).astype(np.uint8).tobytes(),
    (1, 16): lambda x: np.rint(x * 32767).astype("<i2").tobytes(),
    (1, 24): lambda x: b"".join(int(v * (2**23 - 1)).to_bytes(3, "little", signed=True) for v in x),
    (1, 32): lambda x: np.rint(x.astype(np.float64) * (2**31 - 1)).astype("<i4").tobytes(),
    (3, 32): lambda x: x.astype("<f4").tobytes(),
    (3, 64): lambda x: x.astype("<f8").tobytes(),
}


def wav(tag: int, bits: int, body: bytes, channels: int = 1, extensible: bool = False, before: bytes = b"") -> bytes:
    frame = channels * bits // 8
    outer = 0xFFFE if extensible else tag
    fmt = struct.pack("<HHIIHH", outer, channels, RATE, RATE * frame, frame, bits)
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, tag) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = before + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("tag", "bits"), ENCODERS)
def test_every_sample_format(tmp_path: Path, tag: int, bits: int, extensible: bool) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(wav(tag, bits, ENCODERS[tag, bits](RAMP), extensible=extensible))
    pcm, rate = read_wav(file)
    assert rate == RATE
    assert pcm.dtype == np.float32
    np.testing.assert_allclose(pcm, RAMP, atol=1 / 127)


def test_stereo_is_mixed_and_other_chunks_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    stereo = np.array([[0.5, 0.0], [0.25, -0.25]], np.float32)
    listing = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    file.write_bytes(wav(1, 16, ENCODERS[1, 16](stereo.reshape(-1)), channels=2, before=listing))
    np.testing.assert_allclose(read_wav(file)[0], [0.25, 0.0], atol=1e-4)


@pytest.mark.parametrize(
    "content",
    [b"", b"ID3 not a wav", wav(1, 16, b"")[:20], wav(85, 16, b"mp3"), wav(1, 12, b"\0\0")],
    ids=["empty", "other", "cut", "mp3", "odd bits"],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=r"a\.wav"):
        read_wav(file)


def test_written_files_read_back(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    write_wav(file, [RAMP, RAMP[:2]], RATE)
    np.testing.assert_allclose(read_wav(file)[0], [0.0, 0.5, -0.25, 0.125, -0.5], atol=1e-4)


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
