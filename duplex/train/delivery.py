"""How a voice delivers its sentences: how steady its level is, how long it rests at the marks inside of them, and whether
their first and last sounds are whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median, pstdev

import numpy as np

from duplex.audio.recogniser import Aligner
from duplex.train.augment import Pcm, speech_level

FRAME_SEC = 0.01
CUT_BELOW = 0.5  # of the length that a sound has in the voice learned from
PAUSE_BELOW_LOUD_DB = 30.0  # a frame this far below the loud ones is silent

Said = tuple[str, Pcm, int]  # text, samples in [-1, 1], samples a second


def longest_pause_sec(pcm: Pcm, rate: int) -> float:
    """The longest silence between two sounds of a clip [samples]; 0 where there is none."""
    frame = round(FRAME_SEC * rate)
    count = len(pcm) // frame
    if count == 0:
        return 0.0
    energy = np.square(pcm[: count * frame].reshape(count, frame)).mean(axis=1)
    loud = np.flatnonzero(energy > np.quantile(energy, 0.9) * 10 ** (-PAUSE_BELOW_LOUD_DB / 10))
    return float(np.max(np.diff(loud) - 1, initial=0)) * FRAME_SEC


def delivery(said: Sequence[Said]) -> dict[str, float | None]:
    """Of clips of one voice: deviation of their levels, and the median of the longest pauses, with and without marks."""
    levels = [20 * float(np.log10(speech_level(pcm))) for _, pcm, _ in said]
    pauses: dict[bool, list[float]] = {True: [], False: []}
    for text, pcm, rate in said:
        pauses[bool(re.search(r"[,.!?] ", text))].append(longest_pause_sec(pcm, rate))
    return {
        "level_deviation_db": round(pstdev(levels), 2) if levels else None,
        "pause_at_marks_sec": round(median(pauses[True]), 3) if pauses[True] else None,
        "pause_elsewhere_sec": round(median(pauses[False]), 3) if pauses[False] else None,
    }


def outer_phones(said: Sequence[Said], source: Sequence[Said]) -> dict[str, float | None]:
    """Shares of the sentences whose first and last phone last less than half as long as in the source voice, and how many
    could be aligned in both, which the others are shares of.

    `source`: the same sentences in the voice that was learned from.
    """
    aligner = Aligner()
    pairs = [
        (ours, theirs)
        for one, other in zip(said, source, strict=True)
        if (ours := aligner.phones(*one)) and (theirs := aligner.phones(*other))
    ]

    def share(position: int) -> float | None:
        cut = [ours[position][1] < CUT_BELOW * theirs[position][1] for ours, theirs in pairs]
        return round(sum(cut) / len(cut), 4) if cut else None

    aligned = round(len(pairs) / len(said), 4) if said else None
    return {"first_phone_cut": share(0), "last_phone_cut": share(-1), "aligned": aligned}
