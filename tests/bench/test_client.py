"""The terminal client against the stand-in server: real sockets, real time, no models."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from duplex.audio.wav import read_wav, write_wav
from duplex.bench import client, conversation
from duplex.bench.conversation import ClientOptions, ConversationRefusedError, converse, socket_url
from duplex.bench.recordings import Recording
from duplex.bench.script import AfterReply, At, DuringReply, Typed, Utterance
from duplex.core.errors import ConfigError
from duplex.protocols.native import SUBPROTOCOL
from tests.fakes.stand_in_server import Behaviour, StandInServer, StandInThread

RATE = 16000
BRIEF = Behaviour(reply="Yes, quite so, I think.", word_ms=120, end_silence_ms=200, thinking_ms=40, cut_after_ms=120)
LONG = Behaviour(end_silence_ms=200, thinking_ms=40, cut_after_ms=120)


def voice(seconds: float = 0.5) -> Recording:
    """A tone between 0.1 s of silence on either side."""
    pcm = np.zeros(round((seconds + 0.2) * RATE), np.float32)
    speech = slice(RATE // 10, len(pcm) - RATE // 10)
    pcm[speech] = 0.2 * np.sin(np.arange(len(pcm))[speech] * 0.2)
    return Recording.of(pcm, RATE)


@pytest.fixture
async def stand_in() -> AsyncIterator[StandInServer]:
    server = StandInServer(BRIEF)
    await server.start()
    yield server
    await server.stop()


def url(server: StandInServer) -> str:
    assert server.server is not None
    return f"ws://127.0.0.1:{server.server.sockets[0].getsockname()[1]}"


async def test_a_question_is_answered_and_timed(stand_in: StandInServer) -> None:
    log = await converse(url(stand_in), [Utterance(voice(), At(0.1))], ClientOptions(tail_sec=0.1))
    assert log.reply_texts == [BRIEF.reply]
    [answer] = log.answers()
    assert answer.turn == 1
    assert answer.first_sample_ms is not None
    assert answer.audible_ms is not None
    assert 200 <= answer.first_sample_ms < 900
    assert answer.first_sample_ms <= answer.audible_ms < answer.first_sample_ms + 60
    assert log.close_code == 1000
    assert log.underruns == 0
    [session] = stand_in.sessions
    assert [frame.pts for frame in session.mic_frames] == [320 * i for i in range(len(session.mic_frames))]
    reply_samples = sum(frame.samples for frame in log.frames)
    assert np.count_nonzero(np.abs(log.heard) > 1e-4) > 0.8 * reply_samples
    played = [message for message in session.received if message["type"] == "played"]
    assert played[-1]["pts"] == reply_samples
    assert played[-1]["queued_ms"] == 0


async def test_an_interruption_is_timed_and_the_old_epoch_silent(stand_in: StandInServer) -> None:
    stand_in.behaviour = LONG
    script = [Utterance(voice(), At(0.1)), Utterance(voice(), DuringReply(0.6))]
    log = await converse(url(stand_in), script, ClientOptions(tail_sec=0.1))
    [cut] = log.interruptions()
    assert 100 < cut.last_heard_ms < 800
    assert cut.last_sent_ms <= cut.last_heard_ms
    assert log.stale_frames == 0
    assert {frame.epoch for frame in log.frames} == {0, 1}
    assert LONG.reply.startswith(log.reply_texts[0])
    assert len(log.reply_texts[0]) < len(LONG.reply)
    assert log.reply_texts[1] == LONG.reply
    [first, second] = log.replies
    assert first.interrupted
    assert not second.interrupted
    assert not np.any(log.heard[first.end : second.start])


async def test_typed_messages_and_order(stand_in: StandInServer) -> None:
    script = [Typed("one", At(0.0)), Typed("two", AfterReply(0.1))]
    log = await converse(url(stand_in), script, ClientOptions(tail_sec=0.0))
    assert log.reply_texts == ["You typed: one", "You typed: two"]
    assert [answer.turn for answer in log.answers()] == [1, 2]


async def test_a_dropped_connection_resumes_and_nothing_is_heard_twice(stand_in: StandInServer) -> None:
    stand_in.behaviour = LONG
    options = ClientOptions(tail_sec=0.1, drop_at_sec=1.8)
    log = await converse(url(stand_in), [Utterance(voice(), At(0.1))], options)
    assert [ready["resumed"] for ready in log.ready] == [False, True]
    assert [event.type for event in log.events if event.type in ("dropped", "resumed")] == ["dropped", "resumed"]
    assert log.reply_texts == [LONG.reply]
    [reply] = log.replies
    assert not reply.interrupted
    [session] = stand_in.sessions
    heard = log.heard[reply.start : reply.end]
    assert np.count_nonzero(np.abs(heard) > 1e-4) <= session.sent_pts
    pts = [frame.pts for frame in session.mic_frames]
    assert all(later - earlier == 320 for earlier, later in pairwise(pts))


async def test_settings_and_rates_are_asked_for(stand_in: StandInServer) -> None:
    options = ClientOptions(settings={"instructions": "Be brief."}, input_rate=48000, output_rate=8000, tail_sec=0.0)
    log = await converse(url(stand_in), [Utterance(voice(), At(0.0))], options)
    [session] = stand_in.sessions
    assert (session.input_rate, session.output_rate) == (48000, 8000)
    assert session.settings["instructions"] == "Be brief."
    assert {frame.samples for frame in session.mic_frames} == {960}
    assert log.reply_texts == [BRIEF.reply]


async def test_silence_without_an_answer_is_reported(stand_in: StandInServer) -> None:
    quiet = Recording.of(np.zeros(RATE // 2, np.float32), RATE)
    log = await converse(url(stand_in), [Utterance(quiet, At(0.0))], ClientOptions(tail_sec=0.0, reply_timeout_sec=0.3))
    assert [answer.audible_ms for answer in log.answers()] == [None]


@pytest.mark.parametrize(
    ("behaviour", "code", "close_code"),
    [
        (Behaviour(refuse="capacity"), "capacity", 4429),
        (Behaviour(refuse="draining"), "draining", 4503),
        (Behaviour(api_key="K"), "unauthorized", 4401),
    ],
)
async def test_refusals_are_raised(stand_in: StandInServer, behaviour: Behaviour, code: str, close_code: int) -> None:
    stand_in.behaviour = behaviour
    with pytest.raises(ConversationRefusedError) as refused:
        await converse(url(stand_in), [])
    assert (refused.value.code, refused.value.close_code) == (code, close_code)


async def test_the_key_opens(stand_in: StandInServer) -> None:
    stand_in.behaviour = Behaviour(api_key="K")
    log = await converse(url(stand_in), [], ClientOptions(api_key="K", tail_sec=0.0))
    assert log.close_code == 1000


async def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(ConversationRefusedError, match="unreachable"):
        await converse("ws://127.0.0.1:9", [])


async def test_a_server_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that stayed would hold one of its sessions."""
    monkeypatch.setattr(conversation, "HANDSHAKE_SEC", 0.3)
    left = asyncio.Event()

    async def mute(connection: ServerConnection) -> None:
        await connection.wait_closed()
        left.set()

    async with serve(mute, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:
        with pytest.raises(ConversationRefusedError, match="timeout"):
            await converse(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", [])
        await asyncio.wait_for(left.wait(), 5.0)


async def test_a_server_that_vanishes_ends_the_conversation(stand_in: StandInServer) -> None:
    options = ClientOptions(on_event=lambda event: stand_in.drop_connections() if event.type == "text" else None)
    log = await converse(url(stand_in), [Utterance(voice(), At(0.0))], options)
    assert log.close_code == 1006


def test_addresses_get_the_path_they_lack() -> None:
    assert socket_url("ws://host:1") == "ws://host:1/v1/duplex"
    assert socket_url("https://host/") == "wss://host/v1/duplex"
    assert socket_url("wss://host/other") == "wss://host/other"


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = tmp_path / "question.wav"
    write_wav(question, voice().pcm, RATE)
    heard = tmp_path / "heard.wav"
    with StandInThread(StandInServer(BRIEF)) as server:
        arguments = ["--url", server.url, "--input", str(question), "--at", "0.1", "--say", "and now?", "--tail", "0.1"]
        code = client.main([*arguments, "--output", str(heard), "--stereo", "--json", "--repeat", "2"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    summary = lines[-1]
    assert summary["texts"] == [[BRIEF.reply, "You typed: and now?"]] * 2
    assert [turn["kind"] for turn in summary["turns"]] == ["spoken", "typed"] * 2
    assert summary["p50_audible_ms"] > 200
    assert summary["unanswered"] == 0
    assert {"state", "text", "metrics", "user_onset", "user_end", "say"} <= {line["type"] for line in lines}
    recorded, rate = read_wav(tmp_path / "heard-2.wav")
    assert rate == 24000
    assert np.abs(recorded).max() > 0.05


def test_table_of_latencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = tmp_path / "question.wav"
    write_wav(question, voice().pcm, RATE)
    with StandInThread(StandInServer(LONG)) as server:
        script = ["--input", str(question), "--input", str(question), "--at", "during-reply+0.5"]
        assert client.main(["--url", server.url, *script, "--tail", "0"]) == 0
    table = capsys.readouterr().out
    assert "user's last sample to the reply's" in table
    assert "user's onset to the old reply's" in table
    assert table.count("p50") == 2


@pytest.mark.parametrize(
    "arguments", [["--input", "missing.wav"], ["--say", "x", "--at", "soon"]], ids=["no file", "no time"]
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(arguments) == 2
    assert capsys.readouterr().err.startswith("client: ")


def test_what_cannot_end_well_is_refused_before_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StandInThread(StandInServer(BRIEF)) as server:
        missing = tmp_path / "missing" / "heard.wav"
        assert client.main(["--url", server.url, "--say", "hello", "--output", str(missing)]) == 2
        assert f"there is no folder {missing.parent}" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            client.main(["--url", server.url, "--say", "hello", "--repeat", "0"])
        assert "at least 1, not 0" in capsys.readouterr().err
        assert not server.server.sessions


def test_conversations_held_before_one_that_fails_are_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = 0

    async def converse_once(*arguments: Any) -> conversation.ConversationLog:
        nonlocal held
        held += 1
        if held == 2:
            raise ConversationRefusedError("capacity", "full")
        return await converse(*arguments)

    monkeypatch.setattr(client, "converse", converse_once)
    with StandInThread(StandInServer(BRIEF)) as server:
        arguments = ["--url", server.url, "--say", "hello", "--tail", "0", "--json", "--quiet", "--repeat", "3"]
        assert client.main(arguments) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["texts"] == [["You typed: hello"]]
    assert "capacity: full" in err


def test_a_server_that_vanishes_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with StandInThread(StandInServer(LONG)) as server:
        threading.Timer(1.0, server.drop_connections).start()
        assert client.main(["--url", server.url, "--say", "hello", "--json", "--quiet"]) == 1
    assert "the connection ended with 1006" in capsys.readouterr().err


def test_ctrl_c_hangs_up_and_tells_what_was_heard(tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    with StandInThread(StandInServer(LONG)) as server:
        command = [sys.executable, "bin/client.py", "--url", server.url, "--say", "hello", "--output", str(heard)]
        process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [json.loads(next(process.stdout))]
        while lines[-1]["type"] != "text":
            lines.append(json.loads(next(process.stdout)))
        process.send_signal(signal.SIGINT)
        *_, summary = process.communicate(timeout=20)[0].splitlines()
        assert process.returncode == 1
        [session] = server.server.sessions
    assert json.loads(summary)["turns"][0]["kind"] == "typed"
    assert session.received[-1]["type"] == "bye"
    assert len(read_wav(heard)[0]) > 0


def test_rates_that_no_server_takes_are_named_before_anything_is_sent(tmp_path, capsys):
    write_wav(tmp_path / "fast.wav", np.zeros(960, np.float32), 96000)
    with pytest.raises(ConfigError, match=r"fast\.wav: 96000 Hz is not between 8000 and 48000 Hz"):
        client.build_script([("--input", str(tmp_path / "fast.wav"), None)])
    for option in ("--rate", "--output-rate"):
        with pytest.raises(SystemExit):
            client.parser().parse_args(["--say", "hello", option, "4000"])
        assert "4000 Hz is not between 8000 and 48000 Hz" in capsys.readouterr().err
