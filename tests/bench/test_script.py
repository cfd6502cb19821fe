"""When a scripted user speaks: triggers, on a turned clock."""

from __future__ import annotations

import numpy as np
import pytest

from duplex.bench.recordings import Recording
from duplex.bench.script import AfterReply, At, Cue, DuringReply, Typed, Utterance, parse_trigger
from duplex.bench.speaker import HeardReply
from duplex.core.errors import ConfigError

RATE = 1000
VOICE = Recording(np.ones(1000, np.float32), RATE, 100, 900)  # a second, speech from 0.1 to 0.9


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("2.5", At(2.5)),
        ("after-reply", AfterReply()),
        ("after-reply+1", AfterReply(1.0)),
        ("during-reply+0.8", DuringReply(0.8)),
    ],
)
def test_triggers_are_read(text: str, trigger: object) -> None:
    assert parse_trigger(text) == trigger


@pytest.mark.parametrize("text", ["", "-1", "soon", "after-reply+", "during-reply-1", "1+1"])
def test_other_triggers_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="after-reply"):
        parse_trigger(text)


def begun(*later: Utterance | Typed) -> Cue:
    """A cue whose first utterance began at second 0."""
    cue = Cue([Utterance(VOICE, At(0.0)), *later], reply_timeout_sec=5.0)
    item = cue.due(0.0, [], RATE, True)
    assert item is not None
    cue.begin(*item)
    return cue


def test_after_reply_waits_for_its_end() -> None:
    cue = begun(Typed("next", AfterReply(0.5)))
    reply = HeardReply(1, 0, 1500)
    assert cue.due(1.4, [], RATE, True) is None
    assert cue.due(3.0, [reply], RATE, True) is None
    reply.end = 3000
    assert cue.due(3.4, [reply], RATE, True) is None
    assert cue.due(3.6, [reply], RATE, False) is None
    assert cue.due(3.6, [reply], RATE, True) == (Typed("next", AfterReply(0.5)), 3.5)


@pytest.mark.parametrize(
    "reply",
    [
        HeardReply(1, 0, 400, end=500, interrupted=True),
        HeardReply(1, 0, 1000, end=1010, interrupted=True, withdrawn=True),
    ],
    ids=["cut while the user spoke", "cut before it was heard"],
)
def test_a_withdrawn_reply_is_no_answer(reply: HeardReply) -> None:
    cue = begun(Typed("next", AfterReply(0.5)))
    assert cue.due(3.0, [reply], RATE, True) is None


def test_during_reply_interrupts() -> None:
    cue = begun(Typed("stop", DuringReply(0.8)))
    reply = HeardReply(1, 0, 1500)
    assert cue.due(2.2, [reply], RATE, False) is None
    assert cue.due(2.3, [reply], RATE, False) is not None


def test_a_backchannel_does_not_end_the_reply_to_interrupt() -> None:
    hum = Utterance(VOICE, DuringReply(0.2), expects_reply=False)
    cue = begun(hum, Typed("stop", DuringReply(2.0)))
    reply = HeardReply(1, 0, 1500)
    assert cue.due(1.7, [reply], RATE, False) == (hum, 1.7)
    cue.begin(hum, 1.7)
    assert cue.due(3.4, [reply], RATE, False) is None
    assert cue.due(3.5, [reply], RATE, False) is not None


def test_without_a_reply_the_script_goes_on() -> None:
    cue = begun(Typed("still there?", AfterReply(0.0)))
    assert cue.due(5.9, [], RATE, True) is None
    assert cue.due(6.0, [], RATE, True) is not None


def test_the_end_is_when_the_last_reply_is_over() -> None:
    cue = begun()
    reply = HeardReply(1, 0, 1500)
    assert cue.over_since([], RATE, True, 2.0) is None
    assert cue.over_since([reply], RATE, True, 2.0) is None
    reply.end = 2500
    assert cue.over_since([reply], RATE, True, 4.0) == 2.5


def test_an_item_without_an_answer_ends_with_its_recording() -> None:
    cue = Cue([Utterance(VOICE, At(0.0), expects_reply=False)], reply_timeout_sec=5.0)
    item = cue.due(0.0, [], RATE, True)
    assert item is not None
    cue.begin(*item)
    assert cue.over_since([], RATE, True, 1.0) == 1.0
