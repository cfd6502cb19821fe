"""Corpora of synthesized speech, cached on disk in shards so that an interrupted build goes on where it stopped.

A shard is `NNNN.audio.npy` (int16 `[samples]` at 16 kHz, clips end to end) and `NNNN.index.jsonl`, a line per clip.

    python -m duplex.train.corpus --kind asr --hours 8 --out DIR --seed 1
"""

import argparse
import fcntl
import functools
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from duplex.train.augment import EVENT_MAKERS
from duplex.train.plans import (
    HELDOUT,
    TRAINING,
    Cast,
    Clip,
    plan_agent,
    plan_asr,
    plan_backchannels,
    plan_split_turns,
    plan_unseen_voices,
)
from duplex.train.voices import (
    AGENT_VOICE,
    SAMPLE_RATE,
    Pcm,
    SilentSpeechError,
    SynthesisError,
    speech_bounds,
    synthesize,
)
from duplex.train.workers import end_with_parent
from duplex.train.world import Turn

Kind = Literal["asr", "unseen_voices", "agent", "split_turns", "backchannels", "noise"]

CLIPS_PER_SHARD = 400
NICENESS = 10  # of processes that synthesize: what trains meanwhile comes first
_LONG_CLIP_SEC = 4.0  # no kind's clips last longer on an average
_AGENT_MARGIN = SAMPLE_RATE // 20  # 50 ms of silence kept around what the agent says
_SYNTHESIS_THREADS = 2  # each waits for an engine process, so threads are enough
_PLANS: dict[str, Callable[[random.Random, Cast], Iterator[Clip]]] = {
    "asr": plan_asr,
    "unseen_voices": plan_unseen_voices,
    "agent": plan_agent,
    "split_turns": plan_split_turns,
    "backchannels": plan_backchannels,
}


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip: `pcm` int16 `[samples]` at 16 kHz (a view of the shard), what it says and in which voice.

    User turns carry `turn` (with the right reply) and `context`, the turns before it. Clips of one paused turn share
    `group` and are consecutive.
    """

    pcm: npt.NDArray[np.int16]
    text: str
    voice: str
    turn: Turn | None = None
    context: tuple[Turn, ...] = ()
    group: int = -1

    def samples(self) -> Pcm:
        """The clip as float32 `[samples]` in [-1, 1]."""
        return self.pcm.astype(np.float32) / 32768.0


def build_corpus(
    kind: Kind,
    out: Path,
    hours: float,
    seed: int = 1,
    *,
    cast: Cast = TRAINING,
    shard_clips: int = CLIPS_PER_SHARD,
    workers: int = 0,
) -> None:
    """Synthesize shards into `out` until they hold `hours` of audio; shards already there are kept and counted.

    With `workers`, so many processes make shards at a time, the same ones. A second build of the same folder waits for
    the first one.

    Raises:
        SynthesisError: An engine is not installed or fails.

    """
    out.mkdir(parents=True, exist_ok=True)
    wanted_sec = hours * 3600.0
    make = functools.partial(_build_shard, kind, out, seed, cast, shard_clips)
    with (
        (out / ".lock").open("w") as lock,
        tqdm(total=round(wanted_sec), unit="s", desc=f"{kind} {cast.split}") as progress,
        _processes(workers) as pool,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"{out} is being made by another process: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        done_sec, shards = 0.0, 0
        while done_sec < wanted_sec:
            shard_sec = done_sec / shards if shards else shard_clips * _LONG_CLIP_SEC
            missing = int((wanted_sec - done_sec) / shard_sec)
            together = range(shards, shards + min(max(1, missing), max(1, workers)))
            for samples in pool.map(make, together) if pool else map(make, together):
                progress.update(round(samples / SAMPLE_RATE))
                done_sec += samples / SAMPLE_RATE
            shards += len(together)


def _processes(workers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    if not workers:
        return nullcontext()
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, fork, initializer=_begin_worker)


def _begin_worker() -> None:
    os.nice(NICENESS)
    end_with_parent(lambda: os._exit(1))  # or it would wait for work for ever, and for its folder the next build


def _build_shard(kind: Kind, out: Path, seed: int, cast: Cast, clips: int, shard: int) -> int:
    """Make one shard, where it is not there yet; returns its samples."""
    if not (out / f"{shard:04d}.index.jsonl").exists():
        rng = random.Random(f"{seed}/{kind}/{cast.split}/{shard}")
        _write_shard(out, shard, _noise_clips(rng, clips) if kind == "noise" else _speech_clips(kind, rng, cast, clips))
    audio: npt.NDArray[np.int16] = np.load(out / f"{shard:04d}.audio.npy", mmap_mode="r")
    return len(audio)


class GrowingCorpus(Sequence["Utterance"]):
    """The clips of a corpus that may still be synthesized; `look` adds those of the shards that are new.

    Raises FileNotFoundError where the folder holds no shard to begin with.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._clips: list[Utterance] = []
        self._read = set[str]()
        self.look()
        if not self._clips:
            raise FileNotFoundError(f"no corpus shards in {folder}; build them with python -m duplex.train.corpus")

    def look(self) -> None:
        """Read the shards that were completed since."""
        for index_path in sorted(self._folder.glob("*.index.jsonl")):
            if index_path.name not in self._read:
                self._read.add(index_path.name)
                self._clips.extend(_read_shard(index_path))

    @overload
    def __getitem__(self, at: int) -> Utterance: ...
    @overload
    def __getitem__(self, at: slice) -> list[Utterance]: ...
    def __getitem__(self, at: int | slice) -> Utterance | list[Utterance]:
        return self._clips[at]

    def __len__(self) -> int:
        return len(self._clips)


def again_and_again(corpus: Sequence[Utterance], rng: random.Random) -> Iterator[Utterance]:
    """Every clip of a corpus in one order after another, without end; new ones of a growing one as soon as possible."""
    left: list[Utterance] = []
    known = 0
    while True:
        if isinstance(corpus, GrowingCorpus):
            corpus.look()
        if not left or known < len(corpus):
            left += corpus[known if left else 0 :]
            known = len(corpus)
            rng.shuffle(left)
        for _ in range(min(len(left), CLIPS_PER_SHARD)):
            yield left.pop()


def load_corpus(folder: Path | str) -> list[Utterance]:
    """Load every clip of a corpus; the audio stays on disk until it is touched.

    Raises:
        FileNotFoundError: The folder holds no shard.

    """
    return GrowingCorpus(folder)[:]


def _read_shard(index_path: Path) -> list[Utterance]:
    audio: npt.NDArray[np.int16] = np.load(index_path.with_name(index_path.name[:4] + ".audio.npy"), mmap_mode="r")
    with index_path.open() as lines:
        return [_read_entry(json.loads(line), audio, int(index_path.name[:4])) for line in lines]


load_asr = load_agent = load_backchannels = load_noises = load_corpus


def load_split_turns(folder: Path | str) -> list[tuple[Utterance, ...]]:
    """Load turns spoken in two or three parts, to be put apart by pauses."""
    groups: dict[int, list[Utterance]] = {}
    for part in load_corpus(folder):
        groups.setdefault(part.group, []).append(part)
    return [tuple(parts) for parts in groups.values()]


def _speech_clips(kind: Kind, rng: random.Random, cast: Cast, count: int) -> list[tuple[Clip, Pcm]]:
    plan = _PLANS[kind](rng, cast)
    clips = [next(plan) for _ in range(count)]
    while clips[-1].group >= 0 and (clip := next(plan)).group == clips[-1].group:
        clips.append(clip)
    with ThreadPoolExecutor(_SYNTHESIS_THREADS) as pool:
        spoken = list(pool.map(_speak_agent if kind == "agent" else _speak, clips))
    failed = {clip.group for clip, pcm in zip(clips, spoken, strict=True) if pcm is None and clip.group >= 0}
    return [
        (clip, pcm) for clip, pcm in zip(clips, spoken, strict=True) if pcm is not None and clip.group not in failed
    ]


def _speak(clip: Clip) -> Pcm | None:
    """Speak one clip; None for the rare text that a voice turns into silence."""
    try:
        return synthesize(clip.text, clip.voice or AGENT_VOICE)
    except SilentSpeechError:
        return None


def _speak_agent(clip: Clip) -> Pcm | None:
    pcm = synthesize(clip.text, AGENT_VOICE, trim=False)
    first, last = speech_bounds(pcm)
    margin = np.zeros(_AGENT_MARGIN, np.float32)
    return np.concatenate([margin, pcm, margin])[first : last + 2 * _AGENT_MARGIN]


def _noise_clips(rng: random.Random, count: int) -> list[tuple[Clip, Pcm]]:
    clips = []
    for _ in range(count):
        name = rng.choice(sorted(EVENT_MAKERS))
        clips.append((Clip(name, None), EVENT_MAKERS[name](np.random.default_rng(rng.getrandbits(32)))))
    return clips


def _write_shard(out: Path, shard: int, clips: list[tuple[Clip, Pcm]]) -> None:
    """Write audio first and index last: a shard counts only once its index exists."""
    lines, offset = [], 0
    for clip, pcm in clips:
        entry = {"offset": offset, "length": len(pcm), "text": clip.text, "voice": str(clip.voice or "noise")}
        if clip.turn is not None:
            entry |= {"turn": asdict(clip.turn), "context": [asdict(turn) for turn in clip.context]}
        if clip.group >= 0:
            entry["group"] = clip.group
        lines.append(json.dumps(entry))
        offset += len(pcm)
    audio = np.concatenate([pcm for _, pcm in clips])
    np.save(out / f"{shard:04d}.audio.npy", np.clip(np.round(audio * 32767.0), -32768, 32767).astype(np.int16))
    unfinished = out / f"{shard:04d}.partial"
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.rename(out / f"{shard:04d}.index.jsonl")


def _read_entry(entry: dict[str, Any], audio: npt.NDArray[np.int16], shard: int) -> Utterance:
    first = entry["offset"]
    group = entry.get("group", -1)
    return Utterance(
        pcm=audio[first : first + entry["length"]],
        text=entry["text"],
        voice=entry["voice"],
        turn=_read_turn(entry["turn"]) if "turn" in entry else None,
        context=tuple(_read_turn(turn) for turn in entry.get("context", ())),
        group=shard * 1_000_000 + group if group >= 0 else -1,
    )


def _read_turn(fields: dict[str, Any]) -> Turn:
    answer = tuple(tuple(options) for options in fields["answer"])
    return Turn(fields["user"], fields["reply"], fields["intent"], answer)


def main() -> None:
    """Build one corpus from the command line."""
    parser = argparse.ArgumentParser(description="Synthesize a training corpus.")
    parser.add_argument("--kind", choices=[*_PLANS, "noise"], required=True)
    parser.add_argument("--hours", type=float, required=True, help="hours of audio to reach")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=["train", "test"], default="train", help="test: held-out texts and voices")
    parser.add_argument("--workers", type=int, default=0, help="processes that synthesize at a time")
    options = parser.parse_args()
    cast = TRAINING if options.split == "train" else HELDOUT
    try:
        build_corpus(options.kind, options.out, options.hours, options.seed, cast=cast, workers=options.workers)
    except (SynthesisError, OSError) as error:
        sys.exit(f"corpus: {error}")


if __name__ == "__main__":
    main()
