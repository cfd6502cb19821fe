"""Timed turns as training items of the state head, cut the way the server will hear them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from torch.nn import functional as F

from duplex.audio.features import CHUNK_FRAMES, NEW_FRAMES
from duplex.train.ctc_stage import stream_features
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.listen_stage import Spoken, conversation_before
from duplex.train.scenarios import (
    CHUNK_SAMPLES,
    DONT_CARE,
    IGNORE,
    RESPOND,
    ClipPools,
    Scenario,
    label_interruption,
    sample_scenario,
)

HISTORY_CHUNKS = 6  # replayed from before the onset; literal zeros where the stream had not begun
DEGRADED_SHARE = 0.75  # of the scenarios; the others are clean over a faint noise floor
AFTER_END = (0, 0, 1, 1, 1, 2, 2, 3, 4, 6)  # chunks heard beyond the first RESPOND before the reply starts


def item_of(scenario: Scenario, writer: DialogueWriter, rng: random.Random) -> Spoken:
    """Features from a little before the speech to a little after its end, and the reply where there is one."""
    features = stream_features(scenario.pcm)
    labels, interrupting = scenario.labels.tolist(), label_interruption(scenario).tolist()
    decided = [chunk for chunk, label in enumerate(labels) if label in (RESPOND, IGNORE)]
    last = decided[0] + rng.choice(AFTER_END) if decided else len(labels) - 1
    last = min(last, len(labels) - 1)
    first = rng.randint(0, 2) if scenario.speech_end_sample > 4 * CHUNK_SAMPLES else 0
    features = features[NEW_FRAMES * first : NEW_FRAMES * last + CHUNK_FRAMES]
    labels, interrupting = labels[first : last + 1], interrupting[first : last + 1]
    if rng.random() < 0.3:  # the stream began just before
        zeros = rng.randint(1, HISTORY_CHUNKS)
        features = F.pad(features, (0, 0, NEW_FRAMES * zeros, 0))
        labels, interrupting = ([DONT_CARE] * zeros + each for each in (labels, interrupting))
    before = conversation_before(writer, scenario.context, rng, cut=False)
    reply = scenario.turn.reply if scenario.turn is not None else None
    return Spoken(features, scenario.user_text, before, reply, labels, interrupting)


def state_items(pools: ClipPools, writer: DialogueWriter, seed: int) -> Iterator[Spoken]:
    """Endless timed turns, pauses, interruptions, backchannels and noises."""
    rng = random.Random(seed)
    while True:
        scenario = sample_scenario(rng, pools, strength=0.9 if rng.random() < DEGRADED_SHARE else 0.0)
        if np.isfinite(scenario.pcm).all():
            yield item_of(scenario, writer, rng)
