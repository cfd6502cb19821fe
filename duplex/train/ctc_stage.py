"""Stage 2: CTC pre-training of the speech encoder (Graves et al. 2006), over characters first, then over pieces too.

Fast speech has more than twenty characters a second and the encoder 25 frames, so that characters alone are hardly
learned; the LLM's pieces come five a second, but CTC over them does not leave its plateau from nothing.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.audio.features import CARRY_SAMPLES, CHUNK_SAMPLES, MEL_BINS, NEW_FRAMES, OVERLAP_FRAMES, fbank
from duplex.core.words import word_errors
from duplex.model.encoder import EncoderDims, SpeechEncoder
from duplex.train.augment import augment
from duplex.train.corpus import Utterance
from duplex.train.loop import LoopOptions, fresh, steps_done, train
from duplex.train.workers import in_processes

SYMBOLS = " abcdefghijklmnopqrstuvwxyz'"
BLANK_ID = 0  # CTC blank; characters and pieces follow from 1
CHARACTER_WEIGHT = 0.3  # beside 1 for pieces
CLEAN_STEPS = 400
AUGMENTED_SHARE = 0.7  # of the utterances, once augmentation has come in
STRENGTH = 1.1
MASKED_SHARE = 0.3  # of the batches
VARIED_SHARE = 0.9  # of the utterances get another vocal tract and microphone
WARP_MOST = 1.15  # largest factor between frequencies, at the lowest and, drawn apart, at the highest
WARP_STEPS = 8  # factors up and down
COLOUR_ORDERS = 6  # cosines of the random frequency response,
COLOUR_NATS = 0.4  # each with an amplitude of this deviation
CONTRAST_MOST = 0.7  # of the detail between neighbours, over frequencies and over frames, that is added or lost
PACE_MOST = 1.3  # largest factor between the paces inside of an utterance
PACE_FRAMES = 30  # between two changes of pace
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0  # of the fbank
MAX_LEAD_SAMPLES = 8000
MAX_TAIL_SAMPLES = 12000


def characters(text: str) -> list[int]:
    """CTC ids of a text; what SYMBOLS lacks is left out."""
    return [SYMBOLS.index(letter) + 1 for letter in text.lower() if letter in SYMBOLS]


def spelled(ids: Sequence[int]) -> str:
    """Text of CTC ids."""
    return "".join(SYMBOLS[i - 1] for i in ids)


def stream_features(pcm: np.ndarray) -> Tensor:
    """What the encoder sees of a recording that starts with the stream: float32 [n] -> [3 + 16 * chunks, 80].

    The first three frames are literal zeros (fixture quirk 1); the end is padded with silence to a whole chunk.
    """
    chunks = -(-len(pcm) // CHUNK_SAMPLES)
    padded = np.pad(pcm.astype(np.float32), (CARRY_SAMPLES, chunks * CHUNK_SAMPLES - len(pcm)))
    return torch.cat([torch.zeros(OVERLAP_FRAMES, MEL_BINS), fbank(padded)])


def pad_features(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Batch of features padded with quiet frames to the longest: [batch, frames, 80], and encoder frames of each."""
    longest = max(len(row) for row in rows)
    batch = torch.stack([F.pad(row, (0, 0, 0, longest - len(row)), value=0.0) for row in rows])
    return batch, torch.tensor([(len(row) - OVERLAP_FRAMES) // NEW_FRAMES * 4 for row in rows])


def mask_features(features: Tensor, rng: random.Random, fill: Tensor) -> Tensor:
    """SpecAugment (arXiv 1904.08779): two bands and two stretches per row replaced by the mean frame."""
    features = features.clone()
    for row in features:
        for _ in range(2):
            width, height = rng.randint(0, 10), rng.randint(0, 12)
            start, low = rng.randint(0, max(0, len(row) - width)), rng.randint(0, MEL_BINS - height)
            row[start : start + width] = fill
            row[:, low : low + height] = fill[low : low + height]
    return features


def vary_voice(features: Tensor, rng: random.Random) -> Tensor:
    """Another vocal tract, microphone and synthesizer for features [frames, 80]: the frequency axis is stretched (VTLP,
    Jaitly and Hinton 2013), a smooth random curve added, and detail in frequency and time sharpened or blurred. Frames
    of literal zeros (fixture quirk 1) stay zero.
    """
    if rng.random() > VARIED_SHARE:
        return features
    warped = features @ _warp(*(round(rng.uniform(-1.0, 1.0) * WARP_STEPS) for _ in range(2)))
    bins = torch.linspace(0.0, math.pi, MEL_BINS)
    for order in range(1, COLOUR_ORDERS + 1):
        warped = warped + torch.cos(order * bins) * rng.gauss(0.0, COLOUR_NATS)
    for axis in (0, 1):
        warped = warped + rng.uniform(-CONTRAST_MOST, CONTRAST_MOST) * (warped - _smooth(warped, axis))
    spoken = features.abs().amax(dim=1, keepdim=True) > 0
    return torch.where(spoken, warped, features)


def _smooth(features: Tensor, axis: int) -> Tensor:
    """The mean of every value and its four neighbours along an axis."""
    rows = features.T if axis == 0 else features
    smooth = F.avg_pool1d(rows[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    return smooth.T if axis == 0 else smooth


def vary_pace(features: Tensor, rng: random.Random) -> Tensor:
    """Features [3 + n, 80] of the same length, said now faster, now slower: other durations of the same sounds."""
    if rng.random() > VARIED_SHARE:
        return features
    frames = features[OVERLAP_FRAMES:]
    changes = max(2, len(frames) // PACE_FRAMES)
    paces = np.array([PACE_MOST ** rng.uniform(-1.0, 1.0) for _ in range(changes)])
    read = np.concatenate([[0.0], paces.cumsum()]) * ((len(frames) - 1) / paces.sum())
    places = torch.from_numpy(np.interp(np.linspace(0, changes, len(frames)), np.arange(changes + 1), read)).float()
    low = places.floor().long().clamp(max=len(frames) - 2)
    share = (places - low)[:, None]
    return torch.cat([features[:OVERLAP_FRAMES], frames[low] * (1 - share) + frames[low + 1] * share])


@functools.cache
def _warp(low_step: int, high_step: int) -> Tensor:
    """Matrix [80, 80] that reads every mel bin of features at another frequency, by linear interpolation.

    The factor between the two goes from that of `low_step` at the lowest bin to that of `high_step` at the highest.
    """
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


class CtcHeads(nn.Module):
    """Two linear CTC heads on one encoder output: characters and pieces."""

    def __init__(self, dim: int, vocabulary: int) -> None:
        super().__init__()
        self.characters = nn.Linear(dim, len(SYMBOLS) + 1)
        self.pieces = nn.Linear(dim, vocabulary + 1)

    def log_probs(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Of characters [batch, frames, symbols] and of pieces [batch, frames, vocabulary + 1], float32."""
        return (
            F.log_softmax(self.characters(encoded).float(), dim=-1),
            F.log_softmax(self.pieces(encoded).float(), dim=-1),
        )


class CtcModel(nn.Module):
    """Encoder and CTC heads."""

    def __init__(self, dims: EncoderDims, vocabulary: int) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(dims)
        self.heads = CtcHeads(dims.dim, vocabulary)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [batch, frames, 80] -> log-probabilities of characters and pieces, one row an encoder frame."""
        return self.heads.log_probs(self.encoder(features))


def ctc_loss(log_probs: Tensor, targets: Sequence[Sequence[int]], lengths: Tensor, blank: int = BLANK_ID) -> Tensor:
    """CTC loss of log_probs [batch, frames, symbols], of which `lengths` frames count; a target a row."""
    flat = torch.tensor([token for target in targets for token in target], dtype=torch.long)
    return F.ctc_loss(
        log_probs.transpose(0, 1), flat.to(log_probs.device), lengths,
        torch.tensor([len(target) for target in targets]), blank=blank, zero_infinity=True,
    )  # fmt: skip


def piece_targets(ids: Sequence[int]) -> list[int]:
    """CTC ids of a text's token ids."""
    return [i + 1 for i in ids]


def set_cmvn(encoder: SpeechEncoder, corpus: Sequence[Utterance], rng: random.Random) -> None:
    """Global mean and inverse deviation from 400 augmented utterances."""
    rows = []
    for utterance in rng.sample(list(corpus), min(400, len(corpus))):
        pcm = augment(utterance.pcm.astype(np.float32) / 32768.0, rng, 1.0)
        rows.append(stream_features(pcm)[OVERLAP_FRAMES:])
    frames = torch.cat(rows)
    encoder.global_cmvn.mean.copy_(frames.mean(0))
    encoder.global_cmvn.istd.copy_(1.0 / frames.std(0).clamp(min=1e-3))


def placed(utterance: Utterance, rng: random.Random, strength: float = 1.0) -> np.ndarray:
    """An utterance with silence around it, then augmented."""
    pcm = utterance.pcm.astype(np.float32) / 32768.0
    pcm = np.pad(pcm, (rng.randint(0, MAX_LEAD_SAMPLES), rng.randint(1600, MAX_TAIL_SAMPLES)))
    return augment(pcm, rng, strength) if strength else pcm


def batches(
    corpus: Sequence[Utterance], seconds: float, seed: int, start: int = 0, stride: int = 1
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Endless batches of about `seconds` of audio: features, frame lengths, texts.

    The first CLEAN_STEPS batches are not augmented, the next as many more and more; `start`: batches already seen, of
    which each of these counts for `stride`, as so many processes make them.
    """
    rng = random.Random(seed)
    order = list(range(len(corpus)))
    made = start
    while True:
        rng.shuffle(order)
        for at in range(0, len(order), 256):
            block = sorted(order[at : at + 256], key=lambda i: len(corpus[i].pcm))
            groups: list[list[int]] = [[]]
            for index in block:
                if (len(groups[-1]) + 1) * (len(corpus[index].pcm) / 16000 + 1.2) > seconds:
                    groups.append([])
                groups[-1].append(index)
            rng.shuffle(groups)
            for group in (g for g in groups if g):
                ramp = min(1.0, max(0.0, (made - CLEAN_STEPS) / CLEAN_STEPS))
                made += stride
                strengths = [ramp * STRENGTH if rng.random() < AUGMENTED_SHARE else 0.0 for _ in group]
                rows = [stream_features(placed(corpus[i], rng, x)) for i, x in zip(group, strengths, strict=True)]
                features, lengths = pad_features([vary_voice(vary_pace(row, rng), rng) for row in rows])
                yield features, lengths, [corpus[i].text for i in group]


def greedy_tokens(log_probs: Tensor) -> list[int]:
    """Collapse the best path of one utterance [frames, symbols]."""
    best = log_probs.argmax(-1).tolist()
    return [token for i, token in enumerate(best) if token != BLANK_ID and (i == 0 or token != best[i - 1])]


@torch.inference_mode()
def word_error_rates(model: CtcModel, corpus: Sequence[Utterance], decode: Callable[[list[int]], str]) -> list[float]:
    """Greedy word errors of clean utterances, read from the characters and from the pieces."""
    wrong, words = [0, 0], 0
    for utterance in corpus:
        pcm = np.pad(utterance.pcm.astype(np.float32) / 32768.0, (3200, 6400))
        features = stream_features(pcm)[None].to(model.heads.pieces.weight.device)
        by_character, by_piece = (greedy_tokens(rows[0]) for rows in model(features))
        words += len(utterance.text.split())
        for which, text in enumerate((spelled(by_character), decode([i - 1 for i in by_piece]))):
            wrong[which] += word_errors(utterance.text, text)[0]
    return [w / words for w in wrong]


def run(
    corpus: Sequence[Utterance],
    held_out: Sequence[Utterance],
    folder: Path,
    dims: EncoderDims,
    tokenizer: Any,
    options: LoopOptions,
    seed: int,
    *,
    character_steps: int,
    device: str = "cpu",
    workers: int = 0,
    start_from: Callable[[CtcModel], None] = fresh,
) -> CtcModel:
    """Train, in the first `character_steps` on characters alone; `held_out` is scored every 500 steps."""
    torch.manual_seed(seed)

    model = CtcModel(dims, len(tokenizer))
    # The encoder multiplies its input by sqrt(dim); undone at the start, or the blocks would hardly be heard.
    nn.init.constant_(cast(nn.LayerNorm, model.encoder.transformer.embed[1]).weight, dims.dim**-0.5)
    if not (folder / "state.pt").exists():
        set_cmvn(model.encoder, corpus, random.Random(seed))
        start_from(model)
    model.to(device)
    rng = random.Random(seed + 1)
    start = steps_done(folder)
    steps = itertools.count(start)

    def loss_of(batch: Any) -> dict[str, Tensor]:
        features, lengths, texts = batch
        if rng.random() < MASKED_SHARE:
            features = mask_features(features, rng, model.encoder.global_cmvn.mean.cpu())
        by_character, by_piece = model(features.to(device))
        letters = ctc_loss(by_character, [characters(text) for text in texts], lengths)
        if next(steps) < character_steps:
            return {"loss": letters, "characters": letters}
        pieces = ctc_loss(
            by_piece, [piece_targets(tokenizer.encode(text, add_special_tokens=False)) for text in texts], lengths
        )
        return {"loss": pieces + CHARACTER_WEIGHT * letters, "characters": letters, "pieces": pieces}

    def evaluate() -> dict[str, float]:
        rates = word_error_rates(model, held_out[:100], tokenizer.decode)
        return dict(zip(("wer_characters", "wer_pieces"), rates, strict=True))

    def made(own_seed: int) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        return batches(corpus, 30.0, own_seed, start, max(1, workers))

    train(
        "ctc", model, in_processes(made, seed + start, workers), loss_of, folder, options, device=device,
        evaluate=evaluate, evaluate_every=500,
    )  # fmt: skip
    return model
