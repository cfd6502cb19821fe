"""The small fixed world that the shipped model talks about: about three hundred intents with one right reply each."""

from duplex.train.world.dialogues import (
    BACKCHANNELS,
    all_replies,
    answer_is_right,
    intent_names,
    sample_dialogue,
    vocabulary,
)
from duplex.train.world.types import Dialogue, Split, Turn

__all__ = [
    "BACKCHANNELS",
    "Dialogue",
    "Split",
    "Turn",
    "all_replies",
    "answer_is_right",
    "intent_names",
    "sample_dialogue",
    "vocabulary",
]
