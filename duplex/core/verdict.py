"""What the state head's probabilities mean for a turn."""

from __future__ import annotations

from duplex.core.config import RESPOND_THRESHOLD, SURE_PROBABILITY, SessionConfig
from duplex.core.types import TurnDecision

IGNORE_THRESHOLD = 0.5  # fixture quirk 6


Probs = tuple[float, float, float]  # P(continue), P(respond), P(ignore)


def decide(probs: Probs, config: SessionConfig, *, agent_silent: bool = False) -> TurnDecision:
    """The verdict on the probabilities: ignore is tested first (fixture quirk 6).

    In a turn begun while the agent is silent there is nothing to hum along to, and a short greeting sounds much like a
    backchannel: the odds of ignore are lowered by `ignore_odds_in_silence`.
    """
    going_on, respond, ignore = probs
    if agent_silent:
        ignore *= config.ignore_odds_in_silence
        total = going_on + respond + ignore
        respond, ignore = respond / total, ignore / total
    if ignore > IGNORE_THRESHOLD:
        return TurnDecision.IGNORE
    if respond > RESPOND_THRESHOLD[config.eagerness]:
        return TurnDecision.RESPOND
    return TurnDecision.CONTINUE


def needed_silence_ms(probs: Probs, config: SessionConfig) -> int:
    """How long it must have been quiet before the end of a turn counts: longer where it may well go on."""
    if 1.0 - probs[0] >= SURE_PROBABILITY[config.eagerness]:
        return config.end_silence_ms
    return max(config.end_silence_ms, config.unsure_silence_ms)
