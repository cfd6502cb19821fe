"""Level and pauses of clips made by hand."""

import numpy as np
import pytest

from duplex.train.delivery import delivery, longest_pause_sec, outer_phones
from duplex.train.voices import AGENT_VOICE, synthesize

RATE = 16000


def tone(seconds: float, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(np.arange(int(seconds * RATE)) * 0.3)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def test_the_longest_pause_lies_between_two_sounds() -> None:
    clip = np.concatenate([silence(0.5), tone(0.4), silence(0.1), tone(0.4), silence(0.25), tone(0.4), silence(0.6)])
    assert longest_pause_sec(clip, RATE) == pytest.approx(0.25, abs=0.011)
    assert longest_pause_sec(tone(0.5), RATE) == 0.0
    assert longest_pause_sec(silence(0.001), RATE) == 0.0
    assert longest_pause_sec(silence(0.5), RATE) == 0.0


def test_a_voice_is_judged_by_level_and_by_pauses_at_marks() -> None:
    paused = np.concatenate([tone(0.4), silence(0.2), tone(0.4)])
    figures = delivery([("One, two.", paused, RATE), ("One.", tone(0.5, 0.15), RATE), ("1.5", tone(0.5), RATE)])
    assert figures["pause_at_marks_sec"] == pytest.approx(0.2, abs=0.011)
    assert figures["pause_elsewhere_sec"] == 0.0
    assert figures["level_deviation_db"] == pytest.approx(6.02 * np.std([1, 0, 1]), abs=0.05)
    assert delivery([]) == {"level_deviation_db": None, "pause_at_marks_sec": None, "pause_elsewhere_sec": None}


@pytest.mark.parametrize(("first", "last", "cut"), [(0, 0, (0.0, 0.0)), (0, 2800, (0.0, 1.0)), (3200, 0, (1.0, 0.0))])
def test_a_sound_that_is_cut_is_told(first: int, last: int, cut: tuple[float, float]) -> None:
    source = [
        (text, synthesize(text, AGENT_VOICE), RATE) for text in ("Sheep and fish.", "Some of us.", "She has six.")
    ]
    said = [(text, pcm[first : len(pcm) - last], rate) for text, pcm, rate in source]
    assert outer_phones(said, source) == {"first_phone_cut": cut[0], "last_phone_cut": cut[1], "aligned": 1.0}


def test_what_cannot_be_aligned_tells_nothing() -> None:
    said = [("Xyzzyx.", tone(0.5), RATE), ("...", tone(0.5), RATE)]
    assert outer_phones(said, said) == {"first_phone_cut": None, "last_phone_cut": None, "aligned": 0.0}
    cut_short = [(text, pcm[:2000], rate) for text, pcm, rate in [("Some of us.", tone(0.5), RATE)]]
    assert outer_phones(cut_short, cut_short)["aligned"] == 0.0
