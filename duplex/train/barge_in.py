"""How soon a checkpoint tells an interruption, and how often it takes something else for one, by the probability asked for.

    python -m duplex.train.barge_in runs/corpus --checkpoint checkpoints/tiny --count 150

On timed sounds over the speaking agent in voices kept for evaluation. The live server adds the time that audio takes to
come, to be judged and to fall silent (`bin/evaluate.py`).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from duplex.audio.features import CHUNK_FRAMES, NEW_FRAMES
from duplex.core.errors import DuplexError
from duplex.core.verdict import IGNORE_THRESHOLD
from duplex.train.calibration import listening_half
from duplex.train.ctc_stage import stream_features
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.listen_stage import INTERRUPTION_CLASS, ListenModel, Spoken, conversation_before
from duplex.train.scenarios import CHUNK_SAMPLES, IGNORE, ClipPools, Kind, Scenario, load_pools, sample_scenario
from duplex.train.voices import SAMPLE_RATE

KINDS: tuple[Kind, ...] = ("barge_in", "backchannel", "noise", "background_speech")
STRENGTH = 0.3  # of rooms, noise and telephones
LEAD_CHUNKS, TAIL_CHUNKS = 2, 5  # judged before and after a sound
CHUNK_SEC = CHUNK_SAMPLES / SAMPLE_RATE
EARLIEST_SEC = 0.2  # from its beginning until the VAD has counted the 160 ms that the server asks for


@dataclass(frozen=True)
class Judged:
    """One sound: when it began and ended, and of every chunk its end, P(ignore) and P(the user takes the floor)."""

    start_sec: float
    end_sec: float
    chunks: list[tuple[float, float, float]]

    def told_after(self, probability: float) -> float | None:
        """Seconds from its beginning until it counts as an interruption; None: it never does."""
        for at, ignore, taking in self.chunks:
            if at < self.start_sec + EARLIEST_SEC:
                continue
            if ignore > IGNORE_THRESHOLD and at > self.end_sec:
                return None
            if taking > probability:
                return at - self.start_sec
        return None


def judge(model: ListenModel, writer: DialogueWriter, scenario: Scenario, rng: random.Random) -> Judged:
    """Let the listening half hear one scenario in its conversation."""
    features = stream_features(scenario.pcm)
    first = max(0, scenario.speech_start_sample // CHUNK_SAMPLES - LEAD_CHUNKS)
    last = min(len(scenario.labels) - 1, scenario.speech_end_sample // CHUNK_SAMPLES + TAIL_CHUNKS)
    wanted = [0] * (last + 1 - first)
    before = conversation_before(writer, scenario.context, rng, cut=False)
    item = Spoken(
        features[NEW_FRAMES * first : NEW_FRAMES * last + CHUNK_FRAMES], "", before, None, wanted, list(wanted)
    )
    logits, _, _ = model.judged([item], writer)
    ignore = logits[:, :INTERRUPTION_CLASS].softmax(-1)[:, IGNORE].tolist()
    taking = logits[:, INTERRUPTION_CLASS].sigmoid().tolist()
    ends = [(first + number + 1) * CHUNK_SEC for number in range(len(wanted))]
    start, end = scenario.speech_start_sample / SAMPLE_RATE, scenario.speech_end_sample / SAMPLE_RATE
    return Judged(start, end, list(zip(ends, ignore, taking, strict=True)))


def judge_kind(
    model: ListenModel, writer: DialogueWriter, pools: ClipPools, kind: Kind, count: int, seed: int
) -> list[Judged]:
    """`count` scenarios of a kind in which the agent speaks."""
    rng = random.Random(seed)
    judged: list[Judged] = []
    while len(judged) < count:
        scenario = sample_scenario(rng, pools, kind, STRENGTH)
        if scenario.agent_was_speaking:
            judged.append(judge(model, writer, scenario, rng))
    return judged


def row(judged: dict[Kind, list[Judged]], probability: float) -> str:
    """One line of the table."""
    cells = [f"{probability:.2f}"]
    for kind in KINDS:
        told = [after for one in judged[kind] if (after := one.told_after(probability)) is not None]
        cells.append(f"{len(told) / len(judged[kind]):.3f}")
        if kind == "barge_in":
            cells.append(f"{median(told):.3f}" if told else "-")
    return " | ".join(cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="barge_in", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="the folder of all corpora that the stage data made")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/tiny"))
    parser.add_argument("--count", type=int, default=150, help="sounds of each kind")
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args(arguments)
    try:
        names = ("unseen_voices", "split_turns_test", "backchannels_test", "noise_test")
        pools = load_pools(*(options.corpus / name for name in names))
        model, writer = listening_half(options.checkpoint)
    except (DuplexError, FileNotFoundError) as error:
        print(f"barge_in: {error}", file=sys.stderr)
        return 1
    judged = {kind: judge_kind(model, writer, pools, kind, options.count, options.seed) for kind in KINDS}
    print("barge_in_probability | interruptions | after sec p50 | backchannels | noises | voices far away")
    for twentieth in range(4, 19):
        print(row(judged, twentieth / 20))
    return 0


if __name__ == "__main__":
    sys.exit(main())
