"""`bin/bench.py` against the stand-in server: real sockets, real time, no models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import write_wav
from duplex.bench.load import Load, Waited, main, report, rows_of
from duplex.bench.log import ConversationLog
from duplex.bench.recordings import Recording
from duplex.bench.script import At, SaidItem, Utterance
from duplex.bench.speaker import HeardReply
from tests.fakes.stand_in_server import Behaviour, StandInServer, StandInThread

RATE = 16000
BRIEF = Behaviour(reply="Yes, quite so.", word_ms=100, end_silence_ms=160, thinking_ms=40)


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    tone = 0.2 * np.sin(np.arange(round(0.4 * RATE)) * 0.2)
    write_wav(path, np.concatenate([tone, np.zeros(RATE // 2)]).astype(np.float32), RATE)
    return path


def test_calls_join_until_one_is_refused_and_the_others_go_on(question, tmp_path, capsys):
    told, drawn = tmp_path / "new" / "load.json", tmp_path / "new" / "load.png"
    arguments = ["--calls", "5", "--every", "0.2", "--hold", "3", "--pause", "0.5"]
    with StandInThread(StandInServer(replace(BRIEF, seats=3))) as server:
        files = ["--json", str(told), "--plot", str(drawn)]
        assert main([str(question), "--url", server.url, *arguments, *files]) == 0
        sessions = server.server.sessions
    assert len(sessions) == 3
    assert len({len(session.mic_frames) // 25 for session in sessions}) > 1, "they did not begin together"
    figures = json.loads(told.read_text())
    assert figures["calls_let_in"] == 3
    assert "capacity" in figures["refused"]
    assert (figures["calls_broken"], figures["underruns"]) == (0, 0)
    assert figures["late_steps"] == {}, "the stand-in has no /metrics"
    assert sum(row["questions"] for row in figures["rows"]) == len(figures["questions"]) >= 6
    assert all(row["unanswered"] == 0 for row in figures["rows"])
    assert 0.15 < figures["rows"][-1]["latency_sec_p50"] < 0.9
    assert figures["rows"][-1]["calls"] == [3, 3]
    assert drawn.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "calls let in        3" in printed
    assert "capacity" in printed


def test_a_server_that_lets_nobody_in_or_is_not_there_is_an_error(question, capsys):
    with StandInThread(StandInServer(Behaviour(refuse="draining"))) as server:
        assert main([str(question), "--url", server.url]) == 1
    assert "draining" in capsys.readouterr().err
    assert main([str(question), "--url", "ws://127.0.0.1:9"]) == 1
    assert "unreachable" in capsys.readouterr().err


def test_what_cannot_be_asked_is_an_error(question, tmp_path, capsys):
    silence = tmp_path / "silence.wav"
    write_wav(silence, np.zeros(RATE, np.float32), RATE)
    for arguments, message in (
        ([str(silence)], "holds no speech"),
        ([str(tmp_path / "none.wav")], "none.wav"),
        ([str(question), "--calls", "0"], "--calls is at least 1"),
        ([str(question), "--reply-timeout", "nan"], "--reply-timeout is a number of seconds"),
        ([str(question), "--hold", "-1"], "--hold is a number of seconds"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_printed_all_the_same(question, tmp_path, capsys):
    with StandInThread(StandInServer(BRIEF)) as server:
        arguments = ["--url", server.url, "--calls", "1", "--every", "0", "--hold", "0.2"]
        assert main([str(question), *arguments, "--json", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "calls let in        1" in told.out
    assert str(tmp_path) in told.err


def said(end_sec: float) -> SaidItem:
    item = Utterance(Recording(np.zeros(RATE, np.float32), RATE, 0, RATE), At(0))
    return SaidItem(item, end_sec - 1, end_sec - 1, end_sec, end_sec)


def test_questions_are_counted_by_the_calls_there_were_and_open_ones_left_out():
    answered = ConversationLog(RATE, RATE, said=[said(1.0), said(5.0)], close_code=1000)
    answered.replies = [HeardReply(1, 0, round(1.4 * RATE), round(2.0 * RATE))]
    unheard = ConversationLog(RATE, RATE, said=[said(3.0)], close_code=1006)
    came = Load(joined_sec=[0.0, 2.5], logs=[answered, unheard], ended_sec=12.0, late_ms=[1.0, 3.0])
    first, second, third = came.waited(5.0)
    assert first == Waited(1.0, 1, pytest.approx(0.4))
    assert (second, third) == (Waited(5.0, 2, None), Waited(5.5, 2, None))
    assert came.waited(8.0) == [first], "the answers to the others might still have come"
    before = {("duplex_batch_size_sum", "hear"): 100.0, ("duplex_deadline_misses_total", "hear"): 5.0}
    after = {
        ("duplex_batch_size_sum", "hear"): 300.0,
        ("duplex_deadline_misses_total", "hear"): 15.0,
        ("duplex_batch_size_sum", "speak"): 10.0,
        ("duplex_batch_size_sum", "reply"): 0.0,
    }
    figures = report(came, 5.0, before, after)
    assert figures["late_steps"] == {"hear": 0.05, "speak": 0.0}
    assert figures["calls_broken"] == 1
    assert [(row["calls"], row["unanswered"]) for row in figures["rows"]] == [([1, 1], 0), ([2, 2], 2)]


def test_many_calls_are_told_in_a_few_rows():
    rows = rows_of([Waited(float(calls), calls, calls / 10) for calls in range(1, 48)])
    assert [row["calls"] for row in rows][:2] == [[1, 6], [7, 12]]
    assert rows[-1]["calls"] == [43, 47]
    assert rows[0]["latency_sec_p50"] == pytest.approx(0.35)
    assert rows_of([]) == []
