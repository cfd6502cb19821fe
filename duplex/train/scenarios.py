"""Timed user turns for the state head: what is heard, and what the right decision is at the end of every chunk.

Scenarios are assembled from clips already on disk, so that sampling one costs milliseconds and no speech engine runs
while a model trains.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from duplex.train.augment import background, degrade, humming, with_peak
from duplex.train.corpus import Utterance, load_backchannels, load_corpus, load_noises, load_split_turns
from duplex.train.voices import SAMPLE_RATE, Pcm
from duplex.train.world import Turn

CHUNK_SAMPLES = 2_560  # 160 ms
CONTINUE, RESPOND, IGNORE = 0, 1, 2
DONT_CARE = -100

Kind = Literal["turn", "paused", "barge_in", "backchannel", "noise", "background_speech"]

_SETTLE_SAMPLES = SAMPLE_RATE // 5  # 200 ms after the end in which either answer is accepted
_TELLING_SAMPLES = SAMPLE_RATE * 4 // 25  # 160 ms of speech may tell a question from a backchannel
_LEAD_SEC = (0.3, 1.0)
_TAIL_SEC = (1.5, 2.5)
_PAUSE_SEC = (0.25, 0.9)
_SPEECH_PEAK_DB = (-12.0, 0.0)
_BACKGROUND_PEAK_DB = (-42.0, -30.0)
_ROOM_PEAK_DB = (-70.0, -48.0)  # noise floor where nothing is said
_LATE_CLICK_SHARE = 0.1
_AGENT_SPEAKING_SHARE = 0.95  # of backchannels and noises; a listener hums while the other one talks
_KIND_WEIGHTS: dict[Kind, float] = {
    "turn": 0.27,
    "paused": 0.28,
    "barge_in": 0.15,
    "backchannel": 0.18,
    "noise": 0.05,
    "background_speech": 0.07,
}
_HUMMED_SHARE = 0.2  # of backchannels, with closed lips; the engines' "mm-hm" is a word
_SHORT_TURN_SHARE = 0.5  # of single turns: "hello" is over as soon as it is begun, and rare among clips
_SHORT_TURN_WORDS = 2
_NOT_A_TURN = frozenset({"unclear.unfinished"})  # half a sentence is a pause here, never an end


@dataclass(frozen=True, slots=True)
class Scenario:
    """One stretch of user audio with a decision per chunk.

    `pcm` is float32 `[samples]` at 16 kHz, a whole number of chunks; `labels` is int8 `[chunks]`, chunk k covering
    samples [2560 k, 2560 (k + 1)). `context` holds the turns before; when `agent_was_speaking`, the reply of the last
    one is cut where the user came in. `turn` is the user's turn with its right reply, None where there is nothing to
    answer.
    """

    kind: Kind
    context: tuple[Turn, ...]
    pcm: Pcm
    labels: npt.NDArray[np.int8]
    user_text: str
    speech_start_sample: int
    speech_end_sample: int
    agent_was_speaking: bool = False
    turn: Turn | None = None


@dataclass(slots=True)
class ClipPools:
    """The clips that scenarios are made of."""

    turns: Sequence[Utterance]
    split_turns: Sequence[tuple[Utterance, ...]]
    backchannels: Sequence[Utterance]
    noises: Sequence[Utterance]
    later_turns: list[Utterance] = field(init=False)
    short_turns: list[Utterance] = field(init=False)

    def __post_init__(self) -> None:
        """Keep what has a turn, and index what has a context.

        Raises:
            ValueError: A pool is empty, or no turn has a context.

        """
        self.turns = [u for u in self.turns if u.turn is not None and u.turn.intent not in _NOT_A_TURN]
        self.split_turns = [
            parts for parts in self.split_turns if parts[0].turn is not None and parts[0].turn.intent not in _NOT_A_TURN
        ]
        self.later_turns = [u for u in self.turns if u.context]
        self.short_turns = [u for u in self.turns if len(u.text.split()) <= _SHORT_TURN_WORDS]
        for name in ("turns", "split_turns", "backchannels", "noises", "later_turns"):
            if not getattr(self, name):
                raise ValueError(f"scenarios need clips, and the pool {name!r} is empty")


def load_pools(asr: Path, split_turns: Path, backchannels: Path, noises: Path) -> ClipPools:
    """Load the four corpora that scenarios draw from.

    Raises:
        FileNotFoundError: A corpus has not been built.

    """
    return ClipPools(
        load_corpus(asr), load_split_turns(split_turns), load_backchannels(backchannels), load_noises(noises)
    )


def sample_scenario(rng: random.Random, pools: ClipPools, kind: Kind | None = None, strength: float = 1.0) -> Scenario:
    """Sample a scenario, of `kind` if given; equal generator states and pools give equal scenarios.

    `strength` scales room, noise and telephone effects; 0 leaves the speech clean over a faint noise floor.
    """
    chosen: Kind = kind or rng.choices(list(_KIND_WEIGHTS), weights=list(_KIND_WEIGHTS.values()))[0]
    return _MAKERS[chosen](rng, pools, strength)


def label_chunks(samples: int, speech_end_sample: int, decision: int) -> npt.NDArray[np.int8]:
    """Label each whole chunk by its end: CONTINUE before the end of speech, `decision` once it has settled."""
    ends = (np.arange(samples // CHUNK_SAMPLES) + 1) * CHUNK_SAMPLES
    labels = np.full(len(ends), DONT_CARE, np.int8)
    labels[ends < speech_end_sample] = CONTINUE
    labels[ends >= speech_end_sample + _SETTLE_SAMPLES] = decision
    return labels


def label_interruption(scenario: Scenario) -> npt.NDArray[np.int8]:
    """Whether the user is taking the floor from the agent, by chunk, once it can be told: 1 in an interruption, 0 in what
    is to be ignored; DONT_CARE before, and where the agent is silent.
    """
    ends = (np.arange(len(scenario.labels)) + 1) * CHUNK_SAMPLES
    labels = np.full(len(ends), DONT_CARE, np.int8)
    if scenario.agent_was_speaking:
        labels[ends >= scenario.speech_start_sample + _TELLING_SAMPLES] = int(scenario.turn is not None)
    return labels


def _turn(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    few = pools.short_turns if rng.random() < _SHORT_TURN_SHARE else []
    return _single(rng, pools, rng.choice(few or pools.turns), strength)


def _single(rng: random.Random, pools: ClipPools, spoken: Utterance, strength: float) -> Scenario:
    pcm, start, end = _timeline(rng, pools, [_at_speech_level(rng, spoken.samples())], strength)
    labels = label_chunks(len(pcm), end, RESPOND)
    return Scenario("turn", spoken.context, pcm, labels, spoken.text, start, end, turn=spoken.turn)


def _paused(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    parts = rng.choice(pools.split_turns)
    pcm, start, end = _timeline(rng, pools, [_at_speech_level(rng, part.samples()) for part in parts], strength)
    labels = label_chunks(len(pcm), end, RESPOND)
    text = " ".join(part.text for part in parts)
    return Scenario("paused", parts[0].context, pcm, labels, text, start, end, turn=parts[0].turn)


def _barge_in(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    plain = _single(rng, pools, rng.choice(pools.later_turns), strength)
    return replace(plain, kind="barge_in", context=_interrupted(rng, plain.context), agent_was_speaking=True)


def _backchannel(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    if rng.random() < _HUMMED_SHARE:
        sound, text = humming(np.random.default_rng(rng.getrandbits(64))), "mm"
    else:
        clip = rng.choice(pools.backchannels)
        sound, text = clip.samples(), clip.text
    return _ignored(rng, pools, "backchannel", _at_speech_level(rng, sound), text, strength)


def _noise(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    return _ignored(rng, pools, "noise", rng.choice(pools.noises).samples(), "", strength)


def _background_speech(rng: random.Random, pools: ClipPools, strength: float) -> Scenario:
    far_away = with_peak(rng.choice(pools.turns).samples(), 10 ** (rng.uniform(*_BACKGROUND_PEAK_DB) / 20))
    return _ignored(rng, pools, "background_speech", far_away, "", strength)


def _ignored(rng: random.Random, pools: ClipPools, kind: Kind, sound: Pcm, text: str, strength: float) -> Scenario:
    pcm, start, end = _timeline(rng, pools, [sound], strength)
    before = rng.choice(pools.turns)
    assert before.turn is not None
    context = (*before.context, before.turn)
    speaking = rng.random() < _AGENT_SPEAKING_SHARE
    return Scenario(
        kind,
        _interrupted(rng, context) if speaking else context,
        pcm,
        label_chunks(len(pcm), end, IGNORE),
        text,
        start,
        end,
        agent_was_speaking=speaking,
    )


_MAKERS: dict[Kind, Callable[[random.Random, ClipPools, float], Scenario]] = {
    "turn": _turn,
    "paused": _paused,
    "barge_in": _barge_in,
    "backchannel": _backchannel,
    "noise": _noise,
    "background_speech": _background_speech,
}


def _timeline(rng: random.Random, pools: ClipPools, sounds: Sequence[Pcm], strength: float) -> tuple[Pcm, int, int]:
    """Put silence around sounds and pauses between them; returns whole chunks, and start and end of the sounds."""
    pieces = [_silence(rng, _LEAD_SEC)]
    for position, sound in enumerate(sounds):
        pieces += [_silence(rng, _PAUSE_SEC), sound] if position else [sound]
    start, end = len(pieces[0]), sum(len(piece) for piece in pieces)
    tail = _silence(rng, _TAIL_SEC)
    if rng.random() < _LATE_CLICK_SHARE * strength:
        click = with_peak(rng.choice(pools.noises).samples(), rng.uniform(0.005, 0.03))[: len(tail)]
        click_at = rng.randrange(len(tail) - len(click) + 1)
        tail[click_at : click_at + len(click)] += click
    pcm = np.concatenate([*pieces, tail])
    pcm = pcm[: len(pcm) // CHUNK_SAMPLES * CHUNK_SAMPLES]
    draws = np.random.default_rng(rng.getrandbits(64))
    floor = 10 ** (rng.uniform(*_ROOM_PEAK_DB) / 20)
    pcm = pcm + background(len(pcm), draws) * np.float32(floor)
    return degrade(pcm, draws, strength), start, end


def _silence(rng: random.Random, length_sec: tuple[float, float]) -> Pcm:
    return np.zeros(int(rng.uniform(*length_sec) * SAMPLE_RATE), np.float32)


def _at_speech_level(rng: random.Random, pcm: Pcm) -> Pcm:
    return with_peak(pcm, 10 ** (rng.uniform(*_SPEECH_PEAK_DB) / 20))


def _interrupted(rng: random.Random, context: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Cut the last reply after a random word, at least one before its end where it has two."""
    words = context[-1].reply.split()
    heard = " ".join(words[: rng.randint(1, max(1, len(words) - 1))])
    return (*context[:-1], replace(context[-1], reply=heard))
