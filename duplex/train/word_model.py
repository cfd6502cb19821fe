"""The n-gram model of what people say, counted over the users' turns of many dialogues (Witten and Bell 1991).

P(w | h) = (c(h, w) + t(h) P(w | h')) / (c(h) + t(h)): c counts, t(h) is how many different pieces came after the context h,
h' is h without its first piece. New words are likely where many different ones have come.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from duplex.model.checkpoint_config import WordSearchEntries
from duplex.model.word_search import NgramModel
from duplex.train.world import sample_dialogue

ORDER = 4  # pieces, the last one included
LM_WEIGHT = 0.5  # beside the ears',
INSERTION_BONUS = 3.0  # for every piece

Pieces = tuple[int, ...]


def search_entries(blank_piece: int) -> WordSearchEntries:
    """How words are searched for with the model of users."""
    return WordSearchEntries(blank_piece=blank_piece, lm_weight=LM_WEIGHT, insertion_bonus=INSERTION_BONUS)


def model_of_users(encode: Callable[[str], Sequence[int]], vocabulary: int, seed: int, dialogues: int) -> NgramModel:
    """The model of what is said in so many dialogues of the world."""
    return ngram_model(map(encode, _said(random.Random(seed), dialogues)), vocabulary)


def _said(rng: random.Random, dialogues: int) -> Iterator[str]:
    for _ in range(dialogues):
        yield from (turn.user for turn in sample_dialogue(rng, "train").turns)


def ngram_model(texts: Iterable[Sequence[int]], vocabulary: int) -> NgramModel:
    """The model of texts of pieces below `vocabulary`."""
    counts: dict[Pieces, Counter[int]] = {}
    for text in texts:
        whole = [vocabulary, *text, vocabulary]
        for at in range(1, len(whole)):
            for before in range(min(at, ORDER - 1) + 1):
                counts.setdefault(tuple(whole[at - before : at]), Counter())[whole[at]] += 1
    states = sorted(counts, key=lambda pieces: (len(pieces), pieces))
    first, piece, goes_on, log_prob, back_off = [0], [], [], [], []
    probability: dict[tuple[Pieces, int], float] = {}
    for pieces in states:
        nexts = counts[pieces]
        total = nexts.total() + len(nexts)
        for each, count in sorted(nexts.items()):
            likely = probability[pieces[1:], each] if pieces else 1 / (vocabulary + 1)
            probability[pieces, each] = (count + len(nexts) * likely) / total
            piece.append(each)
            goes_on.append((*pieces, each) in counts)
            log_prob.append(math.log(probability[pieces, each]))
        first.append(len(piece))
        weight = len(nexts) / total
        back_off.append(math.log(weight if pieces else weight / (vocabulary + 1)))
    return NgramModel(
        first=np.array(first, np.int32),
        piece=np.array(piece, np.int32),
        goes_on=np.array(goes_on, np.bool_),
        log_prob=np.array(log_prob, np.float32),
        back_off=np.array(back_off, np.float32),
    )
