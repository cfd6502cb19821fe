"""Stage 2: CTC pre-training of the speech encoder (Graves et al. 2006), over characters first, then over pieces too.

Fast speech has more than twenty characters a second and the encoder 25 frames, so that characters alone are hardly
learned; the LLM's pieces come five a second, but CTC over them does not leave its plateau from nothing.
"""

from __future__ import annotations

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
from duplex.train.corpus import Utterance, again_and_again
from duplex.train.disguise import AUGMENTED_SHARE, STRENGTH, Clips, features_on, made_for, placed, with_masks
from duplex.train.loop import LoopOptions, fresh, steps_done, train
from duplex.train.workers import in_processes

SYMBOLS = " abcdefghijklmnopqrstuvwxyz'"
BLANK_ID = 0  # CTC blank; characters and pieces follow from 1
CHARACTER_WEIGHT = 0.3  # beside 1 for pieces
BATCH_SEC = 30.0  # of speech, unless a training takes larger ones;
BLOCK = 256  # utterances for each BATCH_SEC, of which batches of similar length are made
CLEAN_BATCHES = 400  # of BATCH_SEC, before augmentation begins to come in; of larger ones less, by the root
MASKED_SHARE = 0.3  # of the batches


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


def batches(
    corpus: Sequence[Utterance],
    seed: int,
    start: int = 0,
    stride: int = 1,
    batch_sec: float = BATCH_SEC,
) -> Iterator[tuple[Clips, list[str]]]:
    """Endless batches of about `batch_sec` of audio, and what is said in each.

    The first CLEAN_BATCHES are not augmented (fewer of them where they are larger), the next as many more and more.
    `start`: batches already seen, of which each of these counts for `stride`, as so many processes make them.
    """
    clean = CLEAN_BATCHES / math.sqrt(batch_sec / BATCH_SEC)
    together = round(BLOCK * batch_sec / BATCH_SEC)
    rng = random.Random(seed)
    order = again_and_again(corpus, rng)
    made = start
    while True:
        block = sorted(itertools.islice(order, together), key=lambda utterance: len(utterance.pcm))
        groups: list[list[Utterance]] = [[]]
        for utterance in block:
            if (len(groups[-1]) + 1) * (len(utterance.pcm) / 16000 + 1.2) > batch_sec:
                groups.append([])
            groups[-1].append(utterance)
        rng.shuffle(groups)
        for group in (g for g in groups if g):
            ramp = min(1.0, max(0.0, (made - clean) / clean))
            made += stride
            strengths = [ramp * STRENGTH if rng.random() < AUGMENTED_SHARE else 0.0 for _ in group]
            clips = placed([utterance.pcm for utterance in group], strengths, rng)
            clips = with_masks(clips, rng) if rng.random() < MASKED_SHARE else clips
            yield clips, [utterance.text for utterance in group]


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
    batch_sec: float = BATCH_SEC,
) -> CtcModel:
    """Train, in the first `character_steps` on characters alone; `held_out` is scored every 500 steps."""
    torch.manual_seed(seed)

    model = CtcModel(dims, len(tokenizer))
    # The encoder multiplies its input by sqrt(dim); undone at the start, or the blocks would hardly be heard.
    nn.init.constant_(cast(nn.LayerNorm, model.encoder.transformer.embed[1]).weight, dims.dim**-0.5)
    state_file = folder / "state.pt"
    if state_file.exists():  # workers, which have a copy of the model, need the mean frame before it trains
        model.load_state_dict(torch.load(state_file, map_location="cpu", weights_only=True)["module"])
    else:
        set_cmvn(model.encoder, corpus, random.Random(seed))
        start_from(model)
    model.to(device)
    start = steps_done(folder)
    steps = itertools.count(start)
    fill = model.encoder.global_cmvn.mean.cpu()

    def loss_of(batch: Any) -> dict[str, Tensor]:
        heard, frames, texts = batch
        lengths = torch.tensor(frames)
        by_character, by_piece = model(features_on(device, heard, model.encoder.global_cmvn.mean))
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

    def made(own_seed: int) -> Iterator[tuple[Tensor | Clips, list[int], list[str]]]:
        for clips, texts in batches(corpus, own_seed, start, max(1, workers), batch_sec):
            yield made_for(device, clips, fill), clips.encoder_frames, texts

    train(
        "ctc", model, in_processes(made, seed + start, workers), loss_of, folder, options, device=device,
        evaluate=evaluate, evaluate_every=500,
    )  # fmt: skip
    return model
