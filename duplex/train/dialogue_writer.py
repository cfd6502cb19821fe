"""Dialogues as token ids with what every position is to predict.

A user turn is seen in two forms: as plain text, and as a stream of 80 ms positions in which a recogniser would
write it, pieces with blanks between and around them. The second is what the adapter will produce from speech, so
that a frozen LLM can be attached to audio afterwards. In the stream every position also predicts the next piece
to come, end of turn included: the state head reads completeness from that.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duplex.model.chat import ChatFormat
from duplex.train.hearing import Heard, Mishearing, blurred, pieces_said, places_of_pieces
from duplex.train.tokenizer import AUDIO_START, BLANK, ROLE, SPECIALS, WORD_START
from duplex.train.world import Dialogue
from duplex.train.world.phrasing import HESITATIONS

TEMPLATE = f"<|im_start|>system\n{ROLE}<|im_end|>\n<|im_start|>user\n<audio><|im_end|>\n<|im_start|>assistant\n"
IGNORED = -100
PROMPT_POSITIONS = 5  # learned prompt embeddings before the audio of a turn
ENCODED_TEXTS = 1 << 16  # that a writer remembers: most of the world is said again and again
PAUSED = 0.3  # of the spoken turns have a pause or two inside, of up to a second,
HESITATION_SHARE = 0.4  # of them after one of
RESTART_SHARE = 0.25  # of them say up to three words again
REPEATED_PIECES = 0.06  # pieces that fill two positions, as an adapter writes some
SEARCHED_AS_HEARD = 0.5  # of the made-up turns: the word search mends no slip
TYPED_BEFORE = 0.25  # of the spoken dialogues have typed turns before the last


@dataclass(frozen=True)
class Example:
    """A dialogue in positions: ids, what each is to predict (targets), what it is (kinds: 2 reply, 1 user, 0 neither), and
    the second likeliest piece there with its weight.
    """

    ids: list[int]
    targets: list[int]
    kinds: list[int]
    second: list[int]
    doubt: list[float]


@dataclass(frozen=True)
class _Stream:
    """Positions of a spoken turn: the likeliest piece, the next one to come, the second likeliest, its weight."""

    ids: Sequence[int]
    targets: Sequence[int]
    second: Sequence[int]
    doubt: Sequence[float]


class DialogueWriter:
    """Writes dialogues as token ids with targets, the user's turns as text or as a stream of positions."""

    def __init__(self, tokenizer: Any, mishear: Mishearing | None = None) -> None:
        @functools.lru_cache(maxsize=ENCODED_TEXTS)
        def encoded(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False))

        def encode(text: str) -> list[int]:
            return list(encoded(text))

        self.encode = encode
        self.mishear = mishear
        self.decode = tokenizer.decode
        self.piece = tokenizer.convert_ids_to_tokens
        self.chat = ChatFormat.from_template(TEMPLATE, encode)
        self.blank = encode(BLANK)[0]
        self.audio_start = encode(AUDIO_START)[0]
        self.first_special = min(encode(s)[0] for s in SPECIALS)

    def stream(self, text: str, rng: random.Random) -> tuple[list[int], list[int]]:
        """A user turn as 80 ms positions, and for each position the next piece to come."""
        pieces = self.encode(text)
        ids = [self.blank] * rng.randint(1, 12)
        following: list[int] = [0] * len(ids)  # index of the next piece
        words = [index for index, piece in enumerate(pieces) if self.piece(piece).startswith(WORD_START)]
        pauses = rng.sample(words, min(len(words), rng.choice((1, 1, 2)))) if rng.random() < PAUSED else []
        for index, piece in enumerate(pieces):
            if index in pauses:
                said = self.encode(rng.choice(HESITATIONS)) if rng.random() < HESITATION_SHARE else []
                ids += (pad := [*said, *[self.blank] * rng.randint(2, 13)])
                following += [index] * len(pad)
                if index and rng.random() < RESTART_SHARE:
                    back = rng.choice([word for word in words if word < index][-3:])
                    ids += pieces[back:index]
                    following += range(back + 1, index + 1)
            draw = rng.random()
            if draw < 0.004:
                piece = rng.randrange(1, self.first_special)
            if draw < 0.996:
                times = 2 if rng.random() < REPEATED_PIECES else 1
                ids += [piece] * times
                following += [index + 1] * times
            gap = min(4, int(rng.expovariate(1.0)))
            ids += [self.blank] * gap
            following += [index + 1] * gap
        tail = rng.randint(0, 8)
        ids += [self.blank] * tail
        following += [len(pieces)] * tail
        ends = [*pieces, self.chat.end_of_turn]
        return ids, [ends[i] for i in following]

    def _made_up(self, text: str, rng: random.Random) -> tuple[_Stream, _Stream]:
        """A user turn as a recogniser might write it, and the words that a search might find in it: as often what was
        said as what was heard.
        """
        ids, targets = self.stream(self.mishear(text, rng) if self.mishear else text, rng)
        places = places_of_pieces(ids, self.blank)
        heard = rng.random() < SEARCHED_AS_HEARD
        words = self._words([ids[at] for at in places] if heard else self.encode(text), text)
        return _Stream(ids, targets, *blurred(ids, rng)), words

    def _as_heard(self, heard: Heard) -> tuple[_Stream, _Stream]:
        """A user turn as the ears wrote it, and the words found in it."""
        targets = self._to_come(heard.first, heard.turn.user, self.blank)
        return _Stream(heard.first, targets, heard.second, heard.doubt), self._words(heard.words, heard.turn.user)

    def _words(self, pieces: Sequence[int], said: str) -> _Stream:
        """A user turn as the word search found it."""
        return _Stream(pieces, self._to_come(pieces, said, None), pieces, [0.0] * len(pieces))

    def _to_come(self, heard: Sequence[int], said: str, blank: int | None) -> list[int]:
        """The next piece to come of what was said, at every position of what was heard."""
        pieces = self.encode(said)
        ends = [*pieces, self.chat.end_of_turn]
        return [ends[over] for over in pieces_said(heard, pieces, blank)]

    def write(
        self,
        dialogue: Dialogue,
        rng: random.Random,
        speech: float = 0.6,
        heard: Sequence[Heard] = (),
    ) -> Example:
        """A dialogue; `heard`: every turn as the ears wrote it, without them streams of spoken turns are made up.

        Behind its stream the words of a spoken turn stand once more, as the server hands them on before a reply.
        """
        done = Example([], [], [], [], [])

        def add(
            new: Sequence[int],
            targets: Sequence[int] | None = None,
            kind: int = 0,
            second: Sequence[int] | None = None,
            doubt: Sequence[float] | None = None,
        ) -> None:
            done.ids.extend(new)
            done.targets.extend(targets if targets is not None else [IGNORED] * len(new))
            done.kinds.extend([kind] * len(new))
            done.second.extend(new if second is None else second)
            done.doubt.extend([0.0] * len(new) if doubt is None else doubt)

        add(self.chat.system(None if rng.random() < 0.9 else rng.choice(("", "You are kind.", "Be brief."))))
        spoken = bool(heard) or rng.random() < speech
        typed_before = spoken and not heard and rng.random() < TYPED_BEFORE
        for number, turn in enumerate(dialogue.turns):
            add(self.chat.prefix)
            if spoken and not (typed_before and number + 1 < len(dialogue.turns)):
                add([self.audio_start] * PROMPT_POSITIONS)
                for part in self._as_heard(heard[number]) if heard else self._made_up(turn.user, rng):
                    add(part.ids, part.targets, 1, part.second, part.doubt)
            else:
                pieces = self.encode(turn.user)
                add(pieces, [*pieces[1:], self.chat.end_of_turn], 1)
            reply = self.encode(turn.reply)
            suffix = list(self.chat.suffix)
            add(suffix[:-1])
            answer = [*reply, self.chat.end_of_turn]
            add([suffix[-1], *reply], answer, 2)
            if number + 1 < len(dialogue.turns) and rng.random() < 0.15:  # interrupted: only a part was heard
                drop = rng.randint(0, len(reply))
                if drop:
                    for column in (done.ids, done.targets, done.kinds, done.second, done.doubt):
                        del column[-drop:]
        return done
