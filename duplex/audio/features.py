"""Log-mel filterbank features as Kaldi computes them, whole or in 160 ms chunks.

Kaldi `compute-fbank-feats`: 25 ms Povey window, 10 ms hop, DC removed, pre-emphasis 0.97, 80 mel bins from
20 Hz to 8 kHz, no dither, natural logarithm of power. Samples count as 16-bit integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

Float32 = npt.NDArray[np.float32]

SAMPLE_RATE = 16000
WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
MEL_BINS = 80
CHUNK_SAMPLES = 2560  # 160 ms
CARRY_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES  # kept from chunk to chunk
NEW_FRAMES = CHUNK_SAMPLES // HOP_SAMPLES  # 16 frames a chunk
OVERLAP_FRAMES = 3  # frames of the chunk before that the encoder's subsampling needs
CHUNK_FRAMES = OVERLAP_FRAMES + NEW_FRAMES  # 19
_FFT_SIZE = 512
_LOW_HZ = 20.0
_PREEMPHASIS = 0.97
_POVEY_POWER = 0.85
_INT16_SCALE = 32768.0
_EPSILON = torch.finfo(torch.float32).eps


@lru_cache(maxsize=4)
def _povey_window(device: torch.device) -> torch.Tensor:
    return (torch.hann_window(WINDOW_SAMPLES, periodic=False, dtype=torch.float32) ** _POVEY_POWER).to(device)


@lru_cache(maxsize=4)
def _mel_banks(device: torch.device) -> torch.Tensor:
    """Triangular filters on the mel scale, [fft bins, mel bins]; the Nyquist bin has weight 0."""

    def mel(hertz: torch.Tensor) -> torch.Tensor:
        return 1127.0 * torch.log(1.0 + hertz / 700.0)

    low, high = mel(torch.tensor([_LOW_HZ, SAMPLE_RATE / 2], dtype=torch.float64))
    step = (high - low) / (MEL_BINS + 1)
    left = low + step * torch.arange(MEL_BINS, dtype=torch.float64)[:, None]
    bins = mel(torch.arange(_FFT_SIZE // 2, dtype=torch.float64) * (SAMPLE_RATE / _FFT_SIZE))[None, :]
    rising = (bins - left) / step
    falling = (left + 2 * step - bins) / step
    banks = torch.clamp(torch.minimum(rising, falling), min=0.0).to(torch.float32)
    return torch.nn.functional.pad(banks, (0, 1)).T.contiguous().to(device)


def _frames_to_fbank(frames: torch.Tensor) -> torch.Tensor:
    """Windows of int16-scaled samples [..., 400] to log-mel [..., 80]."""
    frames = frames - frames.mean(dim=-1, keepdim=True)
    emphasised = torch.sub(frames[..., 1:], frames[..., :-1], alpha=_PREEMPHASIS)
    windowed = emphasised * _povey_window(frames.device)[1:]  # which begins with a zero
    spectrum = torch.fft.rfft(torch.nn.functional.pad(windowed, (1, _FFT_SIZE - WINDOW_SAMPLES)))
    real, imaginary = torch.view_as_real(spectrum).unbind(-1)
    power = torch.addcmul(real.square(), imaginary, imaginary)
    return torch.clamp(power @ _mel_banks(frames.device), min=_EPSILON).log()


def fbank(pcm: Float32 | torch.Tensor) -> torch.Tensor:
    """Features of a whole recording, exactly as Kaldi frames it (only windows that fit).

    `pcm` float32 [n] at 16 kHz in [-1, 1); returns float32 [max(0, 1 + (n - 400) // 160), 80].
    A stream's frames start 240 samples earlier, in silence; `fbank_chunks` gives those.
    """
    samples = torch.as_tensor(pcm, dtype=torch.float32)
    if samples.numel() < WINDOW_SAMPLES:
        return torch.zeros(0, MEL_BINS)
    return _frames_to_fbank((samples * _INT16_SCALE).unfold(0, WINDOW_SAMPLES, HOP_SAMPLES))


def stream_fbank(pcm: torch.Tensor) -> torch.Tensor:
    """Features of recordings in whole chunks, [batch, 2560 * chunks] as of `fbank`, as new frames of streams that begin
    with them: [batch, 16 * chunks, 80] on the device of `pcm`.
    """
    samples = torch.nn.functional.pad(pcm * _INT16_SCALE, (CARRY_SAMPLES, 0))
    return _frames_to_fbank(samples.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES))


def fbank_chunks(pcm: Float32 | torch.Tensor) -> torch.Tensor:
    """What `FbankStream` yields for a whole recording: [chunks, 19, 80], the last one zero padded."""
    samples = torch.as_tensor(pcm, dtype=torch.float32)
    chunks = -(-samples.numel() // CHUNK_SAMPLES)
    padding = chunks * CHUNK_SAMPLES - samples.numel()
    frames = fbank(torch.nn.functional.pad(samples, (CARRY_SAMPLES, padding)))
    frames = torch.cat([torch.zeros(OVERLAP_FRAMES, MEL_BINS), frames])
    return frames.unfold(0, CHUNK_FRAMES, NEW_FRAMES).transpose(1, 2).contiguous()


@dataclass
class FbankStream:
    """Streaming features of one session (fixture quirk 1).

    240 samples and 3 frames are carried from chunk to chunk; both start as literal zeros.
    """

    carry: torch.Tensor = field(default_factory=lambda: torch.zeros(CARRY_SAMPLES))
    overlap: torch.Tensor = field(default_factory=lambda: torch.zeros(OVERLAP_FRAMES, MEL_BINS))

    def push(self, pcm: Float32 | torch.Tensor) -> torch.Tensor:
        """One chunk: `pcm` float32 [2560] at 16 kHz in [-1, 1); returns [19, 80], 3 old and 16 new frames."""
        return push_batch([self], torch.as_tensor(pcm, dtype=torch.float32)[None])[0]

    def reset(self) -> None:
        """Start over, as a new stream."""
        self.carry = torch.zeros(CARRY_SAMPLES)
        self.overlap = torch.zeros(OVERLAP_FRAMES, MEL_BINS)

    def copy(self) -> FbankStream:
        """An independent stream at the same place (tensors are replaced, never written)."""
        return FbankStream(self.carry, self.overlap)


def push_batch(streams: Sequence[FbankStream], pcm: torch.Tensor) -> torch.Tensor:
    """One chunk of several sessions at once: `pcm` float32 [batch, 2560]; returns [batch, 19, 80]."""
    if pcm.shape != (len(streams), CHUNK_SAMPLES):
        raise ValueError(f"expected pcm [{len(streams)}, {CHUNK_SAMPLES}], got {list(pcm.shape)}")
    samples = torch.cat([torch.stack([stream.carry for stream in streams]), pcm], dim=1)
    new = _frames_to_fbank((samples * _INT16_SCALE).unfold(1, WINDOW_SAMPLES, HOP_SAMPLES))
    features = torch.cat([torch.stack([stream.overlap for stream in streams]), new], dim=1)
    for row, stream in enumerate(streams):
        stream.carry = samples[row, -CARRY_SAMPLES:].clone()
        stream.overlap = features[row, -OVERLAP_FRAMES:].clone()
    return features
