"""Sampling whole dialogues, and judging a reply."""

import random
from collections.abc import Iterator

from duplex.core import words
from duplex.train.world import arithmetic, calendar, echo, knowledge, memory, outside, small_talk  # noqa: F401
from duplex.train.world.phrasing import NoPhrasingError
from duplex.train.world.talk import REGISTRY, Intent, Talk
from duplex.train.world.types import Dialogue, Split, Turn

BACKCHANNELS = (
    "mm-hm", "uh-huh", "okay", "yeah", "right", "i see", "hmm", "mhm", "oh", "sure", "ah", "yep", "mm", "aha", "wow",
    "cool", "got it", "oh okay", "yeah yeah", "right right", "oh i see", "okay okay",
)  # fmt: skip
"""What a listener says without wanting the floor."""

_LENGTH_WEIGHTS = (0.4, 0.27, 0.2, 0.13)
_MEMORY_SHARE = 0.16
_FOLLOW_UP_SHARE = 0.45
_AGAIN_SHARE = 0.06
_AGAIN = (
    "say that again",
    "can you repeat that",
    "what did you say",
    "what was that",
    "sorry what was that",
    "once more please",
    "say it again",
    "one more time please",
    "please repeat that",
    "please say that again",
    "i did not understand you",
    "can you say that once more",
    "excuse me what did you say",
    "i could not hear you",
    "what did you just say",
    "repeat your answer",
    "repeat that",
    "pardon",
    "could you say that again",
    "i did not hear you",
    "come again",
    "say what",
    "what",
    "what's that",
    "i missed that",
    "i missed what you said",
    "tell me that again",
    "tell me again",
    "can i hear that again",
    "let me hear that again",
    "repeat what you said",
    "i beg your pardon",
    "sorry i missed that",
    "sorry i did not hear you",
    "give me that one more time",
    "what was your answer",
    "what was the answer again",
    "i did not catch that",
    "that was too quick say it again",
    "run that by me again",
    "i didn't hear you",
    "i didn't hear that",
    "i didn't quite get that",
    "i didn't quite catch what you said",
    "i didn't understand that",
    "once again",
    "say that one more time",
    "what was that again",
    "what was it you said",
    "what did you say again",
    "what did you tell me",
    "what did you answer",
    "how was that again",
    "i lost you there say that again",
    "i wasn't listening say it again",
    "it's loud here what did you say",
    "that went by too fast say it again",
    "repeat the answer",
    "*i didn't get that",
)


def intent_names() -> list[str]:
    """Names of all registered intents plus the ones that only occur as follow-ups."""
    unknown = [f"memory.{topic.name}.unknown" for topic in memory.TOPICS]
    return sorted(
        {*REGISTRY, *unknown, "again", "again.nothing", "count.more", "joke.another", "joke.funny", "fact.another"}
    )


def answer_is_right(turn: Turn, reply_text: str) -> bool:
    """Tell whether a reply has one alternative of every conjunct of `turn.answer`, as whole words."""
    return words.answer_is_right(turn.answer, reply_text)


def _say_again(talk: Talk) -> Turn:
    user = talk.say(_AGAIN)
    if not talk.turns:
        return Turn(user, "I have not said anything yet.", "again.nothing", (("not said",),))
    last = talk.turns[-1]
    return Turn(user, last.reply, "again", last.answer)


def _random_intent(rng: random.Random) -> Intent:
    intents = list(REGISTRY.values())
    return rng.choices(intents, weights=[i.weight for i in intents])[0]


def _next_turn(talk: Talk) -> Turn:
    draw = talk.rng.random()
    if talk.turns and talk.follow_ups and draw < _FOLLOW_UP_SHARE:
        return talk.rng.choice(talk.follow_ups)(talk)
    if draw > 1 - (_AGAIN_SHARE if talk.turns else _AGAIN_SHARE / 10):
        return _say_again(talk)
    return _random_intent(talk.rng).make(talk)


def _extend(talk: Talk, length: int) -> None:
    """Append random turns until the talk has `length`, drawing again where the split lacks a phrasing."""
    while len(talk.turns) < length:
        try:
            turn = _next_turn(talk)
        except NoPhrasingError:
            continue
        talk.turns.append(turn)


def _memory_dialogue(talk: Talk, length: int) -> None:
    """Tell something, talk about other things, ask it back."""
    topics = talk.rng.choices(memory.TOPICS, weights=[t.weight for t in memory.TOPICS], k=2)
    talk.turns.append(memory.tell(talk, topics[0]))
    if length == 4 and talk.rng.random() < 0.5 and topics[1] is not topics[0]:
        talk.turns.append(memory.tell(talk, topics[1]))
    _extend(talk, length - 1)
    talk.turns.append(memory.ask(talk, topics[0]))


def sample_dialogue(rng: random.Random, split: Split) -> Dialogue:
    """Sample a dialogue of one to four turns; equal generator states give equal dialogues.

    In the test split every phrasing is one that the train split never uses.
    """
    length = rng.choices((1, 2, 3, 4), weights=_LENGTH_WEIGHTS)[0]
    wants_memory = length > 1 and rng.random() < _MEMORY_SHARE / (1 - _LENGTH_WEIGHTS[0])
    while True:
        talk = Talk(rng, split)
        try:
            if wants_memory:
                _memory_dialogue(talk, length)
            else:
                _extend(talk, length)
        except NoPhrasingError:
            continue
        return Dialogue(talk.turns)


def all_replies(rng: random.Random, count: int) -> Iterator[str]:
    """Yield `count` replies in the frequencies of the training dialogues."""
    yielded = 0
    while yielded < count:
        for turn in sample_dialogue(rng, "train").turns[: count - yielded]:
            yield turn.reply
            yielded += 1


def vocabulary(rng: random.Random | None = None, dialogues: int = 20_000) -> list[str]:
    """Collect the words users say in both splits, sorted; sampled, so rare words need many dialogues."""
    rng = rng or random.Random(0)
    words: set[str] = set()
    for index in range(dialogues):
        for turn in sample_dialogue(rng, "test" if index % 4 == 0 else "train").turns:
            words.update(turn.user.split())
    return sorted(words)
