"""A dialogue under construction, and the registry of intents that can extend it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from duplex.train.world.phrasing import phrase
from duplex.train.world.types import Answer, Split, Turn

UNKNOWN_REPLY = "I don't know that yet."
UNKNOWN_ANSWER: Answer = (("don't know",),)


@dataclass(slots=True)
class Talk:
    """What has been said so far and what later turns may refer to.

    `facts` holds what the user told about themselves; `follow_ups` can continue the last turn's subject;
    `jokes_told` and `facts_told` keep the rotation going.
    """

    rng: random.Random
    split: Split
    turns: list[Turn] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    follow_ups: "list[Callable[[Talk], Turn]]" = field(default_factory=list)
    jokes_told: int = 0
    facts_told: int = 0

    def say(self, templates: Sequence[str], **slots: str) -> str:
        """Phrase the user's side in this talk's split; raises NoPhrasingError when there is none."""
        return phrase(self.rng, self.split, templates, **slots)


Maker = Callable[[Talk], Turn]


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing a user can want; `weight` is its share when a turn is sampled."""

    name: str
    weight: float
    make: Maker


REGISTRY: dict[str, Intent] = {}


def intent(name: str, weight: float) -> Callable[[Maker], Maker]:
    """Register the decorated function as the maker of an intent.

    Raises:
        ValueError: The name is taken.

    """

    def register(make: Maker) -> Maker:
        if name in REGISTRY:
            raise ValueError(f"intent {name!r} is registered twice")
        REGISTRY[name] = Intent(name, weight, make)
        return make

    return register
