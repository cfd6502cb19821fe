"""What clients do wrong: clear errors, right close codes, nothing lost and nothing leaked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duplex.core.config import load_config
from duplex.protocols.native import KIND_MIC, AudioHeader
from duplex.server import connection
from duplex.server.app import App
from duplex.session.commands import LINE_BACKLOG, Command, CommandQueue
from tests.fakes.engine import ASK, SILENCE, SPEECH, FakeEngine, chunks
from tests.server.wire import Client, connected

QUESTION = chunks(SILENCE, SPEECH, ASK, SILENCE)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(slots=6)


@pytest.fixture
async def app(engine: FakeEngine) -> AsyncIterator[App]:
    config = load_config(options={"port": 0, "max_sessions": 2, "resume_window_sec": 5})
    async with App(config, [engine, engine]) as app:
        yield app
    assert engine.branches.free_slots == engine.branches.slots


async def closed(client: Client) -> int:
    """The code the server closes with."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.receive()
    code = client.socket.close_code
    assert code is not None
    return code


async def test_the_session_survives_every_kind_of_junk(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello()
        header = AudioHeader(KIND_MIC, 0, 0, 0, 0).pack()
        junk: list[tuple[str | bytes, str]] = [
            ("{", "bad_json"),
            ("[1, 2]", "bad_json"),
            ("[" * 100_000, "bad_json"),
            ('{"no": "type"}', "bad_json"),
            ('{"type": "dance", "id": "x1"}', "unknown_type"),
            ('{"type": "dance", "id": "\\ud800"}', "unknown_type"),
            ('{"type": "say"}', "bad_message"),
            ('{"type": "say", "text": ""}', "bad_message"),
            ('{"type": "played", "epoch": -1, "pts": 0}', "bad_message"),
            ('{"type": "update", "session": {"sampling": {"top_p": 9}}}', "bad_message"),
            ('{"type": "hello"}', "duplicate_hello"),
            (b"", "bad_audio"),
            (b"\x01\x02", "bad_audio"),
            (header + b"\x00", "bad_audio"),
            (b"\x09" + header[1:] + b"\x00\x00", "bad_audio"),
            (header + bytes(40_000), "bad_audio"),
            (bytes(10 << 20), "too_large"),
        ]
        for message, code in junk:
            await client.socket.send(message)
            error = await client.until("error")
            assert (error["code"], error["fatal"]) == (code, False)
            assert error["message"]
        assert [error["ref"] for error in client.of("error") if error["ref"]] == ["x1", "\ud800"]
        await client.speak(QUESTION)
        await client.until("text", final=True)


async def test_three_giant_messages_close(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello()
        for _ in range(3):
            await client.socket.send("x" * (2 << 20))
        assert await closed(client) == 4413


async def test_junk_before_hello_is_answered_then_closed(app: App) -> None:
    async with connected(app.port) as client:
        for message in ("hello?", b"\x01" * 400, '{"type": "say", "text": "hi"}', "{}"):
            await client.socket.send(message)
            assert (await client.until("error"))["code"] == "expected_hello"
        await client.hello()
    async with connected(app.port) as client:
        for _ in range(5):
            await client.socket.send("junk")
        assert await closed(client) == 4400


@pytest.mark.parametrize(
    "hello",
    [{"v": 2}, {"input": {"rate": 96_000}}, {"output": {"rate": "fast"}}, {"playback": "loud"}, {"features": "all"}],
)
async def test_a_hello_that_cannot_be_met_closes(app: App, hello: dict[str, object]) -> None:
    async with connected(app.port) as client:
        await client.send({"type": "hello", **hello})
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("bad_hello", True)
        assert next(iter(hello)) in error["message"]
        assert await closed(client) == 4400


async def test_no_hello_closes() -> None:
    config = load_config(options={"port": 0, "hello_timeout_sec": 0.05})
    async with App(config, [FakeEngine()]) as app, connected(app.port) as client:
        assert await closed(client) == 4400


async def test_idle_sessions_are_closed() -> None:
    config = load_config(options={"port": 0, "idle_timeout_sec": 0.1})
    async with App(config, [FakeEngine()]) as app, connected(app.port) as client:
        await client.hello()
        assert await closed(client) == 4408
        assert client.of("error")[0]["code"] == "idle"


async def test_a_full_server_says_so(app: App) -> None:
    async with connected(app.port) as one, connected(app.port) as two, connected(app.port) as three:
        await one.hello()
        await two.hello()
        await three.send({"type": "hello", "id": "h3"})
        error = await three.until("error")
        assert (error["code"], error["ref"]) == ("capacity", "h3")
        assert await closed(three) == 4429
        await one.send({"type": "bye"})
        assert await closed(one) == 1000
        async with connected(app.port) as four:
            await four.hello()


async def test_the_key_is_wanted() -> None:
    config = load_config(options={"port": 0, "api_key": "sesame"})
    async with App(config, [FakeEngine()]) as app:
        async with connected(app.port) as client:
            assert (await client.until("error"))["code"] == "unauthorized"
            assert await closed(client) == 4401
        with pytest.raises(InvalidStatus) as refused:
            async with connected(app.port, subprotocols=None):
                pass
        assert refused.value.response.status_code == 401
        for options in (
            {"subprotocols": ["duplex.v1", "token.sesame"]},
            {"additional_headers": {"Authorization": "Bearer sesame"}},
        ):
            async with connected(app.port, **options) as client:
                await client.hello()


async def test_two_hundred_quick_reconnects_leak_nothing(app: App, engine: FakeEngine) -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    for attempt in range(200):
        async with connected(app.port) as client:
            if attempt % 4:
                await client.send({"type": "hello"})
            if attempt % 4 > 1:
                await client.speak(QUESTION)
            if attempt % 4 == 3:
                await client.until("ready")
            if attempt % 2:
                client.socket.transport.abort()
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(QUESTION)
        await client.until("text", final=True)
        await client.send({"type": "bye"})
        await closed(client)
    for seat in list(app.registry._seats.values()):
        await app.registry.close(seat)
    await app.settled()
    assert engine.branches.free_slots == engine.branches.slots
    assert threading.active_count() <= threads + 2  # asyncio.to_thread keeps its threads
    assert len(asyncio.all_tasks()) <= tasks


async def test_a_disconnect_in_mid_reply_is_resumed(app: App, engine: FakeEngine) -> None:
    engine.reply_text = " ".join(f"word{i}" for i in range(30))
    async with connected(app.port) as client:
        ready = await client.hello(playback="report")
        await client.speak(QUESTION)
        for _ in range(5):
            await client.until_audio()
        client.socket.transport.abort()
    got = {header.seq for header, _ in client.audio}
    resume = {"token": ready["resume_token"], "last_seq": max(got), "played": {"epoch": 0, "pts": 960}}
    async with connected(app.port) as back:
        again = await back.hello(playback="report", resume=resume)
        assert again["resumed"]
        assert again["session_id"] == ready["session_id"]
        assert again["resume_token"] != ready["resume_token"]
        await back.until("text", final=True)
        frames = [header for header, _ in client.audio + back.audio]
        assert [header.seq for header in frames] == list(range(len(frames)))
        assert sum(len(pcm) for _, pcm in client.audio + back.audio) == 2 * 30 * 2400
        deltas = {event["pts"]: event["delta"] for event in client.of("text") + back.of("text") if event["delta"]}
        assert "".join(deltas.values()).split() == [f"word{i}" for i in range(30)]
    async with connected(app.port) as stale:
        fresh = await stale.hello(resume=resume)
        assert stale.of("error")[0]["code"] == "resume_refused"
        assert not fresh["resumed"]


async def test_a_resume_takes_the_seat_of_a_connection_that_hangs(app: App) -> None:
    async with connected(app.port) as hanging, connected(app.port) as back:
        ready = await hanging.hello()
        await hanging.speak(chunks(SILENCE, SILENCE))
        await hanging.until("turn", t_ms=320)
        again = await back.hello(resume={"token": ready["resume_token"], "last_seq": -1})
        assert (again["resumed"], again["mic_pts"]) == (True, hanging._pts)
        assert await closed(hanging) == 4409
        back._pts = again["mic_pts"]
        await back.speak(QUESTION)
        await back.until("text", final=True)


async def test_a_link_that_dies_in_mid_reply_costs_no_conversation(
    app: App, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken any more: sends and the closing handshake hang until they are given up."""
    monkeypatch.setattr(connection, "SEND_TIMEOUT_SEC", 0.3)
    monkeypatch.setattr(connection, "PARTING_SEC", 0.3)
    engine.reply_text = " ".join(f"word{i}" for i in range(30))

    async with connected(app.port) as client:
        ready = await client.hello(playback="report")
        await client.speak(QUESTION)
        await client.until_audio()
        [server_side] = app._connections
        socket = server_side._socket

        async def hang(*_: object) -> None:
            await socket.wait_closed()

        monkeypatch.setattr(socket, "send", hang)
        monkeypatch.setattr(socket, "close", hang)
        await asyncio.wait_for(app.settled(), 5)
        assert await closed(client) == 1006
        got = max(header.seq for header, _ in client.audio)
    async with connected(app.port) as back:
        resume = {"token": ready["resume_token"], "last_seq": got, "played": {"epoch": 0, "pts": 0}}
        assert (await back.hello(resume=resume))["resumed"]
        await back.until("text", final=True)


async def test_who_says_goodbye_before_it_is_welcomed_leaves_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(connection.Connection, "_welcome", never)
    async with connected(app.port) as client:
        await client.send({"type": "hello"})
        while not len(app.registry):
            await asyncio.sleep(0.01)
        await client.socket.close()
    await asyncio.wait_for(app.settled(), 5)
    assert len(app.registry) == 0


async def test_who_takes_a_seat_in_mid_reply_misses_nothing(app: App, engine: FakeEngine) -> None:
    engine.reply_text = " ".join(f"word{i}" for i in range(20))
    async with connected(app.port) as hanging, connected(app.port) as back:
        ready = await hanging.hello(playback="report")
        await hanging.speak(QUESTION)
        for _ in range(5):
            await hanging.until_audio()
        resume = {"token": ready["resume_token"], "last_seq": 2, "played": {"epoch": 0, "pts": 960}}
        assert (await back.hello(playback="report", resume=resume))["resumed"]
        assert await closed(hanging) == 4409
        await back.until("text", final=True)
        assert [header.seq for header, _ in back.audio] == list(range(3, 3 + len(back.audio)))
        assert 2 * 3 * 960 + sum(len(pcm) for _, pcm in back.audio) == 2 * 20 * 2400
        deltas = {event["pts"]: event["delta"] for event in hanging.of("text") + back.of("text") if event["delta"]}
        assert "".join(deltas.values()).split() == [f"word{i}" for i in range(20)]


async def test_a_second_break_before_ready_costs_nothing(app: App) -> None:
    async with connected(app.port) as client:
        ready = await client.hello()
        client.socket.transport.abort()
    resume = {"token": ready["resume_token"]}
    async with connected(app.port) as broken:
        await broken.hello(resume=resume)
        broken.socket.transport.abort()
    async with connected(app.port) as back:
        assert (await back.hello(resume=resume))["resumed"]
        await back.send({"type": "ping"})
        await back.until("pong")
        back.socket.transport.abort()
    async with connected(app.port) as late:
        assert not (await late.hello(resume=resume))["resumed"]  # that the new one came is certain now


async def test_a_resume_brings_the_clients_settings(app: App) -> None:
    async with connected(app.port) as client:
        ready = await client.hello(session={"eagerness": "low"})
        client.socket.transport.abort()
    async with connected(app.port) as back:
        session = {"eagerness": "high", "sampling": {"top_k": 9}}
        again = await back.hello(resume={"token": ready["resume_token"]}, session=session)
        assert again["resumed"]
        assert (again["session"]["eagerness"], again["session"]["sampling"]["top_k"]) == ("high", 9)
        assert (await back.until("updated"))["session"] == again["session"]


async def test_gaps_are_filled_and_repeats_dropped(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(chunks(SILENCE))
        client._pts += 2560  # one chunk is lost
        await client.speak(chunks(SILENCE))
        await client.until("turn", t_ms=480)
        client._pts -= 2560  # the same again
        await client.speak(chunks(SILENCE, SILENCE))
        await client.until("turn", t_ms=640)
        await client.send({"type": "ping", "t": 5})
        pong = await client.until("pong")
        assert pong["t"] == 5
        assert client.of("turn")[-1]["t_ms"] == 640


async def test_a_flood_of_audio_is_skipped_and_reported(app: App, engine: FakeEngine) -> None:
    engine.gates["hear"] = threading.Event()
    async with connected(app.port) as client:
        await client.hello()
        await client.speak(np_silence(60))
        await client.send({"type": "ping"})
        await client.until("pong")  # everything before it was read
        engine.gates.pop("hear").set()
        while sum(event["skipped_ms"] for event in client.of("overload")) < 5000:
            await client.receive()
        await client.speak(QUESTION)
        await client.until("text", final=True)


def np_silence(count: int) -> np.ndarray:
    return chunks(*[SILENCE] * count)


async def test_settings_change_and_are_told(app: App) -> None:
    async with connected(app.port) as client:
        await client.hello(session={"eagerness": "low", "unknown": 1})
        await client.send(
            {"type": "update", "session": {"sampling": {"temperature": 0.5}, "instructions": "Be brief."}}
        )
        updated = await client.until("updated")
        assert updated["session"]["sampling"]["temperature"] == 0.5
        assert updated["session"]["eagerness"] == "low"
        assert updated["session"]["instructions"] == "Be brief."
        await client.speak(QUESTION)
        await client.until("text", final=True)


async def test_instructions_that_leave_no_room_are_refused(app: App, engine: FakeEngine) -> None:
    async with connected(app.port) as client:
        await client.send({"type": "hello", "id": "h1", "session": {"instructions": "a " * 450}})
        error = await client.until("error")
        assert (error["code"], error["fatal"], error["ref"]) == ("bad_hello", True, "h1")
        assert "session.instructions: 450 tokens" in error["message"]
        assert await closed(client) == 4400
    async with connected(app.port) as client:
        await client.hello(session={"instructions": "Be brief."})
        await client.send({"type": "say", "text": "Hello."})
        await client.until("text", final=True)
        for words in (450, 600):  # more than may be, more than a slot holds
            patch = {"instructions": "a " * words, "eagerness": "high"}
            await client.send({"type": "update", "id": "u1", "session": patch})
            error = await client.until("error")
            assert (error["code"], error["fatal"], error["ref"]) == ("bad_message", False, "u1")
            updated = await client.until("updated")
            assert (updated["session"]["instructions"], updated["session"]["eagerness"]) == ("Be brief.", "high")
        memories: list[list[float]] = []
        engine.reply_text = lambda memory: str(memories.append(memory))
        await client.send({"type": "say", "text": "And now?"})
        await client.until("text", final=True)
        assert 100.0 in memories[0]  # nothing was forgotten


async def test_a_typed_turn_that_leaves_no_room_is_refused(app: App, engine: FakeEngine) -> None:
    memories: list[list[float]] = []
    async with connected(app.port) as client:
        await client.hello(session={"instructions": "Be brief."})
        await client.send({"type": "say", "text": "Hello."})
        await client.until("text", final=True)
        for words in (480, 600):  # no room for an answer, more than a slot holds
            await client.send({"type": "say", "id": "s1", "text": "a " * words})
            error = await client.until("error")
            assert (error["code"], error["fatal"], error["ref"]) == ("bad_message", False, "s1")
            assert error["message"].startswith("text: ")
            await client.until("state", agent="listening")
        engine.reply_text = lambda memory: str(memories.append(memory))
        await client.send({"type": "say", "text": "And now?"})
        await client.until("text", final=True)
        assert not client.of("notice")
    assert 100.0 in memories[0]  # nothing was forgotten
    assert memories[0].count(4.0) == 2 * 3  # and nothing of what was refused is there


async def test_a_flood_of_typed_turns_is_read_no_faster_than_it_is_answered(
    app: App, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []
    put = CommandQueue.put

    def counted(queue: CommandQueue, command: Command) -> None:
        put(queue, command)
        depths.append(len(queue._commands))

    monkeypatch.setattr(CommandQueue, "put", counted)
    engine.gates["prefill"] = threading.Event()
    engine.gates["prefill"].set()
    async with connected(app.port) as client:
        await client.hello()
        engine.gates["prefill"].clear()
        for _ in range(100):
            await client.send({"type": "say", "text": "Well?"})
        await client.until("state", turn=LINE_BACKLOG // 2)
        engine.gates.pop("prefill").set()
        await client.until("text", final=True, turn=100)
        assert max(depths) <= LINE_BACKLOG + 2  # an end of the reply before, and a new one


async def test_draining_does_not_wait_for_who_never_said_hello(app: App) -> None:
    async with connected(app.port) as silent:
        await app.drain()
        assert await closed(silent) == 4503
        assert silent.of("error")[0]["code"] == "draining"


async def test_draining_lets_the_reply_finish_and_tells_everybody(app: App, engine: FakeEngine) -> None:
    async with connected(app.port) as client, connected(app.port) as idle:
        await idle.hello()
        await client.hello()
        await client.speak(QUESTION)
        await client.until_audio()
        draining = asyncio.create_task(app.drain())
        await client.until("text", final=True)
        assert (await client.until("error"))["code"] == "draining"
        assert await closed(client) == 4503
        assert await closed(idle) == 4503
        await draining
        async with connected(app.port) as late:
            await late.send({"type": "hello", "id": "h9"})
            assert await closed(late) == 4503
            assert (late.of("error")[0]["code"], late.of("error")[0]["ref"]) == ("draining", "h9")
    assert json.dumps(client.events)
