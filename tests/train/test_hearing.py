"""Misheard words and blurred positions, which the text LLM is trained on."""

from __future__ import annotations

import random

import pytest
import torch

from duplex.train.hearing import BLUR_MOST, Mishearing, blurred

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
    torch.manual_seed(0)
    embeddings = torch.randn(4, 50, 8)
    unsure = torch.zeros(4, 50, dtype=torch.bool)
    unsure[:, 10:40] = True
    mixed = blurred(embeddings, unsure)
    assert torch.equal(mixed[~unsure], embeddings[~unsure])
    moved = (mixed != embeddings).any(dim=-1)
    assert 10 < int(moved.sum()) < 0.5 * int(unsure.sum())
    step = (mixed - embeddings)[moved].norm(dim=-1)
    furthest = torch.cdist(embeddings[unsure], embeddings[unsure]).max()
    assert float(step.max()) <= BLUR_MOST * float(furthest)
