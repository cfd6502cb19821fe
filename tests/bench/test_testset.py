"""Test sets: what is read, what is refused, and that what the generator writes can be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duplex.audio.wav import read_wav, write_wav
from duplex.bench.testset import Task, read_cases
from duplex.core.errors import ConfigError
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


@pytest.mark.parametrize("wrong", [[], {}, [{"timestamp": [2, 1]}], [{"timestamp": [-1, 1]}], [{"text": "x"}], 3])
def test_a_wrong_annotation_is_refused_with_its_file(tmp_path, wrong):
    write_case(tmp_path, "t/1", wrong)
    with pytest.raises(ConfigError, match=r"pause\.json"):
        read_cases(tmp_path)


def test_two_tasks_in_one_folder_are_refused(tmp_path):
    folder = write_case(tmp_path, "t/1", [{"timestamp": [0, 1]}])
    (folder / "turn_taking.json").write_text("[]")
    with pytest.raises(ConfigError, match="more than one task"):
        read_cases(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no case"):
        read_cases(tmp_path)


def test_a_generated_set_is_read_back(tmp_path):
    assert main([str(tmp_path), "--count", "1", "--seed", "4", "--noise", "10", "--telephone"]) == 0
    cases = read_cases(tmp_path)
    assert len(cases) == len(TASKS)
    assert {case.task for case in cases} == set(Task)
    for case in cases:
        pcm, rate = read_wav(case.folder / "input.wav")
        assert rate == 16000
        assert case.annotations[-1].timestamp[1] < len(pcm) / rate
    turn = next(case for case in cases if case.task is Task.TURN_TAKING).annotations[0]
    assert turn.answer
    assert (tmp_path / "grammar.txt").read_text().count("\n") > 500
    assert (
        len(list((tmp_path / "source_voice").glob("*.wav"))) == len(list((tmp_path / "source_voice").glob("*.txt"))) > 1
    )
    again = tmp_path / "again"
    assert main([str(again), "--count", "1", "--seed", "4", "--noise", "10", "--telephone"]) == 0
    first, second = (read_wav(root / "turn_taking" / "000" / "input.wav")[0] for root in (tmp_path, again))
    np.testing.assert_array_equal(first, second)
