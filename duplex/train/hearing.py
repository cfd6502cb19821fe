"""What goes wrong on the way from a mouth to the LLM: words that are misheard, positions that are unsure."""

from __future__ import annotations

import random
from difflib import get_close_matches

import torch
from torch import Tensor

from duplex.train.world import sample_dialogue
from duplex.train.world.numbers import NUMBER_WORDS
from duplex.train.world.phrasing import core_text

COMMON_INTENTS = 20  # a word of at least so many intents rarely decides the answer
ALIKE_WORDS = 6
MISHEARD_SHARE = 0.4  # of the spoken turns
MISHEARD_WORDS = 0.2  # of the common words in them
LOST_WORDS = 0.3  # of the misheard ones are not heard at all
BLURRED_SHARE = 0.3  # of the user's positions hold a second piece too,
BLUR_MOST = 0.45  # with up to this weight: what an adapter is not sure of


class Mishearing:
    """What a recogniser makes of a user's turn: now and then a common word becomes one that is spelled alike.

    Touched are words of many intents and no numbers. Most of them carry little ("is", "the", "please"), a few do
    ("dog", "day"): the LLM learns to read past slips, and seldom has to guess.
    """

    def __init__(self, seed: int, dialogues: int = 4000) -> None:
        rng = random.Random(seed)
        intents: dict[str, set[str]] = {}
        for _ in range(dialogues):
            for turn in sample_dialogue(rng, "train").turns:
                for word in core_text(turn.user).split():  # what is said before and after any question tells nothing
                    intents.setdefault(word, set()).add(turn.intent)
        self.alike = {
            word: get_close_matches(word, intents.keys() - NUMBER_WORDS - {word}, n=ALIKE_WORDS, cutoff=0.4)
            for word, where in intents.items()
            if len(where) >= COMMON_INTENTS and word not in NUMBER_WORDS
        }

    def __call__(self, text: str, rng: random.Random) -> str:
        """The text as heard: most often as it was said."""
        if rng.random() > MISHEARD_SHARE:
            return text
        heard = []
        for word in text.split():
            alike = self.alike.get(word)
            if alike is None or rng.random() > MISHEARD_WORDS:
                heard.append(word)
            elif alike and rng.random() > LOST_WORDS:
                heard.append(rng.choice(alike))
        return " ".join(heard) or text


def blurred(embeddings: Tensor, unsure: Tensor) -> Tensor:
    """Embeddings [batch, length, dim] where some of the positions `unsure` [batch, length] are mixed with another."""
    at = unsure.nonzero()
    share = torch.rand(len(at), 1, device=embeddings.device) * BLUR_MOST
    share = share * (torch.rand(len(at), 1, device=embeddings.device) < BLURRED_SHARE)
    rows, columns = at.unbind(1)
    own = embeddings[rows, columns]
    mixed = own + share * (own[torch.randperm(len(at), device=own.device)] - own)
    return embeddings.index_put((rows, columns), mixed)
