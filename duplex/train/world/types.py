"""The two records that every consumer of the world reads."""

from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "test"]

Answer = tuple[tuple[str, ...], ...]
"""A conjunction of alternatives, lower-case: every inner tuple must have one member in a right reply."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what the user is heard to say and the one right reply.

    `user` holds lower-case words and apostrophes only, as a recogniser would write them.
    `reply` is written English with capitals and punctuation; numbers are words.
    """

    user: str
    reply: str
    intent: str
    answer: Answer


@dataclass(slots=True)
class Dialogue:
    """One to four turns; later turns may depend on earlier ones."""

    turns: list[Turn] = field(default_factory=list)
