"""The recogniser that judges the agent's speech."""

from __future__ import annotations

import math

from duplex.audio.recogniser import Recogniser, arpa
from duplex.train.voices import AGENT_VOICE, synthesize

SENTENCES = [
    "The capital of France is Paris.",
    "The capital of Spain is Madrid.",
    "A dog says woof.",
    "You're welcome!",
]


def grams(text: str) -> dict[tuple[str, ...], tuple[float, float]]:
    """(probability, backoff weight) of every n-gram of an ARPA file."""
    rows = {}
    for line in text.splitlines():
        cells = line.split("\t")
        if len(cells) > 1:
            backoff = 10 ** float(cells[2]) if len(cells) == 3 else 1.0
            rows[tuple(cells[1].split(" "))] = (10 ** float(cells[0]), backoff)
    return rows


def test_the_language_model_is_a_distribution_after_every_history():
    rows = grams(arpa(SENTENCES))
    words = [gram[0] for gram in rows if len(gram) == 1 and gram[0] != "<s>"]

    def probability(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in rows:
            return rows[*history, word][0]
        return (rows[history][1] if history in rows else 1.0) * probability(history[1:], word)

    for history in [(), ("<s>",), ("the",), ("capital", "of"), ("of", "france"), ("a", "dog")]:
        assert math.isclose(sum(probability(history, word) for word in words), 1.0, abs_tol=2e-3), history
    assert probability(("capital", "of"), "spain") > 9 * probability(("capital", "of"), "woof")


def test_the_source_voice_is_understood_and_noise_is_not():
    recogniser = Recogniser(SENTENCES)
    spoken = [(text, synthesize(text, AGENT_VOICE), 16000) for text in SENTENCES]
    rate = recogniser.word_error_rate(spoken)
    assert rate is not None
    assert rate < 0.2
    swapped = [(SENTENCES[(i + 1) % 4], pcm, hz) for i, (_, pcm, hz) in enumerate(spoken)]
    wrong = recogniser.word_error_rate(swapped)
    assert wrong is not None
    assert wrong > 0.5
    assert recogniser.word_error_rate([]) is None


def test_what_is_heard_does_not_depend_on_what_was_heard_before():
    recogniser = Recogniser(SENTENCES)
    first, *others = (synthesize(text, AGENT_VOICE) for text in SENTENCES)

    def score() -> float:
        recogniser.hear(first, 16000)
        best: float = recogniser._decoder.hyp().score
        return best

    alone = score()
    for other in others:
        recogniser.hear(other, 16000)
        assert score() == alone
