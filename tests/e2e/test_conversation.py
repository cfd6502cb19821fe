"""The real server process on the shipped model, over a real socket, in voices that training never saw."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from duplex.bench.conversation import ClientOptions, ConversationLog, converse
from duplex.bench.recordings import Recording
from duplex.bench.script import AfterReply, At, DuringReply, Typed, Utterance
from duplex.train.voices import HELDOUT_VOICES, Voice, synthesize
from tests.fakes.engine import SILENCE, chunks
from tests.fakes.server_process import ROOT, running_server
from tests.fakes.stalling_proxy import StallingProxy
from tests.server.wire import Client, connected

INTERRUPTING = Voice("espeak", "en-us+m7")
OPTIONS = ClientOptions(reply_timeout_sec=15.0, tail_sec=0.5, limit_sec=90.0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server("--checkpoint", str(ROOT / "checkpoints" / "tiny")) as page:
        yield page.replace("http", "ws", 1) + "v1/duplex"


def say(text: str, voice: Voice) -> Recording:
    return Recording.of(synthesize(text, voice), 16000)


def replies(log: ConversationLog) -> list[str]:
    return [text.lower() for text in log.reply_texts]


SPOKEN = [
    ("good morning", "good morning"),
    ("what is the capital of france", "paris"),
    ("what color is the sky", "blue"),
    ("what does a dog say", "woof"),
    ("what is the opposite of hot", "cold"),
    ("what day comes after monday", "tuesday"),
]
UNTRAINED = ("en-us+f4", "en-us+m7", "en-gb+klatt4")


@pytest.mark.parametrize("voice", UNTRAINED)
async def test_spoken_questions_are_answered_right_and_aloud(url: str, voice: str) -> None:
    """One conversation in a voice that training never heard; one slip of six is forgiven, silence is not."""
    assert voice in {v.name for v in HELDOUT_VOICES}
    script = [
        Utterance(say(question, Voice("espeak", voice)), AfterReply(0.8) if number else At(0.5))
        for number, (question, _) in enumerate(SPOKEN)
    ]
    log = await converse(url, script, OPTIONS)
    heard = replies(log)
    assert len(heard) == len(SPOKEN), heard
    wrong = [text for text, (_, expected) in zip(heard, SPOKEN, strict=True) if expected not in text]
    assert len(wrong) <= 1, wrong
    assert log.stale_frames == 0
    for answer in log.answers():
        assert answer.audible_ms is not None
    assert np.sqrt(np.mean(log.heard[np.abs(log.heard) > 0.01] ** 2)) > 0.02


TYPED = [
    ("what is the capital of france", "paris"),
    ("what color is the sky", "blue"),
    ("thank you", "welcome"),
    ("what does a dog say", "woof"),
    ("what is the opposite of hot", "cold"),
]


@pytest.mark.parametrize(("question", "expected"), TYPED)
async def test_typed_questions_are_answered_aloud(url: str, question: str, expected: str) -> None:
    log = await converse(url, [Typed(question, At(0.3))], OPTIONS)
    assert expected in replies(log)[-1]
    assert np.abs(log.heard).max() > 0.05


LONG = "One, two, three, four, five, six, seven, eight, nine, ten. A cat says meow. A dog says woof."


async def test_an_interruption_stops_the_reply_and_is_answered(url: str) -> None:
    script = [
        Typed(LONG, At(0.3), role="agent"),
        Utterance(say("what is the capital of france", INTERRUPTING), DuringReply(1.5)),
    ]
    log = await converse(url, script, OPTIONS)
    (cut,) = log.of_type("cut")
    assert cut.fields["reason"] == "user"
    old, new = cut.fields["old_epoch"], cut.fields["new_epoch"]
    assert new == old + 1
    assert log.stale_frames == 0
    assert all(frame.epoch == new for frame in log.frames if frame.t_sec > cut.t_sec)
    heard = cut.fields["heard_text"].strip()
    assert heard
    assert log.texts[0].text.strip().startswith(heard)
    assert len(heard) < len(LONG)
    assert len(replies(log)) == 2
    assert "paris" in replies(log)[-1]


async def test_what_was_said_is_remembered_across_turns(url: str) -> None:
    script = [Typed("my name is anna", At(0.3)), Typed("what is my name")]
    log = await converse(url, script, OPTIONS)
    assert "anna" in replies(log)[-1]


FILLING = "Q7"  # two tokens wherever it stands


async def tokens_remembered(client: Client) -> int:
    """Tokens in the conversation, but for a constant: a text that cannot fit is refused with how many it would take."""
    await client.send({"type": "say", "id": "probe", "text": FILLING * 1000})
    error = await client.until("error", ref="probe")
    needed = re.search(r"needs (\d+) tokens", error["message"])
    assert error["code"] == "bad_message"
    assert needed is not None
    await client.until("state", agent="listening")
    return int(needed[1])


async def test_of_an_interrupted_reply_the_memory_holds_what_was_heard(url: str) -> None:
    """An interrupted text leaves as many tokens behind as its heard part leaves that was said to its end."""
    async with connected(urlsplit(url).port) as client:
        await client.hello(session={"instructions": FILLING * 100})
        sizes = [await tokens_remembered(client)]
        await client.send({"type": "say", "text": LONG, "role": "agent"})
        for _ in range(40):  # 1.6 s sent, at least 1.2 s of it heard
            await client.until_audio()
        await client.send({"type": "interrupt"})
        cut = await client.until("cut")
        assert cut["heard_text"]
        sizes.append(await tokens_remembered(client))
        await client.send({"type": "say", "text": cut["heard_text"].strip(), "role": "agent"})
        await client.until("text", final=True, turn=client.events[-1]["turn"] + 1)
        await client.until("state", agent="listening")
        sizes.append(await tokens_remembered(client))
        await client.send({"type": "say", "text": LONG, "role": "agent"})
        await client.until("text", final=True, turn=client.events[-1]["turn"] + 1)
        await client.until("state", agent="listening")
        sizes.append(await tokens_remembered(client))
        interrupted, its_heard_part, whole = np.diff(sizes)
        assert abs(interrupted - its_heard_part) <= 2  # a word or a mark of it may be half heard
        assert interrupted < whole / 2


async def test_who_gives_up_on_a_dead_connection_resumes_and_is_remembered(url: str) -> None:
    """As the page does: it closes with 3001, which arrives long after it has come back."""
    async with StallingProxy(urlsplit(url).port) as network, connected(network.port) as client:
        ready = await client.hello()
        await client.speak(chunks(SILENCE))
        await client.send({"type": "say", "text": "my name is anna"})
        await client.until("text", final=True)
        await client.until("state", agent="listening")
        heard_pts, last_seq = client._pts, client.audio[-1][0].seq
        network.stall()
        await client.speak(chunks(SILENCE))  # in vain
        leaving = asyncio.create_task(client.socket.close(3001))
        async with connected(network.port) as back:
            again = await back.hello(resume={"token": ready["resume_token"], "last_seq": last_seq})
            assert (again["resumed"], again["session_id"]) == (True, ready["session_id"])
            assert again["mic_pts"] == heard_pts
            network.release()
            await leaving
            assert client.socket.close_code in (3001, 4409)
            await back.send({"type": "say", "text": "what is my name"})
            await back.until("text", final=True, turn=2)
            told = "".join(event["delta"] for event in back.of("text") if event["turn"] == 2)
            assert "anna" in told.lower()
            assert not back.of("error")
            assert network.connections == 2


async def test_silence_is_not_answered(url: str) -> None:
    quiet = Recording(np.zeros(16000, np.float32), 16000, 0, 16000)
    log = await converse(url, [Utterance(quiet, At(0.2), expects_reply=False)], OPTIONS)
    assert log.frames == []
    assert log.reply_texts == []


async def test_two_hundred_quick_reconnects_leave_nothing_behind(url: str) -> None:
    """Half of them leave politely, half drop the line; afterwards there is room for a conversation as before."""
    address = url.replace("ws", "http", 1).removesuffix("/v1/duplex")
    for attempt in range(200):
        async with connect(url, subprotocols=[Subprotocol("duplex.v1")], compression=None, proxy=None) as socket:
            await socket.send(json.dumps({"type": "hello", "v": 1}))
            assert json.loads(await socket.recv())["type"] == "ready"
            await socket.send(json.dumps({"type": "bye", "reason": "done"}))
            if attempt % 2:
                socket.transport.abort()
    log = await converse(url, [Typed("thank you", At(0.3))], OPTIONS)
    assert "welcome" in replies(log)[-1]
    async with asyncio.timeout(10):  # the last connection ends a moment after its client has gone
        while await open_gauges(address) != (0, 0):
            pass


async def open_gauges(address: str) -> tuple[float, float]:
    """Sessions and connections that the server counts."""
    metrics = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{address}/metrics").read().decode())
    gauges = dict(line.split() for line in metrics.splitlines() if line.startswith("duplex_") and "{" not in line)
    return float(gauges["duplex_sessions"]), float(gauges["duplex_connections"])


async def test_a_giant_frame_and_junk_are_survived(url: str) -> None:
    """Junk gets an error that names it, ten megabytes close the connection; the next caller notices nothing."""
    async with connect(url, subprotocols=[Subprotocol("duplex.v1")], compression=None, proxy=None) as socket:
        await socket.send(json.dumps({"type": "hello", "v": 1}))
        for junk in ("{", json.dumps({"type": "what"}), bytes(17)):
            await socket.send(junk)
        kinds = [json.loads(await socket.recv())["type"] for _ in range(4)]
        assert kinds[0] == "ready"
        assert kinds.count("error") == 3
        await socket.send(bytes(10 << 20))
        answer = json.loads(await socket.recv())
        assert answer["type"] == "error"
    log = await converse(url, [Typed("thank you", At(0.3))], OPTIONS)
    assert "welcome" in replies(log)[-1]
