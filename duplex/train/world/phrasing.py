# ruff: noqa: SIM905  (word lists read better as sentences)
"""How a wish becomes words: fillers around a core phrase, and which phrasings only the test split may use.

A phrasing is held out of training when its template starts with "*" or when the hash of its core text falls into
one bucket in ten; one that starts with "+" never is. The decision looks at the text without fillers, so "please tell
me a joke" and "tell me a joke" are always on the same side.
"""

import functools
import random
import zlib
from collections.abc import Sequence

from duplex.train.world.types import Split

_WH_WORDS = frozenset("what which how who where when why what's who's where's".split())
_REQUESTS = frozenset(
    "tell say spell count repeat give add name make remember sing teach show help play subtract multiply "
    "divide list call forget describe explain find read write open turn book order send set order buy start".split()
)
HESITATIONS = ("um", "uh")
_FILLERS = (
    *HESITATIONS,
    "hey",
    "so",
    "okay",
    "well",
    "hey there",
    "oh",
    "right",
    "listen",
    "excuse me",
    "all right",
    "hm",
    "er",
    "yeah",
    "yes",
    "alright",
    "anyway",
    "look",
    "hey duplex",
    "duplex",
    "computer",
    "okay so",
    "now then",
    "by the way",
    "one more thing",
)
_WH_OPENERS = (
    "can you tell me", "do you know", "tell me", "please tell me", "i want to know", "could you tell me",
    "i would like to know", "i wonder", "do you happen to know", "my question is", "i have a question",
    "i'd like to know", "i need to know", "let me know", "i was wondering", "i am wondering", "would you know",
    "quick question", "here is a question", "any idea", "i want to ask", "may i ask", "let me ask you", "just tell me",
    "now tell me", "i'm curious", "i forgot",
)  # fmt: skip
_REQUEST_OPENERS = (
    "please", "can you", "could you", "could you please", "can you please", "hey please", "would you", "i want you to",
    "would you please", "i'd like you to", "i would like you to", "i need you to", "go ahead and", "now please",
    "be so kind and", "will you please",
)  # fmt: skip
_CLOSERS = ("please", "if you can", "if you don't mind")
_ALL_OPENERS = tuple(sorted((*_FILLERS, *_WH_OPENERS, *_REQUEST_OPENERS), key=len, reverse=True))

NEXT_ONE = (
    "and after that", "and then", "and what is next", "and after this", "and then what", "what is after that",
    "what is next", "and the next one", "what comes next", "and what comes next",
    "what comes next after that", "and what follows", "and which one is next", "what's next", "and what's next",
    "and what's after that", "and then comes what", "then what", "what follows that", "and one further",
    "now the next one", "go on to the next one",
)  # fmt: skip
"""How people ask for what follows a number, a day, a month."""

_PLAIN_SHARE = 0.6
_FILLER_SHARE = 0.4
_CLOSER_SHARE = 0.08
_HELD_OUT_BUCKETS = 10
_COMMON_WEIGHT = 4  # of what everybody says, beside 1 for every other phrasing


class NoPhrasingError(LookupError):
    """The asked split has no phrasing for these slots; the caller samples something else."""


@functools.lru_cache(maxsize=1 << 16)
def core_text(user: str) -> str:
    """Remove fillers from both ends: "um please say cat" -> "say cat"."""
    stripped = True
    while stripped:
        stripped = False
        for opener in _ALL_OPENERS:
            if user.startswith(opener + " "):
                user, stripped = user[len(opener) + 1 :], True
        for closer in _CLOSERS:
            if user.endswith(" " + closer):
                user, stripped = user[: -len(closer) - 1], True
    return user


@functools.lru_cache(maxsize=1 << 16)
def is_held_out(text: str) -> bool:
    """Tell whether a phrase belongs to the test split by its hash alone."""
    return zlib.crc32(core_text(text).encode()) % _HELD_OUT_BUCKETS == 0


def with_held_out(templates: Sequence[str]) -> tuple[str, ...]:
    """Teach what everybody says, and hold the last of four or more phrasings out when no other one is.

    What everybody says is the first phrasing and those of one or two words: nobody can guess "hello".
    """
    said_by_all = {
        core_text(t) for place, t in enumerate(templates) if (place == 0 or len(t.split()) <= 2) and t[0] != "*"
    }
    marked = ["+" + t if core_text(t) in said_by_all and "{" not in t else t for t in templates]
    if len(marked) < 4 or marked[-1].startswith("+") or any(_template_held_out(t) for t in marked):
        return tuple(marked)
    return (*marked[:-1], "*" + marked[-1])


def _template_held_out(template: str, **slots: str) -> bool:
    text = template.lstrip("*+")
    return template.startswith("*") or (
        not template.startswith("+") and is_held_out(text.format(**slots) if slots else text)
    )


def pick_core(rng: random.Random, split: Split, templates: Sequence[str], **slots: str) -> str:
    """Fill one template allowed in `split`, without fillers.

    Raises:
        NoPhrasingError: No template with these slots belongs to the split.

    """
    allowed, weights = [], []
    for place, template in enumerate(templates):
        if _template_held_out(template, **slots) == (split == "test"):
            allowed.append(template.lstrip("*+").format(**slots))
            weights.append(_COMMON_WEIGHT if place == 0 or template.startswith("+") else 1)
    if not allowed:
        raise NoPhrasingError(f"no {split} phrasing among {len(templates)} templates")
    return rng.choices(allowed, weights)[0]


def dress(rng: random.Random, core: str) -> str:
    """Wrap a core phrase in the fillers people use before and after it, or leave it plain."""
    first_word = core.split(" ", 1)[0]
    is_question, is_request = first_word in _WH_WORDS, first_word in _REQUESTS
    text = core
    if rng.random() > _PLAIN_SHARE:
        openers: Sequence[str] = _FILLERS
        if rng.random() > _FILLER_SHARE:
            openers = _WH_OPENERS if is_question else _REQUEST_OPENERS if is_request else _FILLERS
        text = f"{rng.choice(openers)} {core}"
    if (is_question or is_request) and not text.startswith("please") and rng.random() < _CLOSER_SHARE:
        text = f"{text} {rng.choice(_CLOSERS)}"
    return text


def hesitant(rng: random.Random, text: str) -> str:
    """A text as somebody says it who has to think: "um" between two words, or up to three of them said again."""
    words = text.split()
    if len(words) < 2:
        return text
    at = rng.randint(1, len(words) - 1)
    thinks = [rng.choice(HESITATIONS)] if rng.random() < 0.5 else []
    again = words[max(0, at - rng.randint(1, 3)) : at] if not thinks or rng.random() < 0.5 else []
    return " ".join([*words[:at], *thinks, *again, *words[at:]])


def phrase(rng: random.Random, split: Split, templates: Sequence[str], **slots: str) -> str:
    """Fill one template allowed in `split` and dress it with fillers."""
    return dress(rng, pick_core(rng, split, templates, **slots))
