"""What a room, a line and a microphone do to speech: rows of samples at 16 kHz, on any device.

Nothing here is random: what is, `duplex.train.augment` draws for one recording and `duplex.train.disguise` for a batch.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
TELEPHONE_RATE = 8_000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
MU = 255.0
MU_LAW_STEPS = 127
LEVEL_FRAME = 320  # samples, 20 ms at 16 kHz
SPEECH_BELOW_LOUD_DB = 25.0  # frames this far below the loud ones are pauses
SLOPE_HZ = 100.0  # width of a band's edges
_LEAST = 1e-9  # a level that nothing is divided by less than


def speech_level(pcm: Tensor, lengths: Tensor) -> Tensor:
    """RMS [n, 1] of the frames of 320 samples that are spoken in each row [n, samples], as far as energy tells: pauses,
    silence and what is behind `lengths` [n] don't count. 1e-9 for silence.
    """
    energy = pcm.unfold(1, LEVEL_FRAME, LEVEL_FRAME).square().mean(2)
    inside = torch.arange(energy.shape[1], device=pcm.device) < (lengths // LEVEL_FRAME)[:, None]
    loud = torch.where(inside & (energy > 0), energy, math.nan).nanquantile(0.9, dim=1, keepdim=True).nan_to_num(0.0)
    spoken = inside & (energy >= loud * 10 ** (-SPEECH_BELOW_LOUD_DB / 10))
    mean: Tensor = (energy * spoken).sum(1, keepdim=True) / spoken.sum(1, keepdim=True).clamp(min=1)
    return mean.sqrt() + _LEAST


def colored(spectrum: Tensor, exponent: Tensor, samples: int) -> Tensor:
    """Noise [n, samples] whose power falls with frequency as f^-exponent, `exponent` [n, 1]: 0 white, 1 pink, 2 brown.

    `spectrum` complex [n, bins]: of white noise of at least as many samples.
    """
    bins = torch.arange(spectrum.shape[1], device=spectrum.device).clamp(min=1.0)
    wave: Tensor = torch.fft.irfft(spectrum * bins ** (-exponent / 2))[:, :samples]
    return wave


def hum(base_hz: Tensor, amplitudes: Tensor, phases: Tensor, samples: int) -> Tensor:
    """Hum [n, samples] of mains at `base_hz` [n, 1]: harmonics of `amplitudes` over their order and `phases` in radians,
    both [n, harmonics].
    """
    turns = base_hz * (torch.arange(samples, device=base_hz.device) / SAMPLE_RATE)
    wave = torch.zeros_like(turns)
    for index in range(amplitudes.shape[1]):
        harmonic, at = index + 1, slice(index, index + 1)
        wave += amplitudes[:, at] / harmonic * torch.sin(2 * math.pi * harmonic * turns + phases[:, at])
    return wave


def unit_power(wave: Tensor, said: Tensor) -> Tensor:
    """Rows [n, samples] with an RMS of one where `said` [n, samples], and silent elsewhere."""
    wave = wave * said
    power = wave.square().sum(1, keepdim=True) / said.sum(1, keepdim=True).clamp(min=1)
    return wave / power.sqrt().clamp(min=_LEAST)


def in_room(pcm: Tensor, noise: Tensor, rt60_sec: Tensor, wet: Tensor) -> Tensor:
    """Rows [n, samples] with a room behind them, as loud as before.

    The room answers the direct path with white `noise` [n, tail] that falls by 60 dB in `rt60_sec` [n, 1] and is then over;
    its size is `wet` [n, 1] times the direct path's.
    """
    along = torch.arange(noise.shape[1], device=pcm.device) / (rt60_sec * SAMPLE_RATE)
    response = noise * 10 ** (-3.0 * along) * (along < 1.0)
    response = response * (wet / response.norm(dim=1, keepdim=True))
    response[:, 0] = 1.0
    size = fast_length(pcm.shape[1] + response.shape[1])
    heard = torch.fft.irfft(torch.fft.rfft(pcm, size) * torch.fft.rfft(response, size), size)[:, : pcm.shape[1]]
    as_loud: Tensor = heard * (pcm.norm(dim=1, keepdim=True) / heard.norm(dim=1, keepdim=True).clamp(min=_LEAST))
    return as_loud


def at_speed(pcm: Tensor, speed: Tensor, samples: int) -> Tensor:
    """Rows [n, any] played `speed` [n, 1], float64, times faster, by linear interpolation: [n, samples]. Pitch and formants
    move along.
    """
    read = torch.arange(samples, device=pcm.device) * speed
    low = read.floor().clamp(max=max(0, pcm.shape[1] - 2))
    share = (read - low).clamp(max=1.0).to(pcm.dtype)
    at = low.long()
    return torch.lerp(pcm.gather(1, at), pcm.gather(1, (at + 1).clamp(max=pcm.shape[1] - 1)), share)


def telephone(pcm: Tensor) -> Tensor:
    """What a telephone leaves of rows [n, samples]: 300-3400 Hz, sampled at 8 kHz, mu-law. Same length."""
    step = SAMPLE_RATE // TELEPHONE_RATE
    stuffed = torch.zeros_like(pcm)
    stuffed[:, ::step] = mu_law_round_trip(band_limit(pcm, *TELEPHONE_BAND_HZ)[:, ::step]) * step
    return band_limit(stuffed, 0.0, TELEPHONE_RATE / 2 - 200.0)


def mu_law_round_trip(pcm: Tensor) -> Tensor:
    """Quantized to the sign and seven bits of G.711's mu-law curve and back; silence stays silent."""
    compressed = torch.log1p(MU * pcm.abs().clamp(max=1.0)) / math.log1p(MU)
    quantized = (compressed * MU_LAW_STEPS).round() / MU_LAW_STEPS
    return pcm.sign() * torch.expm1(quantized * math.log1p(MU)) / MU


def band_limit(pcm: Tensor, low_hz: float, high_hz: float) -> Tensor:
    """The band from `low_hz` to `high_hz` of rows [n, samples], with 100 Hz wide slopes."""
    size = fast_length(pcm.shape[1])
    hertz = torch.arange(size // 2 + 1, device=pcm.device) * (SAMPLE_RATE / size)
    kept = ((hertz - low_hz) / SLOPE_HZ + 1.0).clamp(0, 1) * ((high_hz - hertz) / SLOPE_HZ + 1.0).clamp(0, 1)
    band: Tensor = torch.fft.irfft(torch.fft.rfft(pcm, size) * kept, size)[:, : pcm.shape[1]]
    return band


@functools.lru_cache(maxsize=4096)
def fast_length(samples: int) -> int:
    """The next length of the form 2^a * {1, 1.25, 1.5}, on which the FFT is fast."""
    size = 1024
    while True:
        for numerator in (4, 5, 6):
            if size * numerator // 4 >= samples:
                return size * numerator // 4
        size *= 2
