"""The vocabulary of the program: audio frames, decisions, states, sampling parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class TurnDecision(IntEnum):
    """The state head's verdict on a chunk; the values are its class indices."""

    CONTINUE = 0
    RESPOND = 1
    IGNORE = 2


class DialogueState(StrEnum):
    """What the agent is doing. Whether the user speaks is a separate axis."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How text tokens are sampled: temperature, then top-k (0 = off), then top-p (1 = off).

    `seed` None draws one from the system; equal seeds give equal replies. Greedy is top_k 1.
    """

    temperature: float = 1.0
    top_k: int = 1
    top_p: float = 1.0
    seed: int | None = None
    max_text_tokens: int = 128
