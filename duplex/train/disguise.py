"""Speech as another throat would say it, through a room, a line and a microphone: whole batches, on the model's device.

What happens to every row is drawn where the batch is made (`draw_disguise`); the rest is tensor work (`disguised`), on a GPU some
thousands of utterances a second, on a CPU as many as one by one. Noises and rooms come from torch's own generator.
`duplex.train.augment` does the same to single recordings, and says how much of it; what is done is in
`duplex.train.effects`.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from duplex.audio.features import CHUNK_SAMPLES, MEL_BINS, NEW_FRAMES, OVERLAP_FRAMES, stream_fbank
from duplex.train import augment, effects

AUGMENTED_SHARE = 0.7  # of the utterances, once augmentation has come in
STRENGTH = 1.1
VARIED_SHARE = 0.9  # of the utterances get another vocal tract and microphone, as many another pace
WARP_MOST = 1.15  # largest factor between frequencies, at the lowest and, drawn apart, at the highest
WARP_STEPS = 8  # factors up and down
COLOUR_ORDERS = 6  # cosines of the random frequency response,
COLOUR_NATS = 0.4  # each with an amplitude of this deviation
CONTRAST_MOST = 0.7  # of the detail between neighbours, over frequencies and over frames, that is added or lost
PACE_MOST = 1.3  # largest factor between the paces inside of an utterance
PACE_FRAMES = 30  # between two changes of pace
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0  # of the fbank
MAX_LEAD_SAMPLES = 8000  # of silence before an utterance
MIN_TAIL_SAMPLES, MAX_TAIL_SAMPLES = 1600, 12000  # and behind it
MASKS = 2  # bands and stretches of SpecAugment
MASK_FRAMES, MASK_BINS = 10, 12  # at most

Rows = npt.NDArray[np.float64]


@dataclass
class Voices:
    """Another vocal tract, microphone and synthesizer for every row of a batch.

    warp [batch]: number of a matrix of `_warps`, -1 for none; colour [batch, orders]: amplitudes of cosines over frequency;
    contrast [batch, 2]: share of the detail over time and over frequency that is added.
    """

    warp: npt.NDArray[np.int64]
    colour: Rows
    contrast: Rows


@dataclass
class Disguise:
    """What happens to every row of a batch; arrays on the CPU, one entry a row.

    speed 1, rt60_sec 0, snr_db inf and telephone False leave a row alone. exponent: of the noise's power over frequency,
    negative for mains hum. gain_db is behind a peak of one; nan: the level stays. places [batch, frames]: where each frame
    is read. masks [batch, 2, 4]: first frame, frames, first bin, bins, where the batch is masked.
    """

    speed: Rows
    rt60_sec: Rows
    wet: Rows
    snr_db: Rows
    exponent: Rows
    telephone: npt.NDArray[np.bool_]
    gain_db: Rows
    places: npt.NDArray[np.float32]
    voices: Voices
    masks: npt.NDArray[np.int64] | None = None


@dataclass
class Clips:
    """Utterances as they were said, and their disguise.

    pcm int16 [batch, samples] at 16 kHz with silence around each; lengths: samples of each once its speed is changed.
    """

    pcm: Tensor
    lengths: npt.NDArray[np.int64]
    disguise: Disguise = field(repr=False)

    @property
    def encoder_frames(self) -> list[int]:
        """Frames of 40 ms that the encoder makes of each."""
        return [4 * -(-int(length) // CHUNK_SAMPLES) for length in self.lengths]

    def to(self, device: torch.device | str) -> Clips:
        """The same with its samples there."""
        return replace(self, pcm=self.pcm.to(device, non_blocking=True))

    def pin_memory(self) -> Clips:
        """The same where a GPU fetches it from without waiting; torch's loader asks for it."""
        return replace(self, pcm=self.pcm.pin_memory())


def placed(said: Sequence[npt.NDArray[np.int16]], strengths: Sequence[float], rng: random.Random) -> Clips:
    """Utterances [samples] with silence around each, and a disguise drawn for each.

    `strengths`: 0 leaves the recording alone, 1 is a noisy room over a telephone at worst; voice and pace vary anyway.
    """
    rows = []
    for pcm in said:
        lead, tail = rng.randint(0, MAX_LEAD_SAMPLES), rng.randint(MIN_TAIL_SAMPLES, MAX_TAIL_SAMPLES)
        rows.append(np.pad(pcm, (lead, tail)))
    batch = np.zeros((len(rows), max(map(len, rows))), np.int16)
    for row, pcm in zip(batch, rows, strict=True):
        row[: len(pcm)] = pcm
    lengths = np.array([len(row) for row in rows])
    disguise, lengths = draw_disguise(lengths, np.asarray(strengths, float), np.random.default_rng(rng.getrandbits(64)))
    return Clips(torch.from_numpy(batch), lengths, disguise)


def draw_disguise(
    lengths: npt.NDArray[np.int64], strengths: Rows, rng: np.random.Generator
) -> tuple[Disguise, npt.NDArray[np.int64]]:
    """A disguise for rows of so many samples, and how many they have then."""
    count = len(lengths)

    def chance(share: float) -> npt.NDArray[np.bool_]:
        return rng.random(count) < share * strengths

    spread = augment.SPEED_SPREAD * strengths
    speed = np.where(chance(augment.SPEED_SHARE), rng.uniform(1.0 - spread, 1.0 + spread), 1.0)
    lengths = np.round(lengths / speed).astype(np.int64)
    louder = 1.0 - rng.random(count) ** augment.LOUD_NOISE
    snr = augment.FAINTEST_NOISE_DB - augment.NOISE_RANGE_DB * strengths * louder
    exponent = np.where(rng.random(count) < augment.HUM_SHARE, -1.0, rng.choice(augment.NOISE_EXPONENTS, count))
    disguise = Disguise(
        speed=speed,
        rt60_sec=np.where(chance(augment.ROOM_SHARE), rng.uniform(*augment.RT60_SEC, count), 0.0),
        wet=rng.uniform(*augment.WET, count),
        snr_db=np.where(chance(augment.NOISE_SHARE), snr, np.inf),
        exponent=exponent,
        telephone=chance(augment.TELEPHONE_SHARE),
        gain_db=np.where(strengths > 0, rng.uniform(augment.QUIETEST_PEAK_DB * strengths, 0.0), np.nan),
        places=_paces(-(-lengths // CHUNK_SAMPLES) * NEW_FRAMES, rng),
        voices=draw_voices(count, rng),
    )
    return disguise, lengths


def draw_voices(count: int, rng: np.random.Generator) -> Voices:
    """Voices for so many rows, some of them their own."""
    varied = rng.random(count) < VARIED_SHARE
    steps = np.rint(rng.uniform(-1.0, 1.0, (count, 2)) * WARP_STEPS).astype(np.int64) + WARP_STEPS
    return Voices(
        warp=np.where(varied, steps[:, 0] * (2 * WARP_STEPS + 1) + steps[:, 1], -1),
        colour=rng.normal(0.0, COLOUR_NATS, (count, COLOUR_ORDERS)) * varied[:, None],
        contrast=rng.uniform(-CONTRAST_MOST, CONTRAST_MOST, (count, 2)) * varied[:, None],
    )


def with_masks(clips: Clips, rng: random.Random) -> Clips:
    """SpecAugment (arXiv 1904.08779) as well: two bands and two stretches of every row become the mean frame."""
    draw = np.random.default_rng(rng.getrandbits(64))
    shape = (len(clips.lengths), MASKS)
    frames, bins = draw.integers(0, MASK_FRAMES + 1, shape), draw.integers(0, MASK_BINS + 1, shape)
    first = draw.integers(0, OVERLAP_FRAMES + clips.disguise.places.shape[1] - frames + 1)
    masks = np.stack([first, frames, draw.integers(0, MEL_BINS - bins + 1), bins], axis=-1)
    return replace(clips, disguise=replace(clips.disguise, masks=masks))


def _paces(frames: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Where every frame is read so that rows of so many are said now faster, now slower, and last as long."""
    places = np.tile(np.arange(frames.max(), dtype=np.float32), (len(frames), 1))
    for row, count in zip(places, frames, strict=True):
        if rng.random() < VARIED_SHARE:
            changes = max(2, int(count) // PACE_FRAMES)
            paces = PACE_MOST ** rng.uniform(-1.0, 1.0, changes)
            read = np.concatenate([[0.0], paces.cumsum()]) * ((count - 1) / paces.sum())
            row[:count] = np.interp(np.linspace(0, changes, count), np.arange(changes + 1), read)
    return places


def made_for(device: str, clips: Clips, fill: Tensor) -> Tensor | Clips:
    """What is handed to a model there: on a CPU features, as workers make them; a GPU makes them faster itself."""
    return disguised(clips, fill) if device == "cpu" else clips


def features_on(device: torch.device | str, heard: Tensor | Clips, fill: Tensor) -> Tensor:
    """Features [batch, frames, 80] there, of clips as by `disguised`."""
    there = heard.to(device)
    return disguised(there, fill) if isinstance(there, Clips) else there


@torch.no_grad()
def disguised(clips: Clips, fill: Tensor) -> Tensor:
    """Features [batch, 3 + 16 * chunks, 80] of the clips in their disguise, on the device that their samples are on.

    The first three frames, and those behind the last chunk of a row, are literal zeros (fixture quirk 1). `fill` [80]
    stands where a mask is.
    """
    how, device = clips.disguise, clips.pcm.device
    with torch.autocast(device.type, enabled=False):
        features = stream_fbank(_recorded(clips)).float()
        frames = torch.from_numpy(-(-clips.lengths // CHUNK_SAMPLES) * NEW_FRAMES).to(device)
        spoken = torch.arange(features.shape[1], device=device) < frames[:, None]
        spoken = F.pad(spoken, (OVERLAP_FRAMES, 0))
        features = F.pad(_paced(features, how), (0, 0, OVERLAP_FRAMES, 0)) * spoken[..., None]
        features = vary_voices(features, how.voices)
        return features if how.masks is None else _masked(features, how.masks, fill.to(device))


def _recorded(clips: Clips) -> Tensor:
    """What a microphone at the end of all gets: float32 [batch, samples], in whole chunks."""
    how, device = clips.disguise, clips.pcm.device
    width = -(-int(clips.lengths.max()) // CHUNK_SAMPLES) * CHUNK_SAMPLES
    lengths = torch.from_numpy(clips.lengths).to(device)
    said = torch.arange(width, device=device) < lengths[:, None]

    def on(value: Rows, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(value[rows]).float()[:, None].to(device)

    def change(chosen: npt.NDArray[np.bool_], how_to: Callable[[Tensor, npt.NDArray[np.int64]], Tensor]) -> None:
        rows = chosen.nonzero()[0]
        if len(rows):
            where = torch.from_numpy(rows).to(device)
            pcm[where] = how_to(pcm[where], rows).clamp(-1.0, 1.0) * said[where]

    plain = clips.pcm.float() / 32768.0
    pcm = F.pad(plain, (0, max(0, width - plain.shape[1])))[:, :width]

    def resample(pcm: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        speed = torch.from_numpy(how.speed[rows])[:, None].to(device)
        return effects.at_speed(plain[torch.from_numpy(rows).to(device)], speed, width)

    def with_noise(pcm: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        where = torch.from_numpy(rows).to(device)
        noise = _noise(on(how.exponent, rows), said[where])
        return pcm + noise * effects.speech_level(pcm, lengths[where]) * 10 ** (-on(how.snr_db, rows) / 20)

    def gain(pcm: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        peak = pcm.abs().amax(1, keepdim=True).clamp(min=1e-5)
        return pcm / peak * 10 ** (on(how.gain_db, rows) / 20)

    change(how.speed != 1.0, resample)
    change(how.rt60_sec > 0, lambda pcm, rows: _in_room(pcm, on(how.rt60_sec, rows), on(how.wet, rows)))
    change(np.isfinite(how.snr_db), with_noise)
    change(how.telephone, lambda pcm, _: effects.telephone(pcm))
    change(np.isfinite(how.gain_db), gain)
    return pcm


def _in_room(pcm: Tensor, rt60_sec: Tensor, wet: Tensor) -> Tensor:
    """Rows [n, samples] in rooms drawn here; see `effects.in_room`."""
    noise = torch.randn(len(pcm), int(max(augment.RT60_SEC) * effects.SAMPLE_RATE), device=pcm.device)
    return effects.in_room(pcm, noise, rt60_sec, wet)


def _noise(exponent: Tensor, said: Tensor) -> Tensor:
    """Steady noise [n, samples], RMS 1 where `said` [n, samples], by exponents [n, 1]: see `augment.background`."""
    samples, device = said.shape[1], said.device
    bins = effects.fast_length(samples) // 2 + 1
    noise = effects.colored(torch.randn(len(said), bins, dtype=torch.complex64, device=device), exponent, samples)
    [hums] = (exponent[:, 0] < 0).nonzero(as_tuple=True)
    if len(hums):
        base = 50.0 + 10.0 * torch.randint(2, (len(hums), 1), device=device)
        amplitudes, phases = torch.rand(2, len(hums), augment.HUM_HARMONICS, device=device)
        noise[hums] = effects.hum(base, 0.1 + 0.9 * amplitudes, 2 * math.pi * phases, samples)
    return effects.unit_power(noise, said)


def _paced(features: Tensor, how: Disguise) -> Tensor:
    """Features [batch, frames, 80] read at `how.places`."""
    places = torch.from_numpy(how.places).to(features.device)
    low = places.floor().long().clamp(max=features.shape[1] - 2)
    at = low[..., None].expand(-1, -1, features.shape[2])
    return torch.lerp(features.gather(1, at), features.gather(1, at + 1), (places - low)[..., None])


def vary_voices(features: Tensor, voices: Voices) -> Tensor:
    """Features [batch, frames, 80] in other voices: the frequency axis is stretched (VTLP, Jaitly and Hinton 2013), a
    smooth random curve added, and detail in time and frequency sharpened or blurred. Frames of literal zeros (fixture
    quirk 1) stay zero.
    """
    device = features.device
    spoken = (features.abs().amax(dim=2, keepdim=True) > 0).float()
    colour, contrast = (torch.from_numpy(drawn).float().to(device) for drawn in (voices.colour, voices.contrast))
    warp = _warps(device)[torch.from_numpy(voices.warp).to(device)]
    varied = features @ warp + (colour @ _cosines(device))[:, None]
    counts = (_sums(spoken, 1), spoken * _sums(torch.ones_like(features[:1, :1]), 2))
    for axis, count in enumerate(counts, 1):
        smooth = _sums(varied * spoken, axis) / count.clamp(min=1.0)
        varied = varied + contrast[:, axis - 1, None, None] * (varied - smooth)
    return varied * spoken


def _sums(features: Tensor, axis: int) -> Tensor:
    """Every value of [batch, frames, bins] and its four neighbours along an axis, added: several times as fast on a CPU
    as torch's pooling.
    """
    size = features.shape[axis]
    padded = F.pad(features, (0, 0, 2, 2) if axis == 1 else (2, 2))
    total = padded.narrow(axis, 0, size) + padded.narrow(axis, 1, size)
    for offset in range(2, 5):
        total += padded.narrow(axis, offset, size)
    return total


def _masked(features: Tensor, masks: npt.NDArray[np.int64], fill: Tensor) -> Tensor:
    first, frames, low, bins = torch.from_numpy(masks).to(features.device)[..., None].unbind(2)
    at = torch.arange(features.shape[1], device=features.device)
    stretch = ((at >= first) & (at < first + frames)).any(1)
    at = torch.arange(MEL_BINS, device=features.device)
    band = ((at >= low) & (at < low + bins)).any(1)
    return torch.where(stretch[:, :, None] | band[:, None], fill, features)


@functools.lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    """Smooth curves over the mel bins: [orders, 80]."""
    orders = torch.arange(1, COLOUR_ORDERS + 1)[:, None]
    return torch.cos(orders * torch.linspace(0.0, math.pi, MEL_BINS)).to(device)


@functools.lru_cache(maxsize=4)
def _warps(device: torch.device) -> Tensor:
    """Matrices [n, 80, 80] that read every mel bin at another frequency, by linear interpolation; the last one at its own.

    The factor between the two goes from that of one step at the lowest bin to that of another at the highest.
    """
    steps = range(-WARP_STEPS, WARP_STEPS + 1)
    matrices = [_warp(low, high) for low in steps for high in steps]
    return torch.stack([*matrices, torch.eye(MEL_BINS)]).to(device)


def _warp(low_step: int, high_step: int) -> Tensor:
    mel = torch.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), MEL_BINS + 2)[1:-1]
    hertz = 700.0 * (torch.exp(mel / 1127.0) - 1.0)
    factors = WARP_MOST ** (torch.linspace(low_step, high_step, MEL_BINS) / WARP_STEPS)
    wanted = 1127.0 * torch.log1p(hertz * factors / 700.0)
    position = ((wanted - mel[0]) / (mel[1] - mel[0])).clamp(0, MEL_BINS - 1)
    low = position.floor().long().clamp(max=MEL_BINS - 2)
    share = position - low
    matrix = torch.zeros(MEL_BINS, MEL_BINS)
    columns = torch.arange(MEL_BINS)
    matrix[low, columns] = 1.0 - share
    matrix[low + 1, columns] += share
    return matrix


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)
