"""Numbers and signs in words, and text as a recogniser would have written it."""

from __future__ import annotations

import pytest

from duplex.core.spoken import as_heard, numbers_in_words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Your code is 42.", "Your code is forty-two."),
        ("the 3rd door, the 21ST", "the third door, the twenty-first"),
        ("It costs $5, €5.50 or 3€.", "It costs five dollars, five euros and fifty cents or three euros."),
        ("£1.01 and £2.02", "one pound and one penny and two pounds and two pence"),
        ("at 7:30, 12:00 and 8:05", "at seven thirty, twelve o'clock and eight oh five"),
        ("10% of 1,234.5", "ten percent of one thousand two hundred thirty-four point five"),
        ("7+5, 7 - 5, 7x5, 7 * 5, 8/2, 8 ÷ 2", "seven plus five, seven minus five, seven times five, seven times five, "
         "eight divided by two, eight divided by two"),
        ("-3 degrees, +49 30", "minus three degrees, plus forty-nine thirty"),
        ("room B12, 5km, 20-30 people", "room B twelve, five km, twenty-thirty people"),
        ("in 1984, not 1,984", "in nineteen eighty-four, not one thousand nine hundred eighty-four"),
        ("call 1234567 or 007", "call one two three four five six seven or zero zero seven"),
        ("version 2.0.1", "version two point zero point one"),
        ("salt & pepper @ home", "salt and pepper at home"),
        ("Zoë at the café", "Zoe at the cafe"),
        ("你好", "你好"),
        ("Nothing to say here: twenty-one, A. B.\n", "Nothing to say here: twenty-one, A. B.\n"),
        ("", ""),
    ],
)  # fmt: skip
def test_numbers_and_signs_are_said_in_words(written: str, said: str) -> None:
    assert numbers_in_words(written) == said
    assert numbers_in_words(said) == said


@pytest.mark.parametrize(
    ("typed", "heard"),
    [
        ("What's 7 + 5?", "what's seven plus five"),
        ("What\u2019s the capital of France?!", "what's the capital of france"),
        ("Count from 3 to 8.", "count from three to eight"),
        ("My name is Zoë ;-)", "my name is zoe"),
        ("twenty-one, please", "twenty one please"),
        ("  'quoted'  words ", "quoted words"),
        ("already as it is heard", "already as it is heard"),
        ("?!", ""),
    ],
)
def test_typed_text_becomes_what_a_recogniser_writes(typed: str, heard: str) -> None:
    assert as_heard(typed) == heard
    assert as_heard(heard) == heard
