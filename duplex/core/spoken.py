"""Written English as it is said: numbers, amounts and signs in words, for models that know spoken words alone."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from num2words import num2words  # type: ignore[import-untyped, unused-ignore]

from duplex.core.words import APOSTROPHES

_YEARS = range(1100, 2000)  # said in pairs
_DIGIT_BY_DIGIT = 7  # digits from which a number is one of a telephone or an account; one that begins with 0 always is
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_ANYTHING_TO_SAY = re.compile(r"[^\x00-\x7f]|[\d%&@]")
_AMOUNT = re.compile(rf"([$€£])\s?({_NUMBER})")
_AMOUNT_BEHIND = re.compile(rf"(?<![\d.,])({_NUMBER})\s?([€£])")
_COINS = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_ORDINAL = re.compile(r"\b(\d{1,6})(?:st|nd|rd|th)\b", re.IGNORECASE)
_BEFORE = re.compile(r"(?<![\w.,])([-+\u2212])(?=\d)")
_BETWEEN = re.compile(r"(?<=\d)\s*([+*/=x\u00d7\u00f7\u2212]|(?<=\s)-(?=\s))\s*(?=\d|\?|$)")
_VERSION = re.compile(r"\d+(?:\.\d+){2,}")
_SIGNS = {
    "+": "plus",
    "*": "times",
    "x": "times",
    "\u00d7": "times",
    "/": "divided by",
    "\u00f7": "divided by",
    "=": "equals",
}
_PLAIN = re.compile(rf"(?<![\w.,])({_NUMBER})(?!\d)(?=([^\W\d_]?))|(\d+)(?=([^\W\d_]?))")
_WORDS = {"%": "percent", "&": "and", "@": "at"}
_SIGN_WORD = re.compile(r"[^\S\n]*([%&@])[^\S\n]*(?=(\w?))")
_NOT_HEARD = re.compile(r"[^\w']+|_+")


def numbers_in_words(text: str) -> str:
    """`text` with every number and sign in it as it is said, letters without accents; all else as it was.

    "Your code is 42, 3rd door: $5" -> "Your code is forty-two, third door: five dollars".
    """
    if not _ANYTHING_TO_SAY.search(text):
        return text
    text = _AMOUNT.sub(lambda found: _amount(found[2], found[1]), text)
    text = _AMOUNT_BEHIND.sub(lambda found: _amount(found[1], found[2]), text)
    text = _CLOCK.sub(lambda found: _clock(int(found[1]), found[2]), text)
    text = _ORDINAL.sub(lambda found: _said(num2words(int(found[1]), to="ordinal")), text)
    text = _BETWEEN.sub(lambda found: f" {_SIGNS.get(found[1], 'minus')} ", text)
    text = _BEFORE.sub(lambda found: "plus " if found[1] == "+" else "minus ", text)
    text = _VERSION.sub(lambda found: found[0].replace(".", " point "), text)
    text = _PLAIN.sub(_parted, text)
    text = _SIGN_WORD.sub(lambda found: f" {_WORDS[found[1]]}{' ' if found[2] else ''}", text)
    return unicodedata.normalize("NFC", "".join(_without_accent(letter) for letter in text))


def as_heard(text: str) -> str:
    """`text` as a recogniser writes it: lower case, words and apostrophes alone.

    "What's 7 + 5?" -> "what's seven plus five".
    """
    said = numbers_in_words(text.translate(APOSTROPHES)).lower()
    return " ".join(word for part in _NOT_HEARD.sub(" ", said).split() if (word := part.strip("'")))


def _said(words: str) -> str:
    return words.replace(",", "").replace(" and ", " ")


def _parted(found: re.Match[str]) -> str:
    """A number in words, with gaps to what stands right before and behind it: "B12" -> "B twelve", "5km" -> "five km"."""
    alone, letter, inside, letter_inside = found.groups()
    return f"{'' if alone else ' '}{_number(alone or inside)}{' ' if letter or letter_inside else ''}"


def _number(digits: str) -> str:
    plain = digits.replace(",", "")
    if plain.isdecimal() and (len(plain) >= _DIGIT_BY_DIGIT or (plain[0] == "0" and len(plain) > 1)):
        return " ".join(num2words(int(digit)) for digit in plain)
    if digits.isdecimal() and int(plain) in _YEARS:
        return _said(num2words(int(plain), to="year"))
    return _said(num2words(int(plain) if plain.isdecimal() else Decimal(plain)))


def _amount(digits: str, sign: str) -> str:
    whole, _, rest = digits.replace(",", "").partition(".")
    large, small = _COINS[sign]
    said = f"{_number(whole)} {large}{'' if int(whole) == 1 else 's'}"
    coins = int(rest.ljust(2, "0")[:2]) if rest else 0
    if coins:
        one, many = (small, "pence") if small == "penny" else (small, f"{small}s")
        said += f" and {_number(str(coins))} {one if coins == 1 else many}"
    return said


def _clock(hour: int, minutes: str) -> str:
    if minutes == "00":
        return f"{_number(str(hour))} o'clock"
    return f"{_number(str(hour))} {'oh ' if minutes[0] == '0' else ''}{_number(str(int(minutes)))}"


def _without_accent(letter: str) -> str:
    """An e for "ë"; a letter that is none of ours with a mark stays."""
    if letter.isascii():
        return letter
    base = unicodedata.normalize("NFD", letter)
    return base[0] if base[0].isascii() and all(unicodedata.combining(mark) for mark in base[1:]) else letter
