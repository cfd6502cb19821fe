"""Sample formats and rates: 16-bit PCM, G.711, and a resampler that streams."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int16 = npt.NDArray[np.int16]

INT16_SCALE = 32768.0
MIN_SAMPLE_RATE = 8000
MAX_SAMPLE_RATE = 48000
SINC_ZERO_CROSSINGS = 16  # one-sided filter length, in zero crossings of the low-pass sinc
SINC_ROLLOFF = 0.945  # cut-off as a fraction of the lower Nyquist frequency
EASY_PHASES = 640  # 11025 to 16000 Hz; filters made in 2 ms
MAX_FILTERS = 8  # kept beside those in use; between odd rates (47999 to 16000 Hz) one takes 6 MB


def int16_to_float(pcm: bytes | Int16) -> Float32:
    """16-bit little-endian samples as float32 in [-1, 1). Raises ValueError on an odd byte count."""
    if isinstance(pcm, bytes | bytearray | memoryview):
        if len(pcm) % 2:
            raise ValueError(f"16-bit audio of {len(pcm)} bytes is cut inside a sample")
        pcm = np.frombuffer(pcm, dtype="<i2")
    return pcm.astype(np.float32) / np.float32(INT16_SCALE)


def float_to_int16(pcm: Float32) -> Int16:
    """float32 samples as 16-bit integers, clipped: +1.0 gives 32767, it never wraps."""
    scaled = np.rint(np.asarray(pcm, dtype=np.float32) * np.float32(INT16_SCALE))
    clipped: Int16 = np.clip(scaled, -32768, 32767).astype("<i2")
    return clipped


def int16_bytes(pcm: Float32) -> bytes:
    """float32 samples as 16-bit little-endian bytes, clipped."""
    return float_to_int16(pcm).tobytes()


@lru_cache(maxsize=MAX_FILTERS)
def _sinc_filters(source_rate: int, target_rate: int) -> tuple[int, int, int, Float32]:
    """(up, down, half width, filters [up, 2 * half]) of a Hann-windowed sinc, one filter a phase.

    Output sample j lies at input position j * down / up; phase j % up holds the taps around it
    (J. O. Smith, "Digital Audio Resampling").
    """
    ratio = Fraction(target_rate, source_rate)
    up, down = ratio.numerator, ratio.denominator
    cutoff = min(1.0, target_rate / source_rate) * SINC_ROLLOFF
    half = ceil(SINC_ZERO_CROSSINGS / cutoff)
    fraction = (np.arange(up) * down % up) / up
    taps = np.arange(-half + 1, half + 1)
    distance = (taps[None, :] - fraction[:, None]) * cutoff
    window = np.cos(np.clip(distance / SINC_ZERO_CROSSINGS, -1, 1) * np.pi / 2) ** 2
    filters = np.sinc(distance) * window * cutoff
    filters /= filters.sum(axis=1, keepdims=True)
    return up, down, half, filters.astype(np.float32)


def costly_filters(source_rate: int, target_rate: int) -> bool:
    """Whether a Resampler between these rates takes long to make, up to 0.15 s, because they have no small ratio."""
    return Fraction(target_rate, source_rate).numerator > EASY_PHASES


def prepare_filters(source_rate: int, target_rate: int) -> None:
    """Make what a Resampler between these rates needs, and keep it for the next one."""
    _sinc_filters(source_rate, target_rate)


class Resampler:
    """Streaming sample rate conversion: chunked output equals whole output.

    `push` returns every output sample whose filter is filled; `flush` the rest, as if silence followed.
    Delay: 16 zero crossings of the lower rate, 1 ms at 16 kHz. Equal rates pass through.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
                raise ValueError(f"sample rate {rate} Hz is outside {MIN_SAMPLE_RATE}..{MAX_SAMPLE_RATE} Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._up, self._down, self._half, self._filters = _sinc_filters(source_rate, target_rate)
        self.reset()

    def reset(self) -> None:
        """Forget the past; the next sample is sample 0."""
        self._held: Float32 = np.zeros(self._half - 1, dtype=np.float32)
        self._held_start = -(self._half - 1)  # input index of the first held sample
        self._taken = 0  # input samples so far
        self._made = 0  # output samples so far

    def push(self, pcm: Float32) -> Float32:
        """Convert `pcm` float32 [n] at the source rate; returns float32 [m] at the target rate."""
        if self._up == self._down:
            return np.asarray(pcm, dtype=np.float32)
        self._held = np.concatenate([self._held, np.asarray(pcm, dtype=np.float32)])
        self._taken += len(pcm)
        last_position = self._taken - 1 - self._half  # the filter reaches `half` samples further
        ready = last_position * self._up // self._down + 1 if last_position >= 0 else 0
        # floor(j * down / up) must not exceed last_position
        while (ready * self._down) // self._up <= last_position:
            ready += 1
        return self._make(ready)

    def flush(self) -> Float32:
        """The samples still owed for the input so far, ceil(n * target / source) in all; then reset."""
        if self._up == self._down:
            return np.zeros(0, dtype=np.float32)
        total = -(-self._taken * self._up // self._down)
        self._held = np.concatenate([self._held, np.zeros(self._half + 1, dtype=np.float32)])
        tail = self._make(total)
        self.reset()
        return tail

    def _make(self, until: int) -> Float32:
        if until <= self._made:
            return np.zeros(0, dtype=np.float32)
        index = np.arange(self._made, until, dtype=np.int64)
        position = index * self._down // self._up
        first_tap = position - (self._half - 1) - self._held_start
        windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._half)
        output: Float32 = np.einsum("nt,nt->n", windows[first_tap], self._filters[index % self._up])
        self._made = until
        keep_from = until * self._down // self._up - (self._half - 1)
        self._held = self._held[keep_from - self._held_start :].copy()
        self._held_start = keep_from
        return output


def resample(pcm: Float32, source_rate: int, target_rate: int) -> Float32:
    """A whole recording at another rate: float32 [ceil(n * target / source)]."""
    if source_rate == target_rate:
        return np.asarray(pcm, dtype=np.float32)
    resampler = Resampler(source_rate, target_rate)
    head = resampler.push(pcm)
    return np.concatenate([head, resampler.flush()])


def _mulaw_table() -> Int16:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Int16:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (code & 0x70) >> 4
    mantissa = (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()
_MULAW_CLIP = 8158  # of the 14-bit magnitude: with the bias it still fits segment 7
_MULAW_BIAS = 33


def mulaw_to_float(encoded: bytes) -> Float32:
    """G.711 mu-law bytes as float32 samples (ITU-T G.711)."""
    return int16_to_float(_MULAW[np.frombuffer(encoded, dtype=np.uint8)])


def alaw_to_float(encoded: bytes) -> Float32:
    """G.711 A-law bytes as float32 samples (ITU-T G.711)."""
    return int16_to_float(_ALAW[np.frombuffer(encoded, dtype=np.uint8)])


def _segment(magnitude: npt.NDArray[np.int32], first_end_bits: int) -> npt.NDArray[np.int32]:
    """Number of the G.711 segment: 0 below 2 ** first_end_bits, one more for each doubling."""
    bits = np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) + 1
    return np.maximum(bits - first_end_bits, 0)


def float_to_mulaw(pcm: Float32) -> bytes:
    """float32 samples as G.711 mu-law bytes, one a sample."""
    sample = float_to_int16(pcm).astype(np.int32) >> 2
    magnitude = np.minimum(np.abs(sample), _MULAW_CLIP) + _MULAW_BIAS
    segment = _segment(magnitude, 6)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    return bytes((code ^ np.where(sample < 0, 0x7F, 0xFF)).astype(np.uint8))


def float_to_alaw(pcm: Float32) -> bytes:
    """float32 samples as G.711 A-law bytes, one a sample."""
    sample = float_to_int16(pcm).astype(np.int32) >> 3
    magnitude = np.where(sample < 0, -sample - 1, sample)
    segment = _segment(magnitude, 5)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    return bytes((code ^ np.where(sample < 0, 0x55, 0xD5)).astype(np.uint8))
