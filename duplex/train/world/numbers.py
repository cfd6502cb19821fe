# ruff: noqa: SIM905  (word lists read better as sentences)
"""English number words for 0..9999, as spoken by the user and as written in replies."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()

NUMBER_WORDS = frozenset((*_ONES, *_TENS, "hundred", "thousand"))


def written(number: int) -> str:
    """Spell a number as replies write it, with hyphens: 21 -> "twenty-one", -3 -> "minus three"."""
    if number < 0:
        return f"minus {written(-number)}"
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {written(rest)}" if rest else "")
    if number < 10_000:
        thousands, rest = divmod(number, 1000)
        return f"{_ONES[thousands]} thousand" + (f" {written(rest)}" if rest else "")
    raise ValueError(f"{number} is outside the world's numbers (-9999..9999)")


def spoken(number: int) -> str:
    """Spell a number as a recogniser writes it, without hyphens: 21 -> "twenty one"."""
    return written(number).replace("-", " ")


_ORDINAL_ENDINGS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"} | {
    "nine": "ninth",
    "twelve": "twelfth",
}


def ordinal(number: int) -> str:
    """The ordinal of 1..99 as replies write it: 3 -> "third", 21 -> "twenty-first"."""
    tens, dash, last = written(number).rpartition("-")
    if last.endswith("y"):
        return f"{last[:-1]}ieth"
    return tens + dash + _ORDINAL_ENDINGS.get(last, f"{last}th")
