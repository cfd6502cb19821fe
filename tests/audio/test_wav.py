"""WAV files of other programs."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import WavError, read_wav

FLOAT = 3


def float_wav(path: Path, samples: list[float]) -> Path:
    body = np.array(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHH", FLOAT, 1, 16000, 64000, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def test_float_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    pcm, rate = read_wav(float_wav(tmp_path / "a.wav", [0.25, 1.5, -2.0]))
    assert rate == 16000
    assert pcm.tolist() == [0.25, 1.0, -1.0]


@pytest.mark.parametrize("sample", [float("nan"), float("inf")])
def test_float_samples_that_are_no_numbers_are_refused(tmp_path: Path, sample: float) -> None:
    with pytest.raises(WavError, match=r"a\.wav: some of its samples are no numbers"):
        read_wav(float_wav(tmp_path / "a.wav", [0.0, sample]))
