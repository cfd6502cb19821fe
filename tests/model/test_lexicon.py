"""Text as phones and bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from duplex.core.errors import CheckpointError
from duplex.model.lexicon import BYTES, Lexicon

LEXICON = Lexicon(("ax", "dh", "iy", "s", "t"), {"the": ("dh", "ax"), "tea": ("t", "iy"), "tea's": ("t", "iy", "s")})
THE, TEA = [BYTES + 1, BYTES], [BYTES + 4, BYTES + 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("The tea.", [*THE, *b" ", *TEA, *b"."]),
        ("the-tea, tea's", [*THE, *b"-", *TEA, *b", ", *TEA, BYTES + 3]),
        ("then teas", [*b"then teas"]),
        ("T, E, A.", [*b"T, E, A."]),
        ("Zo\u00eb3tea", [*b"Zoe three ", *TEA]),
        ("", []),
    ],
)
def test_known_words_become_phones_and_the_rest_stays_bytes(text: str, ids: list[int]) -> None:
    assert LEXICON.symbols_of(text) == ids


def test_known_words_can_be_spelled() -> None:
    answers = iter([True, False])
    assert LEXICON.symbols_of("the tea", lambda: next(answers)) == [*b"the ", *TEA]


def test_an_empty_lexicon_spells_everything() -> None:
    assert Lexicon().symbols_of("the") == list(b"the")
    assert Lexicon().symbols == BYTES


def test_it_is_written_and_read(tmp_path: Path) -> None:
    LEXICON.write(tmp_path / "lexicon.json")
    assert Lexicon.read(tmp_path / "lexicon.json") == LEXICON


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no lexicon"),
        ('{"phones": ["t"], "words": {"tea": "t iy"}}', "'tea' is said 't iy', which are not all phones"),
        ('{"phones": ["t"], "words": {"tea": ""}}', "'tea' is said ''"),
        ('{"phones": ["t"], "words": {"tea": 3}}', "is no lexicon"),
    ],
)
def test_what_is_wrong_with_it_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "lexicon.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        Lexicon.read(tmp_path / "lexicon.json")
