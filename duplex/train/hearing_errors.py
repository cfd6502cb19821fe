"""How many words the ears of a checkpoint get wrong, by voice: what the adapter writes at its likeliest, nothing after it.

python -m duplex.train.hearing_errors runs/corpus/unseen_voices --checkpoint checkpoints/tiny --count 400 --noise 10
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from duplex.core.errors import DuplexError
from duplex.core.words import word_errors
from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.train.augment import add_at_snr, background
from duplex.train.corpus import Utterance, load_corpus
from duplex.train.ctc_stage import stream_features
from duplex.train.hearing import places_of_pieces
from duplex.train.tokenizer import BLANK

LEAD_SAMPLES, TAIL_SAMPLES = 3200, 6400  # of silence around an utterance, at 16 kHz


@torch.inference_mode()
def heard_text(model: DuplexModel, pcm: np.ndarray) -> str:
    """What a checkpoint with pieces hears in float32 `[samples]` at 16 kHz."""
    adapted = model.adapter(model.encoder(stream_features(pcm)[None]))
    return text_of_pieces(model, adapted[0, :, : model.adapter.dims.pieces])


def text_of_pieces(model: DuplexModel, pieces: Tensor) -> str:
    """The likeliest text of logits [positions, pieces]."""
    [blank] = model.llm.encode(BLANK)
    likeliest = pieces.argmax(-1).tolist()
    text: str = model.llm.tokenizer.decode([likeliest[at] for at in places_of_pieces(likeliest, blank)])
    return text


def word_errors_by_voice(
    model: DuplexModel, corpus: Sequence[Utterance], noise_db: float | None, seed: int
) -> Iterator[tuple[str, int, int]]:
    """Of every utterance its voice ("espeak:en-gb+f4"), wrong words and words; with noise so far below the speech."""
    rng = np.random.default_rng(seed)
    for utterance in corpus:
        pcm = utterance.samples()
        if noise_db is not None:
            pcm = add_at_snr(pcm, background(len(pcm), rng), noise_db)
        said = heard_text(model, np.pad(pcm, (LEAD_SAMPLES, TAIL_SAMPLES)))
        yield ":".join(utterance.voice.split(":")[:2]), *word_errors(utterance.text, said)


def main(arguments: list[str] | None = None) -> int:
    """Print a line a voice and one for all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hearing_errors", description=__doc__)
    parser.add_argument("corpus", type=Path, help="a folder that duplex.train.corpus made")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/tiny"))
    parser.add_argument("--count", type=int, default=400, help="utterances, drawn at random")
    parser.add_argument("--noise", type=float, metavar="DB", help="noise this far below the speech")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        model, corpus = load_checkpoint(options.checkpoint, None), load_corpus(options.corpus)
        if not model.adapter.dims.pieces:
            raise DuplexError(f"{options.checkpoint} writes no pieces that could be read")
    except (DuplexError, FileNotFoundError) as error:
        print(f"hearing_errors: {error}", file=sys.stderr)
        return 1
    chosen = random.Random(options.seed).sample(corpus, min(options.count, len(corpus)))
    wrong, words, utterances = Counter[str](), Counter[str](), Counter[str]()
    for voice, errors, length in word_errors_by_voice(model, chosen, options.noise, options.seed):
        for key in (voice, voice.split(":")[0], "all"):
            wrong[key] += errors
            words[key] += length
            utterances[key] += 1
    for key in sorted(words):
        print(f"{key:32} {wrong[key] / max(1, words[key]):.3f} of {words[key]} words in {utterances[key]} utterances")
    return 0


if __name__ == "__main__":
    sys.exit(main())
