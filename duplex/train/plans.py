# ruff: noqa: SIM905  (word lists read better as sentences)
"""What each corpus says and in which voice, before any synthesis."""

import functools
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from duplex.train.world.lexicon import sentence
from duplex.train.world.numbers import NUMBER_WORDS, written
from duplex.train.world.phrasing import HESITATIONS, hesitant

_DIALOGUE_SHARE = 0.75  # of the asr corpus; the rest is random words, so that the encoder learns sounds, not sentences
_OTHER_WORDS_SHARE = 0.2  # of the dialogues: other words in the place of some, so that each is heard by its sound
_OTHER_WORDS = 0.4  # of their words
_HESITANT_SHARE = 0.06  # of the other dialogues' turns
_VOCABULARY_DIALOGUES = 4_000
# What the agent's corpus is made of. The world has some ten thousand replies, and a decoder that hears each of them
# many times learns them by heart: more than half is what no reply says. And the server speaks a reply in segments, cut
# at marks, so segments are what must be learned.
_AGENT_SHARES = {
    "reply": 0.23,
    "segment": 0.21,
    "varied": 0.19,
    "joined": 0.11,
    "spelled": 0.05,
    "numbers": 0.05,
    "fragment": 0.04,
    "words": 0.12,
}
_SEGMENT_PIECES = 4  # the shortest segment; words and marks, as duplex/model/segmenter.py counts tokens
_VARIED_WORDS = 0.5  # of the words of a varied reply are others
_OPENINGS_OF_REPLIES = 0.7  # of what is joined begins as a reply does, "Sorry. ..."; the rest with any word or two
_HESITATION_SHARE = 0.3

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
    accents: bool = True  # made up on top, for most of espeak's voices

    def voice(self, rng: random.Random) -> Voice:
        """One of the voices, varied."""
        return sample_voice(rng, self.voices, self.natural_share, accents=self.accents)


TRAINING = Cast()
HELDOUT = Cast("test", HELDOUT_VOICES, natural_share=0.35, accents=False)  # its natural voice is only one
"""Texts and voices that are kept for evaluation."""
OTHER_SYNTHESIZER = Cast("test", OTHER_SYNTHESIZER_VOICES, accents=False)
"""Texts that are kept for evaluation, spoken by an engine that training never uses."""


def plan_asr(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """User turns of whole dialogues, one voice per dialogue; the train split mixes in random words."""
    words = _any_words() if cast.split == "train" else ()
    while True:
        voice = cast.voice(rng)
        if cast.split == "train" and rng.random() > _DIALOGUE_SHARE:
            yield Clip(" ".join(rng.choices(words, k=rng.randint(1, 6))), voice)
            continue
        turns = sample_dialogue(rng, cast.split).turns
        if cast.split == "train" and rng.random() < _OTHER_WORDS_SHARE:
            for turn in turns:
                yield Clip(with_other_words(rng, turn.user, words), voice)
            continue
        for position, turn in enumerate(turns):
            hesitates = cast.split == "train" and rng.random() < _HESITANT_SHARE
            text = hesitant(rng, turn.user) if hesitates else turn.user
            yield Clip(text, voice, turn, tuple(turns[:position]))


@functools.cache
def _any_words() -> tuple[str, ...]:
    """What may stand in the place of a user's word."""
    return tuple(sorted(world_words(random.Random(0), _VOCABULARY_DIALOGUES)))


def with_other_words(rng: random.Random, text: str, words: Sequence[str]) -> str:
    """A user's text with any of `words` in the place of some of its own, one of them at least."""
    own = text.split()
    certain = rng.randrange(len(own))
    return " ".join(
        rng.choice(words) if place == certain or rng.random() < _OTHER_WORDS else word for place, word in enumerate(own)
    )


def plan_unseen_voices(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """The train split's dialogues in voices that are kept for evaluation: hearing alone is put to the test."""
    del cast
    while True:
        voice = HELDOUT.voice(rng)
        turns = sample_dialogue(rng, "train").turns
        for position, turn in enumerate(turns):
            yield Clip(turn.user, voice, turn, tuple(turns[:position]))


def plan_agent(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """Replies, each once in a shard, and more that is said like them: other words in their place, spelled words,
    numbers, parts, and random words.
    """
    del cast  # the agent has one voice and says the same in both
    words = _reply_words(random.Random(0))
    openings = sorted(_short_openings(all_replies(random.Random(0), _VOCABULARY_DIALOGUES)))
    make: dict[str, Callable[[], str]] = {
        "reply": lambda: next(all_replies(rng, 1)),
        "segment": lambda: _segment(rng, words),
        "joined": lambda: _joined(rng, words, openings),
        "varied": lambda: _varied(rng, next(all_replies(rng, 1)), words),
        "spelled": lambda: _spelled(rng, words),
        "numbers": lambda: _numbers(rng),
        "fragment": lambda: _fragment(rng, next(all_replies(rng, 1))),
        "words": lambda: sentence(" ".join(rng.choices(words, k=rng.randint(1, 8)))) + rng.choice(".?!."),
    }
    said: set[str] = set()
    while True:
        kind = rng.choices(list(_AGENT_SHARES), list(_AGENT_SHARES.values()))[0]
        text = make[kind]()
        while text in said:
            text = make[kind]()
        said.add(text)
        yield Clip(text, AGENT_VOICE)


def world_words(rng: random.Random, dialogues: int) -> set[str]:
    """Every word that users and the agent say in so many dialogues, in lower case."""
    replies = _reply_words(rng, dialogues)
    return {*vocabulary(rng, dialogues), *(part for word in replies for part in word.lower().split("-") if part)}


def _reply_words(rng: random.Random, dialogues: int = _VOCABULARY_DIALOGUES) -> list[str]:
    return sorted({word for reply in all_replies(rng, dialogues) for word in _words(reply)})


def _segment(rng: random.Random, words: Sequence[str]) -> str:
    """One segment of a reply that is spoken in several, or of what is like one."""
    make: tuple[Callable[[], str], ...] = (
        lambda: next(all_replies(rng, 1)),
        lambda: _varied(rng, next(all_replies(rng, 1)), words),
        lambda: _spelled(rng, words),
        lambda: _numbers(rng),
    )
    maker = rng.choices(make, (0.4, 0.36, 0.12, 0.12))[0]
    while len(segments := spoken_segments(maker())) == 1:
        pass
    return rng.choice(segments)


def _short_openings(replies: Iterable[str]) -> set[str]:
    """First sentences too short for a segment of their own, so that the next one is said in the same breath."""
    found = set()
    for reply in replies:
        first, _, rest = reply.partition(" ")
        while rest and first[-1] not in ".!?":
            word, _, rest = rest.partition(" ")
            first = f"{first} {word}"
        if rest and _pieces(first) < _SEGMENT_PIECES:
            found.add(first)
    return found


def _joined(rng: random.Random, words: Sequence[str], openings: Sequence[str]) -> str:
    """A short sentence and the beginning of a reply behind it, as one segment."""
    opening = rng.choice(openings)
    if rng.random() > _OPENINGS_OF_REPLIES:
        opening = sentence(" ".join(rng.choices(words, k=rng.randint(1, 2)))) + rng.choice(".!?")
    reply = next(all_replies(rng, 1))
    return spoken_segments(f"{opening} {_varied(rng, reply, words) if rng.random() < 0.5 else reply}")[0]


def spoken_segments(reply: str) -> list[str]:
    """A reply as the server cuts it: at the first comma, to be heard early, then at the ends of sentences."""
    segments: list[str] = []
    pieces: list[str] = []
    count = 0
    for word in reply.split():
        pieces.append(word)
        count += _pieces(word)
        closes = word[-1] in ".!?" or (word[-1] == "," and not segments)
        if count >= _SEGMENT_PIECES and closes:
            segments.append(" ".join(pieces))
            pieces, count = [], 0
    return [*segments, " ".join(pieces)] if pieces else segments


def _pieces(text: str) -> int:
    return len(re.findall(r"[\w']+|[^\w\s]", text))


def _words(reply: str) -> list[str]:
    return re.findall(r"[A-Za-z][a-z'-]+", reply)


def _varied(rng: random.Random, reply: str, words: Sequence[str]) -> str:
    """A reply with other numbers for its numbers and any words for its words."""

    def other(found: re.Match[str]) -> str:
        word = found.group()
        if rng.random() > _VARIED_WORDS:
            return word
        is_number = word.lower().split("-")[0] in NUMBER_WORDS
        new = written(rng.randrange(100)) if is_number else rng.choice(words)
        return new.capitalize() if word[0].isupper() else new

    return re.sub(r"[A-Za-z][a-z'-]+", other, reply)


def _spelled(rng: random.Random, words: Sequence[str]) -> str:
    """Words spelled as replies spell them, the letters now and then of no word."""
    word = rng.choice(words)
    letters = [letter for letter in word.upper() if letter.isalpha()]
    if rng.random() < 0.5:
        letters = rng.choices(string.ascii_uppercase, k=rng.randint(2, 7))
    return f"{word.capitalize()} is spelled {', '.join(letters)}."


def _numbers(rng: random.Random) -> str:
    return sentence(", ".join(written(rng.randrange(100)) for _ in range(rng.randint(2, 8)))) + "."


def _fragment(rng: random.Random, reply: str) -> str:
    parts = reply.split()
    first = rng.randrange(len(parts))
    return " ".join(parts[first : first + rng.randint(1, 4)])


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
                text = f"{text} {rng.choice(HESITATIONS)}"
            yield Clip(text, voice, turns[-1], tuple(turns[:-1]), group)
        group += 1


def plan_backchannels(rng: random.Random, cast: Cast) -> Iterator[Clip]:
    """Short listener sounds in many voices."""
    while True:
        yield Clip(rng.choice(BACKCHANNELS), cast.voice(rng))
