"""bin/inference.py: what it answers, and what it says of bad input."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import WavError, read_wav, write_wav
from duplex.engine.inference import main, parser, plan

FIXTURES = Path(__file__).parent.parent / "data" / "fixtures"
MODEL = ["--checkpoint", str(FIXTURES / "freeze_tiny"), "--llm", str(FIXTURES / "llm_tiny"), "--max-text-tokens", "4"]


def test_folder_of_recordings_at_any_rate(tmp_path, capsys):
    speech, _ = read_wav(FIXTURES / "espeak_a.wav")
    folder = tmp_path / "in"
    folder.mkdir()
    write_wav(folder / "a.wav", speech[:24000:2], 8000)
    write_wav(folder / "b.wav", np.stack([speech[:16000], speech[:16000]], axis=1), 16000)
    assert main(["--input", str(folder), "--output", str(tmp_path / "out"), "--offline", "--json", *MODEL]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["output"]).name for row in rows] == ["a.wav", "b.wav"]
    for row in rows:
        with wave.open(row["output"]) as out:
            assert out.getframerate() == 24000
            assert out.getnframes() == pytest.approx(row["output_sec"] * 24000, abs=24)


def test_two_inputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(WavError, match=r"several inputs are called x\.wav"):
        plan([tmp_path / "a" / "x.wav", tmp_path / "b" / "x.wav"], tmp_path / "out")


def test_an_answer_never_overwrites_a_recording(tmp_path):
    recording = tmp_path / "x.wav"
    recording.touch()
    for output in (tmp_path, recording):
        with pytest.raises(WavError, match=r"x\.wav is one of the recordings"):
            plan([recording], output)
    with pytest.raises(WavError, match=r"x\.wav is one of the recordings"):
        plan([tmp_path], tmp_path / ".." / tmp_path.name)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"hello", "not a WAV file"), (b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd", "cut short"), (None, "No such file")],
)
def test_bad_recordings_are_named(tmp_path, capsys, content, message):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    assert main(["--input", str(path), "--output", str(tmp_path / "o.wav"), *MODEL]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "bad.wav" in error


def test_the_shipped_checkpoint_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parser().parse_args(["--input", "a.wav", "--output", "b.wav"])
    assert (options.checkpoint / "server.json").is_file()


def test_missing_checkpoint_is_named(tmp_path, capsys):
    write_wav(tmp_path / "a.wav", np.zeros(1600, np.float32), 16000)
    arguments = ["--input", str(tmp_path / "a.wav"), "--output", str(tmp_path / "o.wav")]
    assert main([*arguments, "--checkpoint", str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
