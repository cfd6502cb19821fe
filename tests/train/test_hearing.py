"""Misheard words and blurred positions, which the text LLM is trained on."""

from __future__ import annotations

import random

import pytest

from duplex.train.hearing import BLUR_MOST, Mishearing, blurred, pieces_said, places_of_pieces

COUNT = 2000
RARE = "can you spell giraffe"


@pytest.fixture(scope="module")
def mishear() -> Mishearing:
    """One built from a part of the world's dialogues."""
    return Mishearing(3, dialogues=2000)


def test_common_words_are_misheard_now_and_then(mishear: Mishearing) -> None:
    """Most turns arrive as they were said; the others have a word less or one that the user never says there."""
    rng = random.Random(1)
    heard = [mishear("what is the name of that", rng) for _ in range(COUNT)]
    changed = [text for text in heard if text != "what is the name of that"]
    assert COUNT * 0.1 < len(changed) < COUNT * 0.4
    assert any(len(text.split()) < 6 for text in changed)
    assert any(len(text.split()) == 6 for text in changed)


def test_rare_words_and_numbers_are_heard_as_they_are(mishear: Mishearing) -> None:
    """What only few questions have in them decides the answer."""
    rng = random.Random(2)
    assert all("giraffe" in mishear(RARE, rng) for _ in range(COUNT))
    assert all(mishear("seven plus twelve", rng).startswith("seven") for _ in range(COUNT))
    assert not {"giraffe", "seven", "twelve", "twenty"} & set(mishear.alike)


def test_a_turn_is_never_heard_as_nothing(mishear: Mishearing) -> None:
    """Losing the only word would leave a turn without text."""
    rng = random.Random(3)
    word = next(iter(mishear.alike))
    assert all(mishear(word, rng) for _ in range(COUNT))


def test_blurring_leaves_sure_positions_alone() -> None:
    """Unsure positions stay nearest to what they were, all others are untouched."""
    ids = list(range(200))
    second, doubt = blurred(ids, random.Random(0))
    unsure = [at for at in ids if doubt[at]]
    assert 30 < len(unsure) < 90
    assert all(second[at] in ids and doubt[at] <= BLUR_MOST for at in unsure)
    assert all(second[at] == at for at in set(ids) - set(unsure))


@pytest.mark.parametrize(
    ("heard", "over"),
    [
        ([0, 5, 0, 6, 6, 0, 7, 0], [0, 1, 1, 2, 2, 2, 3, 3]),  # as it was said
        ([0, 5, 0, 9, 0, 7, 0], [0, 1, 1, 2, 2, 3, 3]),  # one piece taken for another
        ([0, 5, 0, 7, 0], [0, 1, 1, 3, 3]),  # one lost
        ([0, 5, 9, 6, 0, 7], [0, 1, 1, 2, 2, 3]),  # one too many
        ([0, 5, 0, 0], [0, 3, 3, 3]),  # the end lost
        ([0, 0], [0, 0]),  # nothing heard
    ],
)
def test_what_was_heard_is_laid_beside_what_was_said(heard: list[int], over: list[int]) -> None:
    """Said was 5, 6, 7; the blank is 0."""
    assert pieces_said(heard, [5, 6, 7], 0) == over


def test_words_that_were_found_are_laid_beside_what_was_said() -> None:
    """A piece each, so that one may stand twice."""
    assert pieces_said([5, 6, 6, 7], [5, 6, 6, 7], None) == [1, 2, 3, 4]
    assert pieces_said([5, 9, 7], [5, 6, 7], None) == [1, 2, 3]
    assert pieces_said([], [5], None) == []


def test_only_what_begins_a_piece_counts_as_heard() -> None:
    assert places_of_pieces([0, 5, 5, 0, 5, 7, 7, 0], blank=0) == [1, 4, 5]
    assert places_of_pieces([5], blank=0) == [0]
    assert places_of_pieces([], blank=0) == []
