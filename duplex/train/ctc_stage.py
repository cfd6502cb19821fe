"""Stage 2: CTC pre-training of the speech encoder over characters (Graves et al. 2006)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.audio.features import CARRY_SAMPLES, CHUNK_SAMPLES, MEL_BINS, NEW_FRAMES, OVERLAP_FRAMES, fbank
from duplex.model.encoder import EncoderDims, SpeechEncoder
from duplex.train.augment import augment
from duplex.train.corpus import Utterance
from duplex.train.loop import LoopOptions, train

SYMBOLS = " abcdefghijklmnopqrstuvwxyz'"
BLANK_ID = 0  # CTC blank; SYMBOLS follow from 1
CLEAN_STEPS = 400
AUGMENTED_SHARE = 0.5  # of the utterances, once augmentation has come in
STRENGTH = 0.7
MASKED_SHARE = 0.3  # of the batches
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


class CtcModel(nn.Module):
    """Encoder and a linear CTC head."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(dims)
        self.head = nn.Linear(dims.dim, len(SYMBOLS) + 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, frames, 80] -> log-probabilities [batch, encoder frames, symbols], float32."""
        return F.log_softmax(self.head(self.encoder(features)).float(), dim=-1)


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
    corpus: Sequence[Utterance], seconds: float, seed: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Endless batches of about `seconds` of audio: features, frame lengths, targets (flat), target lengths.

    The first CLEAN_STEPS batches are not augmented, the next as many more and more; `start`: batches already seen.
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
                made += 1
                strengths = [ramp * STRENGTH if rng.random() < AUGMENTED_SHARE else 0.0 for _ in group]
                features, lengths = pad_features(
                    [stream_features(placed(corpus[i], rng, x)) for i, x in zip(group, strengths, strict=True)]
                )
                targets = [characters(corpus[i].text) for i in group]
                flat = torch.tensor([token for target in targets for token in target])
                yield features, lengths, flat, torch.tensor([len(target) for target in targets])


def greedy_tokens(log_probs: Tensor) -> list[int]:
    """Collapse the best path of one utterance [frames, symbols]."""
    best = log_probs.argmax(-1).tolist()
    return [token for i, token in enumerate(best) if token != BLANK_ID and (i == 0 or token != best[i - 1])]


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edit distance in words, reference words)."""
    a, b = reference.lower().split(), hypothesis.lower().split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


@torch.inference_mode()
def word_error_rate(model: CtcModel, corpus: Sequence[Utterance]) -> float:
    """Greedy word error of clean utterances."""
    wrong = words = 0
    for utterance in corpus:
        pcm = np.pad(utterance.pcm.astype(np.float32) / 32768.0, (3200, 6400))
        text = spelled(greedy_tokens(model(stream_features(pcm)[None])[0]))
        e, n = word_errors(utterance.text, text)
        wrong, words = wrong + e, words + n
    return wrong / words


def run(
    corpus: Sequence[Utterance],
    held_out: Sequence[Utterance],
    folder: Path,
    dims: EncoderDims,
    options: LoopOptions,
    seed: int,
    *,
    device: str = "cpu",
) -> CtcModel:
    """Train; returns the model. `held_out` is scored every 1000 steps."""
    torch.manual_seed(seed)

    model = CtcModel(dims)
    # The encoder multiplies its input by sqrt(dim); undone at the start, or the blocks would hardly be heard.
    nn.init.constant_(cast(nn.LayerNorm, model.encoder.transformer.embed[1]).weight, dims.dim**-0.5)
    if not (folder / "state.pt").exists():
        set_cmvn(model.encoder, corpus, random.Random(seed))
    model.to(device)
    rng = random.Random(seed + 1)
    state_file = folder / "state.pt"
    start = torch.load(state_file, weights_only=True)["step"] if state_file.exists() else 0

    def loss_of(batch: Any) -> dict[str, Tensor]:
        features, lengths, targets, target_lengths = batch
        if rng.random() < MASKED_SHARE:
            features = mask_features(features, rng, model.encoder.global_cmvn.mean.cpu())
        features = features.to(device)
        log_probs = model(features)
        loss = F.ctc_loss(
            log_probs.transpose(0, 1), targets.to(device), lengths.to(device), target_lengths.to(device),
            blank=BLANK_ID, zero_infinity=True,
        )  # fmt: skip
        return {"loss": loss}

    train(
        "ctc", model, batches(corpus, 30.0, seed + start, start), loss_of, folder, options, device=device,
        evaluate=lambda: {"wer_held_out": word_error_rate(model, held_out[:100])}, evaluate_every=500,
    )  # fmt: skip
    return model
