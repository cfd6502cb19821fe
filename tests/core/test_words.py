"""Words compared, counted and looked for."""

from __future__ import annotations

import pytest

from duplex.core.words import answer_is_right, plain_words, word_errors


def test_plain_words():
    assert plain_words("It's twenty-one, Anna!") == "it's twenty one anna"


def test_word_errors_count_substitutions_insertions_and_losses():
    assert word_errors("Twenty-one, please.", "twenty one please") == (0, 3)
    assert word_errors("a b c", "a x c d") == (2, 3)
    assert word_errors("", "a") == (1, 0)
    assert word_errors("a b", "") == (2, 2)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("It's Paris, in France.", True),
        ("paris france", True),
        ("Paris.", False),
        ("Parisian France", False),
        ("", False),
    ],
)
def test_an_answer_needs_a_word_of_every_group(reply, right):
    assert answer_is_right((("paris", "rome"), ("france",)), reply) is right


def test_a_hyphenated_number_is_one_word():
    assert not answer_is_right((("twenty",),), "It is twenty-one.")
    assert answer_is_right((("twenty-one",),), "It is twenty-one.")
    assert answer_is_right((("don't know",),), "I don't know that yet.")
