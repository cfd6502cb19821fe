"""Test sets of conversations in Full-Duplex-Bench's folder format (arXiv 2503.04721): `{task}/{id}/input.wav` with
`pause.json`, `turn_taking.json` or `interrupt.json` beside it; ours add `backchannel.json` and `background.json`.

An annotation file is a list of `{"text": ..., "timestamp": [start_sec, end_sec]}`; `interrupt.json` has `context` and
`interrupt` for text. Optional keys say what a right reply is: `answer`, a list of lists of alternatives, one of each
must occur, `outside`, true where a refusal is right, and in the last annotation of `pause.json` `end`, the second in
which the turn ends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from duplex.audio.wav import WavError
from duplex.bench.recordings import Recording, check_rate
from duplex.core.errors import ConfigError

GRAMMAR_FILE = "grammar.txt"  # sentences of the agent's world, one a line
TAIL_SEC = 3.0  # of a recording behind the last thing in it
SOURCE_FOLDER = "source_voice"  # {id}.wav with {id}.txt: the voice that the agent was trained on


class Task(StrEnum):
    """What a case measures; the value is the name of its annotation file."""

    PAUSE = "pause"
    TURN_TAKING = "turn_taking"
    INTERRUPTION = "interrupt"
    BACKCHANNEL = "backchannel"
    BACKGROUND = "background"


# Folders that are named otherwise than the annotation files in them.
FOLDERS = {"pause_handling": Task.PAUSE, "user_interruption": Task.INTERRUPTION}


def task_named(name: str) -> Task:
    """The task whose annotation file or folder has this name. Raises ValueError."""
    return FOLDERS.get(name) or Task(name)


class Annotation(BaseModel):
    """One thing that happens in a recording, from `timestamp[0]` to `timestamp[1]` seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    timestamp: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    text: str = ""
    context: str = ""
    interrupt: str = ""
    answer: Annotated[tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...], Field(min_length=1)] | None = None
    outside: bool = False
    end: Annotated[float, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One recording and what happens in it."""

    task: Task
    name: str
    folder: Path
    annotations: tuple[Annotation, ...]

    def recording(self) -> Recording:
        """The user's side. Raises WavError, OSError."""
        return Recording.read(self.folder / "input.wav")

    def microphone(self) -> Recording:
        """The user's side as it is streamed: with silence behind it until an answer to the last thing in it would be heard.
        The speech of an interruption is what is to be answered, not the question before. Raises WavError, OSError.
        """
        recording = self.recording()
        start_sec, end_sec = self.annotations[-1].timestamp
        last_sec = start_sec if self.task is Task.TURN_TAKING else end_sec
        missing = max(0, round((last_sec + TAIL_SEC) * recording.rate) - len(recording.pcm))
        padded = replace(recording, pcm=np.pad(recording.pcm, (0, missing)))
        if self.task is not Task.INTERRUPTION:
            return padded
        return replace(padded, onset=round(start_sec * recording.rate), end=round(end_sec * recording.rate))


_ANNOTATIONS = TypeAdapter(list[Annotation])


def read_cases(root: Path) -> list[Case]:
    """Every case under `root`, in order of their names.

    Raises ConfigError naming the file that is wrong, or when there is no case at all.
    """
    cases = []
    for task in Task:
        for path in sorted(root.rglob(f"{task.value}.json")):
            if not (path.parent / "input.wav").is_file():
                raise ConfigError(f"{path} has no input.wav beside it")
    for wav in sorted(root.rglob("input.wav")):
        found = [task for task in Task if (wav.parent / f"{task.value}.json").is_file()]
        if len(found) > 1:
            raise ConfigError(f"{wav.parent} has annotations of more than one task: {', '.join(found)}")
        if found:
            path = wav.parent / f"{found[0].value}.json"
            annotations = _annotations(path, ordered=found[0] is not Task.TURN_TAKING)
            cases.append(Case(found[0], str(wav.parent.relative_to(root)), wav.parent, annotations))
    if not cases:
        raise ConfigError(f"{root} holds no case: a folder with input.wav and one of {', '.join(Task)}.json")
    return cases


def unannotated(root: Path) -> list[Path]:
    """Folders with an `input.wav` that no case is made of, for want of an annotation file that is known here."""
    wavs = sorted(root.rglob("input.wav"))
    return [wav.parent for wav in wavs if not any((wav.parent / f"{task.value}.json").is_file() for task in Task)]


def check_recordings(cases: Sequence[Case]) -> None:
    """Read every recording once. Raises ConfigError naming the first that cannot be streamed."""
    for case in cases:
        path = case.folder / "input.wav"
        try:
            recording = case.recording()
        except (WavError, OSError) as error:
            raise ConfigError(f"{path}: {error}") from error
        check_rate(recording.rate, path)
        if recording.end == 0:
            raise ConfigError(f"{path}: nothing in it is as loud as speech")
        length_sec = len(recording.pcm) / recording.rate
        if (last_sec := max(annotation.timestamp[0] for annotation in case.annotations)) > length_sec:
            raise ConfigError(f"{path} ends after {length_sec:.2f} s, but something in it begins at {last_sec:g} s")


def _annotations(path: Path, *, ordered: bool) -> tuple[Annotation, ...]:
    """`ordered`: the end of each counts, and may not lie before its start."""
    try:
        annotations = _ANNOTATIONS.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not annotations or (ordered and any(a.timestamp[0] > a.timestamp[1] for a in annotations)):
        raise ConfigError(f"{path}: there must be an annotation, and none may end before it starts")
    return tuple(annotations)
