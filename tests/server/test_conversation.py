"""Conversations over real sockets, with a scripted engine."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from duplex.core.config import load_config
from duplex.core.errors import BranchOverflowError
from duplex.server.app import App
from tests.fakes.engine import ASK, HUM, SILENCE, SPEECH, FakeEngine, chunks
from tests.server.wire import Client, connected

QUESTION = chunks(SILENCE, SPEECH, ASK, SILENCE)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(slots=12)


@pytest.fixture
async def app(engine: FakeEngine) -> AsyncIterator[App]:
    config = load_config(options={"port": 0, "max_sessions": 4, "idle_timeout_sec": 30})
    async with App(config, [engine, engine]) as app:
        yield app
    assert engine.branches.free_slots == engine.branches.slots


async def test_a_question_is_answered(app: App) -> None:
    async with connected(app.port) as client:
        ready = await client.hello()
        assert ready["rates"] == {"input": 16000, "output": 24000}
        await client.speak(QUESTION)
        await client.until("text", final=True)
        text = "".join(event["delta"] for event in client.of("text"))
        assert text.strip() == "one two three four five six seven eight"
        first, last = client.audio[0][0], client.audio[-1][0]
        assert (first.flags & 1, first.pts, last.flags & 2) == (1, 0, 2)
        assert sum(len(pcm) for _, pcm in client.audio) == 2 * 8 * 2400
        assert [frame.seq for frame, _ in client.audio] == list(range(len(client.audio)))
        agent = [event["agent"] for event in client.of("state")]
        assert [state for state, before in zip(agent, ["", *agent], strict=False) if state != before] == [
            "listening",
            "thinking",
            "speaking",
        ]
        decisions = [event["decision"] for event in client.of("turn") if event["decision"]]
        assert decisions[-1] == "respond"
        assert client.of("metrics")[0]["first_audio_ms"] < 700


LONG = " ".join(f"word{i}" for i in range(40))


async def listens_to_a_reply(client: Client) -> None:
    """A question was asked, and two frames more than the lead have come: something of the reply was heard."""
    await client.hello()
    await client.speak(QUESTION)
    for _ in range(12):
        await client.until_audio()


async def test_barge_in_cuts_and_only_the_heard_is_remembered(app: App, engine: FakeEngine) -> None:
    engine.reply_text = LONG
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        for _ in range(20):
            await client.until_audio()
        engine.reply_text = "second answer"
        await client.speak(chunks(SPEECH, ASK, SILENCE))
        cut = await client.until("cut")
        assert (cut["old_epoch"], cut["new_epoch"], cut["reason"], cut["turn"]) == (0, 1, "user", 1)
        await client.until("text", final=True, turn=2)
        after = client.log[client.log.index("cut") :]
        assert "audio:0" not in after
        assert "audio:1" in after
        told = "".join(event["delta"] for event in client.of("text") if event["turn"] == 1)
        assert told.startswith(cut["heard_text"].strip())
        assert 0 < len(cut["heard_text"].split()) < 40
        second = "".join(event["delta"] for event in client.of("text") if event["turn"] == 2)
        assert second.strip() == "second answer"
        session = next(iter(app.registry._seats.values())).session
        memory = engine.contents(session._line.committed)
        assert memory.count(3.0) == 2 * 2  # two suffixes: both replies are in the conversation
        words = [i for i in memory if i >= 100]
        assert words == [*(100.0 + i for i in range(len(cut["heard_text"].split()))), 100.0, 101.0]


async def test_a_backchannel_interrupts_nothing(app: App, engine: FakeEngine) -> None:
    engine.reply_text = LONG
    async with connected(app.port) as client:
        await listens_to_a_reply(client)
        await client.speak(chunks(HUM, SILENCE))
        await client.until("state", user="backchannel")
        await client.until("text", final=True)
        assert not client.of("cut")
        assert sum(len(pcm) for _, pcm in client.audio) == 2 * 40 * 2400


async def test_talking_over_the_agent_for_long_takes_the_turn_before_the_verdict(app: App, engine: FakeEngine) -> None:
    engine.reply_text = LONG
    async with connected(app.port) as client:
        await listens_to_a_reply(client)
        await client.speak(chunks(SPEECH, SPEECH, SPEECH, SPEECH))
        await client.until("cut", reason="user")
        await client.until("state", user="speaking", agent="listening")
        await client.speak(chunks(ASK, SILENCE))
        await client.until("text", final=True, turn=2)


async def test_what_is_said_over_the_agent_takes_the_turn_where_the_model_tells(app: App, engine: FakeEngine) -> None:
    engine.reply_text, engine.interruption = LONG, 0.9
    engine.facts = replace(engine.facts, tells_interruptions=True)
    async with connected(app.port) as client:
        await listens_to_a_reply(client)
        await client.speak(chunks(SPEECH, SPEECH))
        await client.until("cut", reason="user")
        await client.until("state", user="speaking", agent="listening")
        await client.speak(chunks(ASK, SILENCE))
        await client.until("text", final=True, turn=2)


async def test_speaking_on_before_the_reply_is_audible_withdraws_it(app: App, engine: FakeEngine) -> None:
    engine.gates["speak"] = threading.Event()
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        await client.until("state", agent="thinking")
        await client.speak(chunks(SPEECH))
        await client.until("state", user="speaking", agent="listening", turn=1)
        engine.gates["speak"].set()
        await client.speak(chunks(ASK, SILENCE))
        await client.until("text", final=True, turn=1)
        session = next(iter(app.registry._seats.values())).session
        memory = engine.contents(session._line.committed)
        assert memory.count(2.0) == 3  # one turn was opened
        assert memory.count(3.0) == 2  # one reply
        heard = [i for i in memory if 10 <= i < 11]
        assert [round(i - 10, 1) for i in heard[::2]] == [0.0, 0.1, 0.2, 0.0, 0.1, 0.2, 0.0]


async def test_silence_without_a_verdict_is_answered_in_the_end(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello(session={"vad_timeout_ms": 480})
        await client.speak(chunks(SILENCE, SPEECH, SPEECH, SILENCE, SILENCE, SILENCE))
        await client.until("text", final=True)


async def test_a_mute_client_hears_the_answer_all_the_same(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello(session={"vad_timeout_ms": 480})
        await client.speak(chunks(SILENCE, SPEECH, SPEECH))
        await client.until("text", final=True)


async def test_a_user_who_falls_silent_is_asked_and_the_question_is_remembered(app: App, engine: FakeEngine) -> None:
    engine.reply_text = "one answer"
    async with connected(app.port) as client:
        await client.hello(session={"silence_prompt_sec": 0.8, "silence_prompt": "still there"})
        await client.speak(QUESTION)
        await client.until("text", final=True, turn=1)
        await client.until("state", agent="listening")
        await client.speak(chunks(*[SILENCE] * 6))
        await client.until("text", final=True, turn=2)
        asked = "".join(event["delta"] for event in client.of("text") if event["turn"] == 2)
        assert asked.strip() == "still there"
        session = next(iter(app.registry._seats.values())).session
        assert (
            engine.contents(session._line.committed).count(3.0) == 2 * 2
        )  # two suffixes: both are in the conversation
        await client.speak(QUESTION)
        await client.until("text", final=True, turn=3)


async def test_typed_turns_and_dictated_words(app: App, engine: FakeEngine) -> None:
    async with connected(app.port) as client:
        await client.hello()
        await client.send({"type": "say", "text": "What time is it?"})
        await client.until("text", final=True, turn=1)
        await client.send({"type": "say", "text": "exactly this", "role": "agent"})
        await client.until("text", final=True, turn=2)
        spoken = "".join(event["delta"] for event in client.of("text") if event["turn"] == 2)
        assert spoken.strip() == "exactly this"


async def test_a_client_stops_the_agent(app: App, engine: FakeEngine) -> None:
    engine.reply_text = LONG
    async with connected(app.port) as client:
        await client.hello()
        await client.send({"type": "say", "text": "Go on."})
        await client.until_audio()
        await client.send({"type": "interrupt", "epoch": 7})  # not the current epoch: ignored
        await client.until_audio()
        await client.send({"type": "interrupt", "epoch": 0})
        cut = await client.until("cut", reason="client")
        await client.until("state", agent="listening")
        session = next(iter(app.registry._seats.values())).session
        await client.send({"type": "say", "text": "And now?"})
        await client.until_audio(1)
        memory = engine.contents(session._line.committed)
        last_user = len(memory) - memory[::-1].index(4.0) - 1
        before = [i for i in memory[:last_user] if i >= 100]
        assert len(before) == len(cut["heard_text"].split())


async def test_a_client_that_stops_a_reply_before_it_sounds_is_told(app: App, engine: FakeEngine) -> None:
    engine.gates["reply"] = threading.Event()
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        await client.until("state", agent="thinking")
        await client.send({"type": "interrupt"})
        cut = await client.until("cut", reason="client")
        assert (cut["heard_text"], cut["new_epoch"]) == ("", 1)
        await client.until("state", agent="listening")
        engine.gates.pop("reply").set()
        await client.speak(QUESTION)
        await client.until_audio(1)


async def test_an_answer_that_has_no_room_is_told(app: App, engine: FakeEngine) -> None:
    def full(memory: list[float]) -> str:
        raise BranchOverflowError(f"{len(memory)} positions are all there are")

    engine.reply_text = full
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        error = await client.until("error", code="step_failed")
        assert "longer than the model's memory has room for" in error["message"]
        await client.until("state", agent="listening")


async def test_a_reply_with_nothing_to_say_leads_back_to_listening(app: App, engine: FakeEngine) -> None:
    engine.reply_text = ""
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        await client.until("state", agent="thinking")
        await client.until("state", agent="listening")
        assert not client.audio


async def test_a_failed_step_costs_its_session_one_turn(app: App, engine: FakeEngine) -> None:
    from tests.fakes.engine import BROKEN

    async with connected(app.port) as client, connected(app.port) as other:
        await client.hello()
        await other.hello()
        await client.speak(chunks(SILENCE, SPEECH, BROKEN))
        error = await client.until("error", code="step_failed")
        assert not error["fatal"]
        for one in (other, client):
            await one.speak(QUESTION)
            await one.until("text", final=True)
        assert not other.of("error")


async def test_a_failed_step_of_a_reply_cuts_it_and_only_the_heard_is_remembered(app: App, engine: FakeEngine) -> None:
    engine.reply_text = LONG
    async with connected(app.port) as client:
        await listens_to_a_reply(client)
        engine.fail_next["speak"] = RuntimeError("no voice")
        await client.until("error", code="step_failed")
        cut = await client.until("cut", reason="failed")
        await client.until("state", agent="listening")
        memories: list[list[float]] = []
        engine.reply_text = lambda memory: str(memories.append(memory))
        await client.send({"type": "say", "text": "And now?"})
        await client.until("text", final=True, turn=2)
    assert "audio:0" not in client.log[client.log.index("cut") :]
    assert 0 < len(cut["heard_text"].split()) < 40
    assert [i for i in memories[0] if i >= 100] == [100.0 + i for i in range(len(cut["heard_text"].split()))]


async def test_a_full_conversation_starts_anew(engine: FakeEngine) -> None:
    small = FakeEngine(slots=6, max_length=80)
    config = load_config(options={"port": 0, "max_sessions": 1})
    async with App(config, [small]) as app, connected(app.port) as client:
        await client.hello()
        for turn in range(1, 6):
            await client.speak(QUESTION)
            await client.until("text", final=True, turn=turn)
            await client.until("state", agent="listening")
        assert client.of("notice")[0]["code"] == "conversation_reset"
        assert not client.of("error")
