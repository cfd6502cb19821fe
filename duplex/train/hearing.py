"""What goes wrong on the way from a mouth to the LLM: words that are misheard, positions that are unsure, as it
is made up and as it was recorded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from duplex.train.world import Turn, sample_dialogue
from duplex.train.world.numbers import NUMBER_WORDS
from duplex.train.world.phrasing import core_text

COMMON_INTENTS = 20  # a word of at least so many intents rarely decides the answer
ALIKE_WORDS = 6
MISHEARD_SHARE = 0.4  # of the spoken turns
MISHEARD_WORDS = 0.2  # of the common words in them
LOST_WORDS = 0.3  # of the misheard ones are not heard at all
BLURRED_SHARE = 0.3  # of the user's positions hold a second piece too,
BLUR_MOST = 0.45  # with up to this weight: what an adapter is not sure of


@dataclass(frozen=True)
class Heard:
    """A user turn as the adapter wrote it, 80 ms a position.

    first, second: the two likeliest pieces of every position [n]; doubt: the second one's weight beside the first [n];
    words: the pieces that the word search found [m].
    """

    turn: Turn
    first: list[int]
    second: list[int]
    doubt: list[float]
    words: list[int]


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


def blurred(ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[float]]:
    """A second piece for every position of a user's turn [n], another one of it, and its weight [n]."""
    second, doubt = list(ids), [0.0] * len(ids)
    for at in range(len(ids)):
        if rng.random() < BLURRED_SHARE:
            second[at], doubt[at] = rng.choice(ids), rng.random() * BLUR_MOST
    return second, doubt


def places_of_pieces(likeliest: Sequence[int], blank: int) -> list[int]:
    """Where in a stream of positions a piece begins, by CTC's rule: what is no blank and not the one before it."""
    return [at for at, piece in enumerate(likeliest) if piece != blank and (not at or piece != likeliest[at - 1])]


def pieces_said(heard: Sequence[int], said: Sequence[int], blank: int | None) -> list[int]:
    """How many pieces of what was said [m] are over at every position of what was heard [n]; without a blank, these are
    words that were searched for, a piece each.
    """
    places = range(len(heard)) if blank is None else places_of_pieces(heard, blank)
    over = [0] * len(heard)
    matcher = SequenceMatcher(None, [heard[at] for at in places], list(said), autojunk=False)
    for _, first, last, begin, end in matcher.get_opcodes():
        for number, at in enumerate(places[first:last]):
            over[at] = min(begin + number + 1, end)
        if end == len(said) and last:  # the last of it may not have been heard, and is over all the same
            over[places[last - 1]] = end
    for at in range(1, len(over)):
        over[at] = max(over[at], over[at - 1])
    return over
