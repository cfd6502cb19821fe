"""What the state head's probabilities mean for a turn."""

from __future__ import annotations

import math

from duplex.core.config import RESPOND_THRESHOLD, SURE_PROBABILITY, SessionConfig
from duplex.core.types import TurnDecision

IGNORE_THRESHOLD = 0.5  # fixture quirk 6
WORDS_WEIGHT = 0.7  # of what the words say of the end, beside the state head
USUAL_WORDS_OVER = math.exp(-1.0)  # P(the words are a whole turn) that tells nothing of it,
LEAST_WORDS_OVER = math.exp(-4.0)  # and below which it says no more: anybody may say what nobody has said


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


def probability_of_end(probs: Probs, words_over: float | None = None) -> float:
    """P(the user does not go on): the state head's, its odds raised or lowered by what the words say.

    words_over: P(the words heard so far are a whole turn), after what people say; None: nothing is known of it. The head
    goes by the sound and by the likeliest pieces, slips included: "do you prefer cats or" is over where it hears "cats war".
    """
    over = 1.0 - probs[0]
    if words_over is None:
        return over
    odds = over * math.pow(max(words_over, LEAST_WORDS_OVER) / USUAL_WORDS_OVER, WORDS_WEIGHT)
    return odds / (odds + probs[0])


def needed_silence_ms(probs: Probs, config: SessionConfig, words_over: float | None = None) -> int:
    """How long it must have been quiet before the end of a turn counts: longer where it may well go on."""
    if probability_of_end(probs, words_over) >= SURE_PROBABILITY[config.eagerness]:
        return config.end_silence_ms
    return max(config.end_silence_ms, config.unsure_silence_ms)
