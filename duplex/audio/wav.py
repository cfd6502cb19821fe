"""WAV files in and out: PCM of 8 to 32 bits, float, mu-law and A-law, any number of channels, mixed to mono."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np

from duplex.audio.pcm import Float32, alaw_to_float, int16_bytes, mulaw_to_float

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


class WavError(ValueError):
    """Not a WAV file, or one of a kind that cannot be read; the message says which."""


def read_wav(path: Path) -> tuple[Float32, int]:
    """Mono samples float32 [n] in [-1, 1] and the sample rate in Hz. Raises WavError, OSError.

    The format is the RIFF/WAVE of Microsoft's "Multiple Channel Audio Data and WAVE Files".
    """
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError(f"{path}: not a WAV file")
    form: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        body = content[at + 8 : at + 8 + size]
        if name == b"fmt ":
            if len(body) < 16:
                raise WavError(f"{path}: its fmt chunk is cut short")
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if code == EXTENSIBLE and len(body) >= 26:
                code = struct.unpack_from("<H", body, 24)[0]
            form = code, channels, rate, bits
        elif name == b"data":
            if form is None:
                raise WavError(f"{path}: audio comes before its format")
            return _mono(path, body, *form)
        at += 8 + size + size % 2
    raise WavError(f"{path}: holds no audio")


def _mono(path: Path, body: bytes, code: int, channels: int, rate: int, bits: int) -> tuple[Float32, int]:
    if channels < 1 or rate < 1:
        raise WavError(f"{path}: {channels} channels at {rate} Hz")
    body = body[: len(body) // (channels * max(1, bits // 8)) * channels * max(1, bits // 8)]
    if code == PCM and bits == 8:
        samples = (np.frombuffer(body, np.uint8).astype(np.float32) - 128.0) / 128.0
    elif code == PCM and bits == 16:
        samples = np.frombuffer(body, "<i2").astype(np.float32) / 2.0**15
    elif code == PCM and bits == 24:
        packed = np.frombuffer(body, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = (packed[:, 0] << 8 | packed[:, 1] << 16 | packed[:, 2] << 24) >> 8
        samples = whole.astype(np.float32) / 2.0**23
    elif code == PCM and bits == 32:
        samples = (np.frombuffer(body, "<i4") / 2.0**31).astype(np.float32)
    elif code == FLOAT and bits in (32, 64):
        samples = np.frombuffer(body, f"<f{bits // 8}").astype(np.float32)
        if not np.isfinite(samples).all():
            raise WavError(f"{path}: some of its samples are no numbers")
        samples = samples.clip(-1.0, 1.0)
    elif code == MULAW:
        samples = mulaw_to_float(body)
    elif code == ALAW:
        samples = alaw_to_float(body)
    else:
        raise WavError(f"{path}: format {code} with {bits} bits is not supported")
    mono: Float32 = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return mono, rate


def write_wav(path: Path, pcm: Float32, sample_rate: int) -> None:
    """Write float32 samples [n] or [n, channels] as 16-bit PCM, clipped."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(int16_bytes(pcm))
