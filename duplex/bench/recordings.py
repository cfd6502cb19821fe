"""Recordings as microphones: WAV files of any rate and sample format, and where the speech in them lies."""

from __future__ import annotations

import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from duplex.audio.pcm import float_to_int16, resample
from duplex.core.errors import DuplexError

Float32 = npt.NDArray[np.float32]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # wFormatTag values

_ENERGY_FRAME_SEC = 0.01
_SILENCE_RMS = 0.003  # of full scale, -50 dB: nothing below it is speech
_SPEECH_BELOW_PEAK = 0.03  # -30 dB: the softest speech against the loudest frame
_ABOVE_NOISE = 3.0  # times the noise floor, taken as the quietest tenth of the frames
_NOISE_CEILING = 0.3  # a "noise floor" above this part of the peak is speech without pauses


class RecordingError(DuplexError):
    """A file is not a WAV recording that can be read; the message says why."""


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
        """A WAV file, mixed to mono. Raises RecordingError, OSError."""
        return cls.of(*read_wav(path))

    def at_rate(self, rate: int) -> Recording:
        """The same recording at another rate."""
        if rate == self.rate:
            return self
        scale = rate / self.rate
        return Recording(resample(self.pcm, self.rate, rate), rate, round(self.onset * scale), round(self.end * scale))


def read_wav(path: Path) -> tuple[Float32, int]:
    """(mono float32 [samples], rate): RIFF WAVE with 8, 16, 24 or 32-bit PCM or 32 or 64-bit float, extensible or not.

    Raises RecordingError, OSError.
    """
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise RecordingError(f"{path}: not a WAV file")
    chunks = _chunks(content)
    if b"fmt " not in chunks or len(chunks[b"fmt "]) < 16 or b"data" not in chunks:
        raise RecordingError(f"{path}: a WAV file without format or samples")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    if tag == _EXTENSIBLE and len(chunks[b"fmt "]) >= 26:
        (tag,) = struct.unpack_from("<H", chunks[b"fmt "], 24)
    if channels == 0 or rate == 0:
        raise RecordingError(f"{path}: {channels} channels at {rate} Hz")
    samples = _samples(chunks[b"data"], tag, bits)
    if samples is None:
        raise RecordingError(f"{path}: WAV format {tag} with {bits} bits is not supported")
    whole = len(samples) - len(samples) % channels
    return samples[:whole].reshape(-1, channels).mean(axis=1, dtype=np.float32), rate


def _chunks(content: bytes) -> dict[bytes, bytes]:
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        chunks.setdefault(name, content[position + 8 : position + 8 + size])  # streamed files claim too much
        position += 8 + size + size % 2
    return chunks


def _samples(encoded: bytes, tag: int, bits: int) -> Float32 | None:
    """Interleaved samples in [-1, 1], or None for formats we do not read."""
    width = bits // 8
    encoded = encoded[: len(encoded) - len(encoded) % max(1, width)]
    if tag == _FLOAT and bits in (32, 64):
        return np.frombuffer(encoded, f"<f{width}").astype(np.float32)
    if tag != _PCM:
        return None
    if bits == 8:
        return (np.frombuffer(encoded, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if bits in (16, 32):
        return np.frombuffer(encoded, f"<i{width}").astype(np.float32) / np.float32(2 ** (bits - 1))
    if bits == 24:
        padded = np.zeros((len(encoded) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(encoded, np.uint8).reshape(-1, 3)
        widened: Float32 = padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
        return widened
    return None


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


def write_wav(path: Path, channels: list[Float32], rate: int) -> None:
    """Writes float32 channels of any lengths (the shorter end in silence) as 16-bit PCM. Raises OSError."""
    interleaved = np.zeros((max(map(len, channels)), len(channels)), np.float32)
    for index, channel in enumerate(channels):
        interleaved[: len(channel), index] = channel
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(float_to_int16(interleaved).tobytes())
