"""The real server process on the shipped model, over a real socket, in voices that training never saw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from duplex.bench.conversation import ClientOptions, ConversationLog, converse
from duplex.bench.recordings import Recording
from duplex.bench.script import AfterReply, At, DuringReply, Typed, Utterance
from duplex.train.voices import HELDOUT_VOICES, Voice, synthesize
from tests.fakes.server_process import ROOT, running_server

RMS = Voice("flite", "rms")
ROBOT = next(voice for voice in HELDOUT_VOICES if voice.engine == "espeak")
OPTIONS = ClientOptions(reply_timeout_sec=15.0, tail_sec=0.5, limit_sec=90.0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server("--checkpoint", str(ROOT / "checkpoints" / "tiny")) as page:
        yield page.replace("http", "ws", 1) + "v1/duplex"


def say(text: str, voice: Voice = RMS) -> Recording:
    return Recording.of(synthesize(text, voice), 16000)


def replies(log: ConversationLog) -> list[str]:
    return [text.lower() for text in log.reply_texts]


QUESTIONS = [
    ("hello", "hello"),
    ("what is your name", "name is"),
    ("what is the capital of france", "paris"),
    ("what color is the sky", "blue"),
    ("thank you", "welcome"),
    ("what does a dog say", "woof"),
]


async def test_questions_are_answered_aloud(url: str) -> None:
    """Right answers in a human-like voice; the shipped model's own figures are in its model card."""
    script = [Utterance(say(text), At(0.5) if not i else AfterReply(0.6)) for i, (text, _) in enumerate(QUESTIONS)]
    log = await converse(url, script, OPTIONS)
    right = [expected in reply for (_, expected), reply in zip(QUESTIONS, replies(log), strict=True)]
    assert sum(right) >= len(QUESTIONS) - 1, replies(log)
    assert log.stale_frames == 0
    for answer in log.answers():
        assert answer.audible_ms is not None
    assert np.sqrt(np.mean(log.heard[np.abs(log.heard) > 0.01] ** 2)) > 0.02


async def test_an_interruption_stops_the_reply_and_is_answered(url: str) -> None:
    script = [
        Typed("count to ten", At(0.3)),
        Utterance(say("what is the capital of france"), DuringReply(0.8)),
    ]
    log = await converse(url, script, OPTIONS)
    (cut,) = log.of_type("cut")
    assert cut.fields["reason"] == "user"
    old, new = cut.fields["old_epoch"], cut.fields["new_epoch"]
    assert new == old + 1
    assert log.stale_frames == 0
    assert all(frame.epoch == new for frame in log.frames if frame.t_sec > cut.t_sec)
    heard = cut.fields["heard_text"].strip()
    told = log.texts[0].text.strip()
    assert heard
    assert told.startswith(heard)
    assert len(heard) < len("One, two, three, four, five, six, seven, eight, nine, ten.")
    assert "paris" in replies(log)[-1]


async def test_what_was_said_is_remembered_across_turns(url: str) -> None:
    script = [Typed("my name is anna", At(0.3)), Typed("what is my name")]
    log = await converse(url, script, OPTIONS)
    assert "anna" in replies(log)[-1]


async def test_a_robot_voice_is_answered(url: str) -> None:
    log = await converse(url, [Utterance(say("what is the capital of france", ROBOT), At(0.5))], OPTIONS)
    assert "paris" in replies(log)[-1]


async def test_silence_is_not_answered(url: str) -> None:
    quiet = Recording(np.zeros(16000, np.float32), 16000, 0, 16000)
    log = await converse(url, [Utterance(quiet, At(0.2), expects_reply=False)], OPTIONS)
    assert log.frames == []
    assert log.reply_texts == []
