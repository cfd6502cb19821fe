"""`bin/evaluate.py` against the stand-in server: real sockets, real time, no models."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

from duplex.audio.wav import read_wav, write_wav
from duplex.bench import evaluation
from duplex.bench.evaluate import main
from duplex.protocols.native import SUBPROTOCOL
from tests.fakes.stand_in_server import Behaviour, StandInServer, StandInThread

RATE = 16000
BRIEF = Behaviour(
    reply="Yes, quite so, I think, and so do all others.",
    word_ms=120,
    end_silence_ms=200,
    thinking_ms=40,
    cut_after_ms=120,
)


def tone(seconds: float) -> np.ndarray:
    return (0.2 * np.sin(np.arange(round(seconds * RATE)) * 0.2)).astype(np.float32)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A turn, and one that is interrupted."""
    root = tmp_path / "set"
    turn, cut = root / "turn_taking" / "000", root / "user_interruption" / "000"
    for case in (turn, cut):
        case.mkdir(parents=True)
    write_wav(turn / "input.wav", np.concatenate([quiet(0.2), tone(0.5), quiet(1.5)]), RATE)
    question = {"timestamp": [0.7, 0.7], "answer": [["quite so"]]}
    (turn / "turn_taking.json").write_text(json.dumps([question]))
    pieces = [quiet(0.2), tone(0.5), quiet(0.8), tone(0.5), quiet(1.5)]
    write_wav(cut / "input.wav", np.concatenate(pieces), RATE)
    (cut / "interrupt.json").write_text(json.dumps([{"context": "", "interrupt": "", "timestamp": [1.5, 2.0]}]))
    return root


def test_one_command_prints_a_table_and_writes_everything(folder, tmp_path, capsys):
    out, report, plots = tmp_path / "out", tmp_path / "report.json", tmp_path / "plots"
    arguments = ["--out", str(out), "--json", str(report), "--plots", str(plots), "--parallel", "2", "--no-asr"]
    with StandInThread(StandInServer(BRIEF)) as server:
        assert main([str(folder), "--url", server.url, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["turn_taking", "tor", "1.0"] for line in lines)
    figures = json.loads(report.read_text())
    assert figures["turn_taking"]["right"] == 1.0
    assert 0.2 <= figures["turn_taking"]["latency_sec_p50"] < 0.9
    assert figures["interruption"]["tor"] == 1.0
    assert 0 < figures["interruption"]["stop_sec_p50"] < 0.9
    assert figures["speed"]["real_time_factor"] is None  # the stand-in tells no metrics
    assert [case["case"] for case in figures["cases"]] == ["turn_taking/000", "user_interruption/000"]
    heard, rate = read_wav(out / "turn_taking" / "000" / "output.wav")
    assert not np.any(np.abs(heard[: int(0.7 * rate)]) > 0.003)
    assert np.any(np.abs(heard[int(0.7 * rate) :]) > 0.01)
    for name in ("timeline.png", "latency.png"):
        assert (plots / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9", "127.0.0.1:9", "ws://127.0.0.1:9/ /"])
def test_a_server_that_is_not_there(folder, capsys, url):
    assert main([str(folder), "--url", url]) == 1
    assert "unreachable" in capsys.readouterr().err


def test_a_server_that_breaks_off_fails_and_is_not_scored(folder, tmp_path, capsys):
    report = tmp_path / "report.json"
    with StandInThread(StandInServer(BRIEF)) as server:
        breaking = threading.Timer(1.0, server.drop_connections)
        breaking.start()
        asked = ["--task", "user_interruption", "--no-asr", "--json", str(report)]  # as its folder and `make` call it
        assert main([str(folder), "--url", server.url, *asked]) == 1
        breaking.join()
    assert "user_interruption/000 failed: the connection ended" in capsys.readouterr().err
    figures = json.loads(report.read_text())
    assert figures["conversations"] == {"held": 0, "failed": 1, "reported_errors": 0}
    assert figures["interruption"]["tor"] is None


def test_a_full_server_is_asked_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "ASK_AGAIN_SEC", 0.2)
    report = tmp_path / "report.json"
    with StandInThread(StandInServer(replace(BRIEF, seats=1))) as server:
        asked = ["--parallel", "2", "--no-asr", "--json", str(report)]
        assert main([str(folder), "--url", server.url, *asked]) == 0
    assert json.loads(report.read_text())["conversations"]["held"] == 2


def test_a_refusal_in_the_middle_is_a_failed_case(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "FULL_SEC", 0.0)
    stand_in = StandInServer(BRIEF)
    report = tmp_path / "report.json"
    with StandInThread(stand_in) as server:
        full = threading.Timer(1.0, lambda: setattr(stand_in, "behaviour", replace(BRIEF, refuse="capacity")))
        full.start()
        assert main([str(folder), "--url", server.url, "--no-asr", "--json", str(report)]) == 1
        full.join()
    assert "user_interruption/000 failed: capacity" in capsys.readouterr().err
    assert json.loads(report.read_text())["turn_taking"]["tor"] == 1.0


def test_a_server_that_says_something_else_fails_its_case(folder, tmp_path, capsys):
    report = tmp_path / "report.json"
    ready = {
        "type": "ready",
        "session_id": "s",
        "resume_token": "t",
        "epoch": 0,
        "pts": 0,
        "mic_pts": 0,
        "resumed": False,
    }

    def babble(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(json.dumps(ready))
        connection.send("good morning")
        for _ in connection:
            pass

    with serve(babble, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        assert main([str(folder), "--url", url, "--no-asr", "--json", str(report)]) == 1
        server.shutdown()
        thread.join()
    assert "turn_taking/000 failed: no message of the protocol: 'good morning'" in capsys.readouterr().err
    assert json.loads(report.read_text())["conversations"]["failed"] == 2


def test_what_cannot_be_written_or_recognised_does_not_take_the_table_along(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "turn_taking").write_text("a file")
    (folder / "grammar.txt").write_bytes(b"\xff\xfe")
    asked = ["--task", "turn_taking", "--out", str(out), "--plots", str(tmp_path / "plots")]
    with StandInThread(StandInServer(BRIEF)) as server:
        assert main([str(folder), "--url", server.url, *asked]) == 1
    shown = capsys.readouterr()
    assert any(line.split() == ["turn_taking", "tor", "1.0"] for line in shown.out.splitlines())
    assert "turn_taking" in shown.err
    assert "utf-8" in shown.err
    assert (tmp_path / "plots" / "timeline.png").is_file()


@pytest.mark.parametrize("option", ["--json", "--out", "--plots"])
def test_what_cannot_be_written_is_told_before_anything_is_measured(folder, tmp_path, capsys, option):
    file = tmp_path / "file"
    file.write_text("mine")
    assert main([str(folder), "--url", "ws://127.0.0.1:9", option, str(tmp_path if option == "--json" else file)]) == 2
    assert "folder" in capsys.readouterr().err


def test_a_recording_that_cannot_be_streamed_is_refused_before_any_is(folder, capsys):
    write_wav(folder / "turn_taking" / "000" / "input.wav", tone(0.5), 96_000)
    assert main([str(folder), "--url", "ws://127.0.0.1:9"]) == 2
    assert "96000 Hz" in capsys.readouterr().err


def test_recordings_without_a_known_annotation_are_named(folder, capsys):
    (folder / "turn_taking" / "000" / "turn_taking.json").rename(folder / "turn_taking" / "000" / "turns.json")
    with StandInThread(StandInServer(BRIEF)) as server:
        assert main([str(folder), "--url", server.url, "--no-asr"]) == 0
    assert "1 recordings have no annotation" in capsys.readouterr().err


def test_an_unknown_task_is_told_the_known_ones(folder, capsys):
    with pytest.raises(SystemExit):
        main([str(folder), "--task", "pauses"])
    error = capsys.readouterr().err
    assert "'pauses' is none of pause, turn_taking, interrupt" in error
    assert "pause_handling" in error


@pytest.mark.parametrize("arguments", [["--task", "pause"], ["--limit", "0"], ["--parallel", "0"]])
def test_usage_errors(folder, arguments, capsys):
    assert main([str(folder), *arguments]) == 2
    assert capsys.readouterr().err
