"""Make a test set for `bin/evaluate.py` from voices and scripts that training never sees.

Layout and annotations are those of duplex/bench/testset.py, written here as plain JSON: training does not import the
benchmarks, and any other program may write such a folder as well.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from duplex.audio.wav import write_wav
from duplex.train.augment import EVENT_MAKERS, background, reverberate, rms, telephone, with_peak
from duplex.train.plans import HELDOUT, OTHER_SYNTHESIZER, TRAINING, Cast, plan_split_turns
from duplex.train.voices import (
    AGENT_VOICE,
    SAMPLE_RATE,
    Pcm,
    SilentSpeechError,
    SynthesisError,
    Voice,
    synthesize,
)
from duplex.train.world import BACKCHANNELS, Split, Turn, all_replies, sample_dialogue
from duplex.train.world.phrasing import hesitant

ALSO_NAMED = {"pause": "pause_handling", "interrupt": "user_interruption"}  # as their annotation files are
TASKS = ("pause_handling", "turn_taking", "user_interruption", "backchannel", "background")
GRAMMAR_SENTENCES = 20_000
LONG_REPLY_WORDS = 11  # a reply that is still being spoken when something happens in it
_LONG_ANSWERED_QUESTIONS = 200  # to choose from
OUTSIDE_PREFIX = "outside"
CASTS = {"unseen": HELDOUT, "trained": TRAINING, "synthesizer": OTHER_SYNTHESIZER}

EXIT_USAGE = 2
_LEAD_SEC = 0.5
_TAIL_SEC = 3.0
_PAUSE_SEC = (0.3, 0.8)
_INTO_REPLY_SEC = (1.6, 2.4)  # from the end of the question to what happens during its answer
_SPEECH_PEAK_DB = (-12.0, -1.0)
_FAR_AWAY_PEAK_DB = (-42.0, -32.0)
_EVENT_PEAK_DB = (-30.0, -12.0)
_FLOOR_DB = -66.0  # RMS of the room where nothing is said


@dataclass(frozen=True)
class Recipe:
    """What a test set is made of; `snr_db` None: a quiet room."""

    count: int
    seed: int
    cast: Cast = HELDOUT
    tasks: tuple[str, ...] = TASKS
    snr_db: float | None = None
    telephone: bool = False
    reverberation_sec: float = 0.0
    speed: float | None = None  # of every voice, 1.0 is about 150 words a minute; None: 0.8 to 1.25
    peak_db: float | None = None  # of what the user says, dB of full scale; None: -12 to -1
    hesitant: bool = False  # "um" or a restart in every text of two or more words that takes a turn or interrupts

    def words(self, rng: random.Random, turn: Turn) -> str:
        """What the user says, as asked for."""
        return hesitant(rng, turn.user) if self.hesitant else turn.user

    def voice(self, rng: random.Random) -> Voice:
        """One of the cast's voices."""
        voice = self.cast.voice(rng)
        return voice if self.speed is None else replace(voice, speed=self.speed)


@dataclass
class _Track:
    """A recording under construction."""

    rng: random.Random
    pieces: list[Pcm]
    samples: int = 0
    peak_range_db: tuple[float, float] = _SPEECH_PEAK_DB
    spoken: list[Pcm] = field(default_factory=list)  # those of the pieces that the user says
    replies: list[str] = field(default_factory=list)  # what the agent should say

    def add(self, pcm: Pcm) -> tuple[float, float]:
        """Append a sound; returns when it starts and ends, seconds."""
        start = self.samples
        self.pieces.append(pcm)
        self.samples += len(pcm)
        return round(start / SAMPLE_RATE, 4), round(self.samples / SAMPLE_RATE, 4)

    def rest(self, seconds: float) -> tuple[float, float]:
        """Append silence."""
        return self.add(np.zeros(round(seconds * SAMPLE_RATE), np.float32))

    def say(self, text: str, voice: Voice) -> tuple[float, float]:
        """Append speech. Raises SilentSpeechError."""
        speech = with_peak(synthesize(text, voice), 10 ** (self.rng.uniform(*self.peak_range_db) / 20))
        self.spoken.append(speech)
        return self.add(speech)


def make(root: Path, recipe: Recipe) -> None:
    """Write `count` cases of each of the recipe's tasks, the grammar and the source voice into `root`.

    Raises:
        SynthesisError: An engine is missing or fails.

    """
    rng = random.Random(f"{recipe.seed}/testset")
    makers: dict[str, Callable[[random.Random, Recipe], tuple[_Track, str, list[dict[str, Any]]]]] = {
        "pause_handling": _pause,
        "turn_taking": _turn_taking,
        "user_interruption": _interruption,
        "backchannel": _backchannel,
        "background": _background,
    }
    replies: list[str] = []
    with tqdm(total=recipe.count * len(recipe.tasks), desc="test set", mininterval=2.0) as progress:
        for task in recipe.tasks:
            maker, written = makers[task], 0
            while written < recipe.count:
                try:
                    track, name, annotations = maker(rng, recipe)
                except SilentSpeechError:
                    continue  # the rare text that a voice turns into silence
                folder = root / task / f"{written:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                write_wav(folder / "input.wav", _room(track, recipe), SAMPLE_RATE)
                (folder / f"{name}.json").write_text(json.dumps(annotations, indent=1))
                replies += track.replies
                written += 1
                progress.update()
    sentences = sorted({*all_replies(random.Random(recipe.seed), GRAMMAR_SENTENCES), *replies})
    (root / "grammar.txt").write_text("\n".join(sentences) + "\n")
    source = root / "source_voice"
    source.mkdir(exist_ok=True)
    for number, text in enumerate(sorted(set(replies))):
        (source / f"{number:03d}.txt").write_text(text)
        write_wav(source / f"{number:03d}.wav", synthesize(text, AGENT_VOICE), SAMPLE_RATE)
    made_of = vars(recipe) | {"scripts": recipe.cast.split, "voices": [str(voice) for voice in recipe.cast.voices]}
    made_of["natural_share"] = recipe.cast.natural_share
    del made_of["cast"]
    (root / "recipe.json").write_text(json.dumps(made_of, indent=1))


def _room(track: _Track, recipe: Recipe) -> Pcm:
    """The finished recording with its room, noise and line."""
    pcm = np.concatenate(track.pieces)
    draws = np.random.default_rng(track.rng.getrandbits(64))
    pcm = pcm + background(len(pcm), draws) * np.float32(10 ** (_FLOOR_DB / 20))
    if recipe.reverberation_sec:
        pcm = reverberate(pcm, draws, recipe.reverberation_sec)
    if recipe.snr_db is not None:
        level = rms(np.concatenate(track.spoken)) * 10 ** (-recipe.snr_db / 20)
        pcm = np.clip(pcm + background(len(pcm), draws) * np.float32(level), -1.0, 1.0)
    return telephone(pcm) if recipe.telephone else pcm


def _answer(track: _Track, turn: Turn) -> dict[str, Any]:
    track.replies.append(turn.reply)
    return {"answer": turn.answer, "outside": turn.intent.startswith(OUTSIDE_PREFIX), "reply": turn.reply}


def _openings(rng: random.Random, split: Split) -> Iterator[Turn]:
    """Turns that need no conversation before them."""
    while True:
        yield sample_dialogue(rng, split).turns[0]


def _depends(turn: Turn, before: Turn) -> bool:
    """Whether the right answer to an opening is another one after `before`: nothing was said yet, a second joke."""
    subject, subject_before = (intent.split(".")[0] for intent in (turn.intent, before.intent))
    return subject in {"again", subject_before}


def _long_answered(rng: random.Random, split: Split) -> Turn:
    """A question whose answer takes long enough to be talked over, of any subject that has such: drawn as they are asked,
    nearly half of them would be one joke.
    """
    questions = _long_answered_questions(split)
    return rng.choice(questions[rng.choice(sorted(questions))])


@functools.cache
def _long_answered_questions(split: Split) -> dict[str, list[Turn]]:
    """Some of the questions with long answers, by subject."""
    by_subject: dict[str, list[Turn]] = {}
    openings = _openings(random.Random(0), split)
    long = (turn for turn in openings if len(turn.reply.replace("-", " ").split()) >= LONG_REPLY_WORDS)
    inside = (turn for turn in long if not turn.intent.startswith(OUTSIDE_PREFIX))
    for turn in itertools.islice(inside, _LONG_ANSWERED_QUESTIONS):
        by_subject.setdefault(turn.intent.split(".")[0], []).append(turn)
    return by_subject


def _start(rng: random.Random, recipe: Recipe) -> tuple[_Track, Voice]:
    peaks = _SPEECH_PEAK_DB if recipe.peak_db is None else (recipe.peak_db, recipe.peak_db)
    track = _Track(rng, [], peak_range_db=peaks)
    track.rest(_LEAD_SEC)
    return track, recipe.voice(rng)


def _turn_taking(rng: random.Random, recipe: Recipe) -> tuple[_Track, str, list[dict[str, Any]]]:
    track, voice = _start(rng, recipe)
    turn = next(_openings(rng, recipe.cast.split))
    text = recipe.words(rng, turn)
    _, end = track.say(text, voice)
    track.rest(_TAIL_SEC)
    entry = {"text": text, "timestamp": [end, end], "voice": str(voice), **_answer(track, turn)}
    return track, "turn_taking", [entry]


def _pause(rng: random.Random, recipe: Recipe) -> tuple[_Track, str, list[dict[str, Any]]]:
    track, voice = _start(rng, recipe)
    plan = plan_split_turns(rng, recipe.cast)
    clips = [next(plan)]
    while (clip := next(plan)).group == clips[0].group:
        clips.append(clip)
    if clips[0].context or clips[0].turn is None:
        return _pause(rng, recipe)
    annotations: list[dict[str, Any]] = []
    for position, clip in enumerate(clips):
        if position:
            annotations.append({"text": "[PAUSE]", "timestamp": list(track.rest(rng.uniform(*_PAUSE_SEC)))})
        _, end = track.say(clip.text, voice)
    track.rest(_TAIL_SEC)
    annotations[-1] |= {"end": end, **_answer(track, clips[0].turn), "voice": str(voice)}
    return track, "pause", annotations


def _asked(rng: random.Random, recipe: Recipe) -> tuple[_Track, Voice, Turn]:
    """A question with a long answer, and the silence until something happens in it."""
    track, voice = _start(rng, recipe)
    turn = _long_answered(rng, recipe.cast.split)
    track.say(turn.user, voice)
    track.replies.append(turn.reply)
    track.rest(rng.uniform(*_INTO_REPLY_SEC))
    return track, voice, turn


def _interruption(rng: random.Random, recipe: Recipe) -> tuple[_Track, str, list[dict[str, Any]]]:
    track, voice, before = _asked(rng, recipe)
    openings = _openings(rng, recipe.cast.split)
    turn = next(t for t in openings if len(t.user.split()) >= 3 and not _depends(t, before))
    text = recipe.words(rng, turn)
    span = track.say(text, voice)
    track.rest(_TAIL_SEC)
    entry = {"context": before.user, "interrupt": text, "timestamp": list(span), "voice": str(voice)}
    return track, "interrupt", [{**entry, **_answer(track, turn)}]


def _backchannel(rng: random.Random, recipe: Recipe) -> tuple[_Track, str, list[dict[str, Any]]]:
    track, voice, _ = _asked(rng, recipe)
    text = rng.choice(BACKCHANNELS)
    span = track.say(text, voice)
    track.rest(_TAIL_SEC)
    return track, "backchannel", [{"text": text, "timestamp": list(span), "voice": str(voice)}]


def _background(rng: random.Random, recipe: Recipe) -> tuple[_Track, str, list[dict[str, Any]]]:
    """Half of the cases somebody far away, half a noise."""
    track, voice, _ = _asked(rng, recipe)
    if rng.random() < 0.5:
        name = next(_openings(rng, recipe.cast.split)).user
        far = 10 ** (rng.uniform(*_FAR_AWAY_PEAK_DB) / 20)
        span = track.add(with_peak(synthesize(name, recipe.voice(rng)), far))
    else:
        name = rng.choice(sorted(EVENT_MAKERS))
        sound = EVENT_MAKERS[name](np.random.default_rng(rng.getrandbits(32)))
        span = track.add(with_peak(sound, 10 ** (rng.uniform(*_EVENT_PEAK_DB) / 20)))
    track.rest(_TAIL_SEC)
    return track, "background", [{"text": name, "timestamp": list(span), "voice": str(voice)}]


def _within(low: float, high: float) -> Callable[[str], float]:
    """A number between two others, as an argument's type."""

    def number(text: str) -> float:
        if not low <= float(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return float(text)

    return number


def parser() -> argparse.ArgumentParser:
    """The command line of `bin/evaluate.py make`."""
    options = argparse.ArgumentParser(prog="evaluate.py make", description=__doc__)
    add = options.add_argument
    add("folder", type=Path, help="where to write the test set")
    add("--count", type=int, default=50, help="cases of each task (%(default)s)")
    add("--seed", type=int, default=1)
    add(
        "--task", type=lambda name: ALSO_NAMED.get(name, name), choices=TASKS, action="append",
        help="only this task; may be repeated",
    )  # fmt: skip
    add(
        "--voices",
        choices=sorted(CASTS),
        default="unseen",
        help="who speaks; trained: as the presets say; synthesizer: festival (%(default)s)",
    )
    add("--scripts", choices=["unseen", "trained"], default="unseen", help="which phrasings they use (%(default)s)")
    add(
        "--noise",
        type=_within(-20.0, 60.0),
        metavar="DB",
        help="background noise this far below the level of the speech",
    )
    add("--telephone", action="store_true", help="300-3400 Hz, 8 kHz, mu-law")
    add(
        "--speed",
        type=_within(0.5, 2.0),
        metavar="FACTOR",
        help="how fast every voice speaks (0.8 to 1.25, espeak-ng's from 0.75, drawn)",
    )
    add(
        "--level",
        type=_within(-60.0, 0.0),
        metavar="DB",
        help="peak of the user's speech, dB of full scale (-12 to -1, drawn)",
    )
    add("--hesitant", action="store_true", help='an "um" or a restart in what is asked to take turns and to interrupt')
    add(
        "--reverberation",
        type=_within(0.0, 5.0),
        default=0.0,
        metavar="SEC",
        help="time in which a room falls silent by 60 dB",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.count < 1:
        print("evaluate.py make: --count is at least 1", file=sys.stderr)
        return EXIT_USAGE
    if options.folder.exists() and not (options.folder.is_dir() and not any(options.folder.iterdir())):
        print(f"evaluate.py make: {options.folder} is no empty folder", file=sys.stderr)
        return EXIT_USAGE
    recipe = Recipe(
        count=options.count,
        seed=options.seed,
        tasks=tuple(task for task in TASKS if options.task is None or task in options.task),
        cast=replace(CASTS[options.voices], split="test" if options.scripts == "unseen" else "train"),
        snr_db=options.noise,
        telephone=options.telephone,
        reverberation_sec=options.reverberation,
        speed=options.speed,
        peak_db=options.level,
        hesitant=options.hesitant,
    )
    try:
        make(options.folder, recipe)
    except SynthesisError as error:
        print(f"evaluate.py make: {error}", file=sys.stderr)
        return 1
    return 0
