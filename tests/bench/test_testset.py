"""Test sets: what is read, what is refused, and that what the generator writes can be read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import read_wav, write_wav
from duplex.bench.testset import Task, check_recordings, read_cases
from duplex.core.errors import ConfigError
from duplex.train import testset
from duplex.train.testset import TASKS, main


def write_case(root: Path, name: str, annotations: object, kind: str = "pause") -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    write_wav(folder / "input.wav", np.zeros(1600, np.float32), 16000)
    (folder / f"{kind}.json").write_text(json.dumps(annotations))
    return folder


def test_the_benchmark_format_is_read(tmp_path):
    write_case(tmp_path, "candor_pause_handling/7", [{"text": "[PAUSE]", "timestamp": [1.0, 1.5], "x": 1}])
    interrupt = [{"context": "a", "interrupt": "b", "timestamp": [2.0, 3.0]}]
    write_case(tmp_path, "synthetic_user_interruption/1", interrupt, "interrupt")
    (tmp_path / "no_case").mkdir()
    pause, cut = read_cases(tmp_path)
    assert (pause.task, pause.name) == (Task.PAUSE, "candor_pause_handling/7")
    assert pause.annotations[0].timestamp == (1.0, 1.5)
    assert cut.annotations[0].interrupt == "b"
    assert cut.annotations[0].answer is None


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {},
        [{"timestamp": [2, 1]}],
        [{"timestamp": [-1, 1]}],
        [{"text": "x"}],
        3,
        [{"timestamp": [1, 2], "answer": []}],
        [{"timestamp": [1, 2], "answer": [[]]}],
    ],
)
def test_a_wrong_annotation_is_refused_with_its_file(tmp_path, wrong):
    write_case(tmp_path, "t/1", wrong)
    with pytest.raises(ConfigError, match=r"pause\.json"):
        read_cases(tmp_path)


def test_a_turns_end_may_have_no_second_timestamp(tmp_path):
    write_case(tmp_path, "t/1", [{"timestamp": [2, 0]}], "turn_taking")
    assert read_cases(tmp_path)[0].annotations[0].timestamp[0] == 2


def test_an_annotation_without_its_recording_is_refused(tmp_path):
    write_case(tmp_path, "t/1", [{"timestamp": [0, 1]}])
    folder = write_case(tmp_path, "t/2", [{"timestamp": [0, 1]}])
    (folder / "input.wav").rename(folder / "Input.wav")
    with pytest.raises(ConfigError, match=r"2/pause\.json has no input\.wav"):
        read_cases(tmp_path)


@pytest.mark.parametrize(
    ("peak", "start", "complaint"), [(0.5, 1500, "ends after 2.00 s"), (0.001, 1, "as loud as speech")]
)
def test_recordings_that_nothing_can_be_measured_with_are_refused(tmp_path, peak, start, complaint):
    folder = write_case(tmp_path, "t/1", [{"timestamp": [start, start + 1]}], "interrupt")
    write_wav(folder / "input.wav", np.full(32000, peak, np.float32), 16000)
    with pytest.raises(ConfigError, match=complaint):
        check_recordings(read_cases(tmp_path))


def test_a_recording_is_streamed_with_silence_behind_it(tmp_path):
    folder = write_case(tmp_path, "t/1", [{"timestamp": [1.0, 2.0]}], "interrupt")
    write_wav(folder / "input.wav", np.full(16000 * 2, 0.5, np.float32), 16000)
    [case] = read_cases(tmp_path)
    heard = case.microphone()
    assert len(heard.pcm) == 5 * 16000
    assert not heard.pcm[2 * 16000 :].any()
    assert (heard.onset, heard.end) == (16000, 2 * 16000)


def test_two_tasks_in_one_folder_are_refused(tmp_path):
    folder = write_case(tmp_path, "t/1", [{"timestamp": [0, 1]}])
    (folder / "turn_taking.json").write_text("[]")
    with pytest.raises(ConfigError, match="more than one task"):
        read_cases(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no case"):
        read_cases(tmp_path)


def test_a_set_is_not_made_over_a_file(tmp_path, capsys):
    (tmp_path / "set").write_text("mine")
    assert main([str(tmp_path / "set"), "--count", "1"]) == 2
    assert "no empty folder" in capsys.readouterr().err


def test_a_set_of_no_cases_is_not_made(tmp_path, capsys):
    assert main([str(tmp_path / "set"), "--count", "0"]) == 2
    assert "--count is at least 1" in capsys.readouterr().err


def test_a_generated_set_is_read_back(tmp_path):
    assert main([str(tmp_path), "--count", "1", "--seed", "4", "--noise", "10", "--telephone"]) == 0
    cases = read_cases(tmp_path)
    assert len(cases) == len(TASKS)
    assert {case.task for case in cases} == set(Task)
    for case in cases:
        pcm, rate = read_wav(case.folder / "input.wav")
        assert rate == 16000
        assert case.annotations[-1].timestamp[1] < len(pcm) / rate
    paused = next(case for case in cases if case.task is Task.PAUSE).annotations[-1]
    assert paused.end is not None
    assert paused.end > paused.timestamp[1]
    assert main([str(tmp_path), "--count", "1"]) == 2  # what is there stays
    turn = next(case for case in cases if case.task is Task.TURN_TAKING).annotations[0]
    assert turn.answer
    assert (tmp_path / "grammar.txt").read_text().count("\n") > 500
    assert (
        len(list((tmp_path / "source_voice").glob("*.wav"))) == len(list((tmp_path / "source_voice").glob("*.txt"))) > 3
    )
    again = tmp_path / "again"
    assert main([str(again), "--count", "1", "--seed", "4", "--noise", "10", "--telephone"]) == 0
    first, second = (read_wav(root / "turn_taking" / "000" / "input.wav")[0] for root in (tmp_path, again))
    np.testing.assert_array_equal(first, second)


def test_only_some_tasks_are_made(tmp_path):
    tasks = ["--task", "turn_taking", "--task", "pause"]
    assert main([str(tmp_path / "set"), "--count", "1", "--seed", "5", *tasks]) == 0
    assert [case.task for case in read_cases(tmp_path / "set")] == [Task.PAUSE, Task.TURN_TAKING]


def test_noise_is_as_far_below_the_speech_as_asked_for(tmp_path):
    roots = {"quiet": [], "noisy": ["--noise", "10"]}
    for name, arguments in roots.items():
        assert main([str(tmp_path / name), "--count", "1", "--seed", "5", *arguments]) == 0
    case = next(case for case in read_cases(tmp_path / "quiet") if case.task is Task.TURN_TAKING)
    quiet, rate = read_wav(case.folder / "input.wav")
    noisy, _ = read_wav(tmp_path / "noisy" / case.name / "input.wav")
    speech = slice(int(0.5 * rate), int(case.annotations[0].timestamp[0] * rate))
    snr_db = 10 * np.log10(np.mean(quiet[speech] ** 2) / np.mean((noisy - quiet) ** 2))
    assert snr_db == pytest.approx(10, abs=1)


def test_speed_and_level_are_what_was_asked_for(tmp_path):
    for name, arguments in {"slow": ["--speed", "0.8", "--level", "-30"], "fast": ["--speed", "1.25"]}.items():
        assert main([str(tmp_path / name), "--count", "2", "--seed", "5", *arguments]) == 0
    ends = {}
    for name in ("slow", "fast"):
        case = next(case for case in read_cases(tmp_path / name) if case.task is Task.TURN_TAKING)
        pcm, _ = read_wav(case.folder / "input.wav")
        ends[name] = case.annotations[0].timestamp[0], float(np.abs(pcm).max())
    assert (ends["slow"][0] - 0.5) / (ends["fast"][0] - 0.5) == pytest.approx(1.25 / 0.8, rel=0.15)
    assert 20 * np.log10(ends["slow"][1]) == pytest.approx(-30, abs=0.5)
    assert ends["fast"][1] > 0.2


def test_the_hesitant_say_more_words_than_they_need(tmp_path):
    """Equal seeds ask the same questions, until the first hesitation draws from the same numbers."""
    texts = {}
    for name, arguments in {"plain": [], "hesitant": ["--hesitant"]}.items():
        root = tmp_path / name
        assert main([str(root), "--count", "1", "--seed", "6", "--task", "turn_taking", *arguments]) == 0
        texts[name] = read_cases(root)[0].annotations[0].text.split()
    assert len(texts["hesitant"]) > len(texts["plain"]) > 1
    words = iter(texts["hesitant"])
    assert all(word in words for word in texts["plain"])


@pytest.mark.parametrize(
    "option", [("--speed", "5"), ("--level", "3"), ("--noise", "nan"), ("--noise", "-30"), ("--reverberation", "-1")]
)
def test_a_number_out_of_bounds_is_refused(tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "set"), *option])
    assert "is not between" in capsys.readouterr().err


def test_the_answer_to_an_interruption_is_right_whatever_was_said_before(monkeypatch):
    """Nobody who was talking "has not said anything yet", and a joke after a joke is another one."""
    openings = testset._openings(random.Random(1), "test")
    joke = next(turn for turn in openings if turn.intent == "joke")
    nothing = next(turn for turn in openings if turn.intent == "again.nothing")
    monkeypatch.setattr(testset._Track, "say", lambda *_: (1.0, 2.0))
    monkeypatch.setattr(testset, "_long_answered", lambda *_: joke)
    rng, replies = random.Random(3), []
    for _ in range(800):
        _, _, [entry] = testset._interruption(rng, testset.Recipe(count=1, seed=1))
        replies.append(entry["reply"])
    assert len(set(replies)) > 300
    assert not {joke.reply, nothing.reply} & set(replies)
