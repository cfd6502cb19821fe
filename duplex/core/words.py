"""Words of a transcript: compared, counted and looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NOT_IN_WORDS = re.compile(r"[^a-z0-9' -]")
APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})  # typographic ones

Answer = Sequence[Sequence[str]]
"""What a right reply must hold: of every inner sequence one alternative."""


def plain_words(text: str) -> str:
    """Lower case, words and apostrophes only; hyphens part words."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower().translate(APOSTROPHES).replace("-", " ")))


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edit distance in words, reference words), both as `plain_words` leaves them."""
    said, heard = plain_words(reference).split(), plain_words(hypothesis).split()
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(said)


def answer_is_right(answer: Answer, reply: str) -> bool:
    """Whether a reply has one alternative of each group, as whole words; "twenty-one" is one word, not "twenty"."""
    said = f" {_normalised(reply)} "
    return all(any(f" {_normalised(option)} " in said for option in options) for options in answer)


def _normalised(text: str) -> str:
    return " ".join(_NOT_IN_WORDS.sub(" ", text.lower().translate(APOSTROPHES)).split())
