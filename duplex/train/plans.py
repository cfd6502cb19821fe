# ruff: noqa: SIM905  (word lists read better as sentences)
"""What each corpus says and in which voice, before any synthesis."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duplex.train.voices import (
    AGENT_VOICE,
    HELDOUT_VOICES,
    OTHER_SYNTHESIZER_VOICES,
    TRAIN_VOICES,
    Voice,
    sample_voice,
)
from duplex.train.world import BACKCHANNELS, Split, Turn, all_replies, sample_dialogue, vocabulary

_DIALOGUE_SHARE = 0.75  # of the asr corpus; the rest is random words, so that the encoder learns sounds, not sentences
_VOCABULARY_DIALOGUES = 4_000
_WHOLE_REPLY_SHARE = 0.58
_FRAGMENT_SHARE = 0.12
_HESITATION_SHARE = 0.3
_HESITATIONS = ("um", "uh")

# A turn cut after one of these is plainly unfinished.
_OPEN_WORDS = frozenset(
    "what which how who where when why is are do does can the a an of in to from plus minus times divided by and or "
    "after before than my name i tell say spell count many much color capital opposite me repeat please number day "
    "month word call called live favorite about comes between multiplied subtract add bigger smaller baby you".split()
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip to be made; the fields are those of Utterance before there is audio."""

    text: str
    voice: Voice | None
    turn: Turn | None = None
    context: tuple[Turn, ...] = ()
    group: int = -1


@dataclass(frozen=True, slots=True)
class Cast:
    """Which texts are said, and in whose voices."""

    split: Split = "train"
    voices: Sequence[Voice] = TRAIN_VOICES
    natural_share: float = 0.6  # of clips; the espeak voices are many and alike

    def voice(self, rng: random.Random) -> Voice:
        """One of the voices, varied."""
        return sample_voice(rng, self.voices, self.natural_share)


TRAINING = Cast()
HELDOUT = Cast("test", HELDOUT_VOICES, natural_share=0.35)  # its natural voice is only one
"""Texts and voices that are kept for evaluation."""
OTHER_SYNTHESIZER = Cast("test", OTHER_SYNTHESIZER_VOICES)
"""Texts that are kept for evaluation, spoken by an engine that training never uses."""


def plan_asr(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """User turns of whole dialogues, one voice per dialogue; the train split mixes in random words."""
    words = vocabulary(random.Random(0), _VOCABULARY_DIALOGUES) if cast.split == "train" else []
    while True:
        voice = cast.voice(rng)
        if cast.split == "train" and rng.random() > _DIALOGUE_SHARE:
            yield Clip(" ".join(rng.choices(words, k=rng.randint(1, 6))), voice)
            continue
        turns = sample_dialogue(rng, cast.split).turns
        for position, turn in enumerate(turns):
            yield Clip(turn.user, voice, turn, tuple(turns[:position]))


def plan_unseen_voices(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """The train split's dialogues in voices that are kept for evaluation: hearing alone is put to the test."""
    del cast
    while True:
        voice = HELDOUT.voice(rng)
        turns = sample_dialogue(rng, "train").turns
        for position, turn in enumerate(turns):
            yield Clip(turn.user, voice, turn, tuple(turns[:position]))


def plan_agent(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """Replies, parts of replies, and random words of replies, so that the decoder learns sounds, not sentences."""
    del cast  # the agent has one voice and says the same in both
    words = sorted({word for reply in all_replies(random.Random(0), _VOCABULARY_DIALOGUES) for word in _words(reply)})
    said: set[str] = set()
    while True:
        reply = next(all_replies(rng, 1))
        draw = rng.random()
        if draw < _WHOLE_REPLY_SHARE:
            # A second copy of the same synthetic sentence teaches nothing; most repeats are dropped.
            if reply in said and rng.random() < 0.8:
                continue
            said.add(reply)
            yield Clip(reply, AGENT_VOICE)
        elif draw < _WHOLE_REPLY_SHARE + _FRAGMENT_SHARE:
            parts = reply.split()
            first = rng.randrange(len(parts))
            yield Clip(" ".join(parts[first : first + rng.randint(1, 4)]), AGENT_VOICE)
        else:
            text = " ".join(rng.choices(words, k=rng.randint(2, 8)))
            yield Clip(text[0].upper() + text[1:] + rng.choice(".?!."), AGENT_VOICE)


def _words(reply: str) -> list[str]:
    return re.findall(r"[a-z][a-z'-]+", reply.lower())


def plan_split_turns(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """User turns in two or three parts, cut where the text so far is unfinished, sometimes after a hesitation."""
    group = 0
    while True:
        turns = sample_dialogue(rng, cast.split).turns
        words = turns[-1].user.split()
        cuts = [i for i in range(1, len(words)) if words[i - 1] in _OPEN_WORDS]
        if not cuts:
            continue
        chosen = sorted(rng.sample(cuts, min(len(cuts), rng.choice((1, 1, 2)))))
        voice = cast.voice(rng)
        for first, last in zip([0, *chosen], [*chosen, len(words)], strict=True):
            text = " ".join(words[first:last])
            if last < len(words) and rng.random() < _HESITATION_SHARE:
                text = f"{text} {rng.choice(_HESITATIONS)}"
            yield Clip(text, voice, turns[-1], tuple(turns[:-1]), group)
        group += 1


def plan_backchannels(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """Short listener sounds in many voices."""
    while True:
        yield Clip(rng.choice(BACKCHANNELS), cast.voice(rng))
