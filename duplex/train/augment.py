"""What happens to speech between a mouth and a server, and sounds that are not speech.

Everything takes and returns mono float32 `[samples]` at 16 kHz and draws from the given generator only; what is done to
the samples is in `duplex.train.effects`.
"""

import math
import random
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from duplex.train import effects
from duplex.train.effects import SAMPLE_RATE

Pcm = npt.NDArray[np.float32]

_PEAK = 0.99
# Shares of the recordings, at full strength, that go through a room, get noise, a telephone line, another speed:
ROOM_SHARE, NOISE_SHARE, TELEPHONE_SHARE, SPEED_SHARE = 0.35, 0.6, 0.2, 0.4
RT60_SEC = (0.1, 0.5)
WET = (0.2, 0.6)  # size of a room's response beside the direct path
FAINTEST_NOISE_DB, NOISE_RANGE_DB = 40.0, 32.0  # below the speech, and how much louder it gets
SPEED_SPREAD = 0.1
QUIETEST_PEAK_DB = -25.0
LOUD_NOISE = 1.5  # above one, loud noise is more frequent than soft
HUM_SHARE = 0.15  # of the steady noises; the others fall with frequency by one of these
NOISE_EXPONENTS = (0.0, 1.0, 1.0, 2.0)
HUM_HARMONICS = 7
_SILENT_PEAK = 1e-5  # below the last bit of 16-bit audio


def apply_gain(pcm: Pcm, gain_db: float) -> Pcm:
    """Scale by `gain_db`, clipping to [-1, 1]."""
    return _clipped(pcm * np.float32(10 ** (gain_db / 20)))


def rms(pcm: Pcm) -> float:
    """Root mean square amplitude; a tiny positive number for silence."""
    return float(np.sqrt(np.mean(np.square(pcm)))) + 1e-9 if len(pcm) else 1e-9


def speech_level(pcm: Pcm) -> float:
    """RMS of the frames of 320 samples that are spoken, as far as energy tells: pauses and silence don't count."""
    if len(pcm) < effects.LEVEL_FRAME:
        return rms(pcm)
    return float(effects.speech_level(_row(pcm), torch.tensor([len(pcm)])))


# --- background noise ---


def colored_noise(samples: int, rng: np.random.Generator, exponent: float) -> Pcm:
    """Noise whose power falls with frequency as f^-exponent: 0 white, 1 pink, 2 brown. RMS 1."""
    white = _row(rng.standard_normal(effects.fast_length(samples)))
    return _unit(_samples(effects.colored(torch.fft.rfft(white), torch.tensor([[exponent]]), samples)))


def hum(samples: int, rng: np.random.Generator) -> Pcm:
    """Mains hum at 50 or 60 Hz with harmonics. RMS 1."""
    base = torch.tensor([[float(rng.choice((50.0, 60.0)))]])
    amplitudes, phases = torch.from_numpy(rng.random((HUM_HARMONICS, 2))).T[:, None]
    return _unit(_samples(effects.hum(base, 0.1 + 0.9 * amplitudes, 2 * math.pi * phases, samples)))


def background(samples: int, rng: np.random.Generator) -> Pcm:
    """One random kind of steady noise. RMS 1."""
    if rng.random() < HUM_SHARE:
        return hum(samples, rng)
    return colored_noise(samples, rng, float(rng.choice(NOISE_EXPONENTS)))


def add_at_snr(pcm: Pcm, noise: Pcm, snr_db: float) -> Pcm:
    """Add unit-RMS `noise` of the same length so that speech, where there is some, is `snr_db` louder, clipping to
    [-1, 1].
    """
    return _clipped(pcm + noise * np.float32(speech_level(pcm) * 10 ** (-snr_db / 20)))


# --- room, telephone, speed ---


def reverberate(pcm: Pcm, rng: np.random.Generator, rt60_sec: float) -> Pcm:
    """Convolve with decaying noise that falls by 60 dB in `rt60_sec` after a direct path; same length and level."""
    noise = _row(rng.standard_normal(max(1, int(rt60_sec * SAMPLE_RATE))))
    wet = torch.tensor([[rng.uniform(*WET)]])
    return _clipped(_samples(effects.in_room(_row(pcm), noise, torch.tensor([[rt60_sec]]), wet)))


def change_speed(pcm: Pcm, factor: float) -> Pcm:
    """Play back `factor` times faster by resampling; pitch and formants move along. Length becomes len / factor."""
    speed = torch.tensor([[factor]], dtype=torch.float64)
    return _samples(effects.at_speed(_row(pcm), speed, round(len(pcm) / factor)))


def telephone(pcm: Pcm) -> Pcm:
    """What a telephone leaves: 300-3400 Hz, sampled at 8 kHz, mu-law. Same length."""
    return _samples(effects.telephone(_row(pcm)))


def band_limit(pcm: Pcm, low_hz: float, high_hz: float) -> Pcm:
    """Keep the band from `low_hz` to `high_hz` with 100 Hz wide slopes."""
    return _samples(effects.band_limit(_row(pcm), low_hz, high_hz))


def degrade(pcm: Pcm, rng: np.random.Generator, strength: float = 1.0) -> Pcm:
    """Add a room, noise and a telephone line at random; length stays and the level about so, for timed labels."""
    if rng.random() < ROOM_SHARE * strength:
        pcm = reverberate(pcm, rng, float(rng.uniform(*RT60_SEC)))
    if rng.random() < NOISE_SHARE * strength:
        snr_db = FAINTEST_NOISE_DB - NOISE_RANGE_DB * strength * (1.0 - float(rng.random()) ** LOUD_NOISE)
        pcm = add_at_snr(pcm, background(len(pcm), rng), snr_db)
    if rng.random() < TELEPHONE_SHARE * strength:
        pcm = telephone(pcm)
    return pcm


def augment(pcm: Pcm, rng: np.random.Generator | random.Random, strength: float = 1.0) -> Pcm:
    """Degrade clean speech at random; `strength` 0 leaves it alone, 1 is a noisy room over a telephone at worst.

    Speed perturbation (0.9-1.1) changes the length. The peak ends between -25 and 0 dB of full scale.
    """
    if isinstance(rng, random.Random):
        rng = np.random.default_rng(rng.getrandbits(64))
    if strength <= 0 or len(pcm) == 0:
        return pcm
    if rng.random() < SPEED_SHARE * strength:
        spread = SPEED_SPREAD * strength
        pcm = change_speed(pcm, float(rng.uniform(1 - spread, 1 + spread)))
    return apply_gain(with_peak(degrade(pcm, rng, strength), 1.0), float(rng.uniform(QUIETEST_PEAK_DB * strength, 0.0)))


def with_peak(pcm: Pcm, peak: float) -> Pcm:
    """Scale so that the largest magnitude is `peak`; silence stays silent."""
    loudest = float(np.max(np.abs(pcm), initial=0.0))
    return pcm * np.float32(peak / loudest) if loudest > _SILENT_PEAK else pcm


# --- events that are not speech ---


def cough(rng: np.random.Generator) -> Pcm:
    """One to three bursts of throat noise."""
    return np.concatenate([_burst(rng, rng.uniform(0.12, 0.3), 400.0, 2500.0) for _ in range(int(rng.integers(1, 4)))])


def knocks(rng: np.random.Generator) -> Pcm:
    """Two to five knocks on wood: damped low resonances."""
    base_hz = float(rng.uniform(90, 260))
    return _repeated(rng, int(rng.integers(2, 6)), lambda: _ping(rng, base_hz, 0.09), (0.08, 0.25))


def clicks(rng: np.random.Generator) -> Pcm:
    """One to four mouse clicks or lip smacks."""
    return _repeated(
        rng, int(rng.integers(1, 5)), lambda: _ping(rng, float(rng.uniform(1500, 4000)), 0.012), (0.06, 0.3)
    )


def keyboard(rng: np.random.Generator) -> Pcm:
    """A run of key presses with uneven gaps."""
    return _repeated(
        rng, int(rng.integers(5, 16)), lambda: _ping(rng, float(rng.uniform(900, 3000)), 0.02), (0.04, 0.18)
    )


def breath(rng: np.random.Generator) -> Pcm:
    """Breathing in or out: softly swelling noise."""
    samples = int(rng.uniform(0.4, 1.2) * SAMPLE_RATE)
    swell = np.sin(np.pi * np.arange(samples) / samples) ** 2
    return _peaked(band_limit(colored_noise(samples, rng, 1.0), 500.0, 4500.0) * swell, rng.uniform(0.05, 0.2))


def door(rng: np.random.Generator) -> Pcm:
    """A door or a dropped object: one heavy thump."""
    return _peaked(_ping(rng, float(rng.uniform(50, 110)), 0.25) + 0.3 * _ping(rng, 400.0, 0.25), rng.uniform(0.4, 0.9))


def noise_burst(rng: np.random.Generator) -> Pcm:
    """Rustling or a passing car: a second or so of shaped noise."""
    samples = int(rng.uniform(0.3, 1.5) * SAMPLE_RATE)
    edges = np.clip(np.minimum(np.arange(samples), np.arange(samples)[::-1]) / (0.08 * SAMPLE_RATE), 0, 1)
    return _peaked(colored_noise(samples, rng, float(rng.uniform(0, 2))) * edges, rng.uniform(0.1, 0.5))


def humming(rng: np.random.Generator) -> Pcm:
    """A listener's "mm" or "mm-hm" with closed lips, which speech engines don't know: one or two gliding tones through
    a nose.
    """
    base_hz = float(np.exp(rng.uniform(np.log(80.0), np.log(270.0))))
    poles = [
        (rng.uniform(200, 330), 60.0, 1.0),
        (rng.uniform(850, 1250), 120.0, 0.12),
        (rng.uniform(1900, 2700), 200.0, 0.05),
    ]
    two = rng.random() < 0.6
    parts = [
        _hummed(rng, base_hz * rng.uniform(0.8, 1.1), rng.uniform(0.09, 0.22) if two else rng.uniform(0.18, 0.6), poles)
    ]
    if two:
        gap = int(rng.uniform(0.02, 0.12) * SAMPLE_RATE)
        breathed = band_limit(colored_noise(gap, rng, 1.0), 300.0, 4000.0) * np.float32(rng.uniform(0.0, 0.02))
        parts += [breathed, _hummed(rng, base_hz * rng.uniform(0.9, 1.4), rng.uniform(0.14, 0.4), poles)]
    return _peaked(np.concatenate(parts), rng.uniform(0.3, 0.9))


EVENT_MAKERS: Mapping[str, Callable[[np.random.Generator], Pcm]] = {
    "cough": cough,
    "knocks": knocks,
    "clicks": clicks,
    "keyboard": keyboard,
    "breath": breath,
    "door": door,
    "noise_burst": noise_burst,
}


def _burst(rng: np.random.Generator, duration_sec: float, low_hz: float, high_hz: float) -> Pcm:
    samples = int(duration_sec * SAMPLE_RATE)
    time = np.arange(samples) / samples
    envelope = np.exp(-5.0 * time) * np.clip(time / 0.04, 0, 1)
    # A little voicing under the noise, as throats have it.
    voicing = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 180) * np.arange(samples) / SAMPLE_RATE)
    noise = band_limit(colored_noise(samples, rng, 0.7), low_hz, high_hz)
    return _peaked((noise + voicing) * envelope, rng.uniform(0.3, 0.9))


def _hummed(
    rng: np.random.Generator, pitch_hz: float, duration_sec: float, poles: list[tuple[float, float, float]]
) -> Pcm:
    """One voiced sound whose pitch glides by up to a fifth; `poles`: frequency, width and weight of resonances."""
    samples = int(duration_sec * SAMPLE_RATE)
    along = np.linspace(0.0, 1.0, samples)
    bend = rng.uniform(-0.15, 0.15) * np.sin(np.pi * along)
    wobble = np.interp(along, np.linspace(0.0, 1.0, 12), rng.normal(0.0, 0.012, 12))
    pitch = pitch_hz * 2 ** (rng.uniform(-0.6, 0.6) * (along - 0.5) + bend + wobble)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    wave = np.zeros(samples)
    for harmonic in range(1, int(3500 / pitch_hz)):
        frequency = harmonic * pitch_hz
        passed = sum(weight / (1 + ((frequency - at) / width) ** 2) for at, width, weight in poles)
        wave += (passed + 0.01) * harmonic**-0.5 * np.sin(harmonic * phase + rng.uniform(0, 6.28))
    attack, release = rng.uniform(0.15, 0.4), rng.uniform(0.25, 0.6)
    envelope = np.minimum(1.0, np.minimum(along / attack, (1.0 - along) / release))
    hummed: Pcm = (_unit(wave) * np.sin(np.pi / 2 * envelope) ** 2).astype(np.float32)
    return hummed


def _ping(rng: np.random.Generator, frequency_hz: float, decay_sec: float) -> Pcm:
    samples = max(32, int(4 * decay_sec * SAMPLE_RATE))
    time = np.arange(samples) / SAMPLE_RATE
    ring = np.sin(2 * np.pi * frequency_hz * time) + 0.5 * np.sin(
        2 * np.pi * frequency_hz * rng.uniform(1.5, 2.8) * time
    )
    return _peaked((ring + 0.4 * rng.standard_normal(samples)) * np.exp(-time / decay_sec), rng.uniform(0.2, 0.8))


def _repeated(rng: np.random.Generator, times: int, make: Callable[[], Pcm], gap_sec: tuple[float, float]) -> Pcm:
    parts = []
    for _ in range(times):
        parts += [make(), np.zeros(int(rng.uniform(*gap_sec) * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts[:-1])


def _clipped(wave: npt.NDArray[np.floating]) -> Pcm:
    clipped: Pcm = np.clip(wave, -1.0, 1.0).astype(np.float32)
    return clipped


def _peaked(wave: npt.NDArray[np.floating], peak: float) -> Pcm:
    scaled: Pcm = (wave * (peak * _PEAK / (np.max(np.abs(wave)) + 1e-9))).astype(np.float32)
    return scaled


def _unit(wave: npt.NDArray[np.floating]) -> Pcm:
    scaled: Pcm = (wave / (np.sqrt(np.mean(np.square(wave))) + 1e-9)).astype(np.float32)
    return scaled


def _row(pcm: npt.NDArray[np.floating]) -> Tensor:
    """A batch of one row: float32 [1, samples]."""
    return torch.from_numpy(np.asarray(pcm, np.float32))[None]


def _samples(row: Tensor) -> Pcm:
    """The samples of a batch of one row."""
    pcm: Pcm = row[0].numpy().astype(np.float32)
    return pcm
