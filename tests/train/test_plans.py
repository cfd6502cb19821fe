"""What the agent's corpus is made of, and how a user turn becomes a stream of positions."""

import itertools
import random
import re

import pytest
import torch

from duplex.model.segmenter import TextSegmenter
from duplex.train import dialogue_writer
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.hearing import places_of_pieces
from duplex.train.plans import HELDOUT, TRAINING, plan_agent, plan_asr, spoken_segments
from duplex.train.world import Dialogue, Turn, all_replies
from duplex.train.world.phrasing import HESITATIONS, hesitant

CLIPS = 800


def test_the_agent_says_nothing_twice_and_mostly_what_no_reply_says() -> None:
    texts = [clip.text for clip in itertools.islice(plan_agent(random.Random(4), TRAINING), CLIPS)]
    assert len(set(texts)) == CLIPS
    replies = set(all_replies(random.Random(0), 40_000))
    assert 0.2 * CLIPS < sum(text in replies for text in texts) < 0.45 * CLIPS
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z',.?! -]*", text) for text in texts)
    spelled = [text for text in texts if re.fullmatch(r"\S+ is spelled [A-Z](, [A-Z])*\.", text)]
    assert len(spelled) > 0.03 * CLIPS
    joined = [text for text in texts if re.search(r"^[A-Z][a-z' -]*[.!?] ", text)]
    assert len(joined) > 0.08 * CLIPS
    assert sum(text.startswith("Sorry. ") for text in joined) > 2
    assert len({letter for text in spelled for letter in re.findall(r"\b[A-Z]\b", text)}) > 22


def test_users_say_other_words_in_the_place_of_some_in_training_alone() -> None:
    clips = [*itertools.islice(plan_asr(random.Random(4), TRAINING), CLIPS)]
    without_turn = [clip.text for clip in clips if clip.turn is None]
    longest_random = 6
    assert 0.15 * CLIPS < len(without_turn) < 0.45 * CLIPS
    assert (
        sum(len(text.split()) > longest_random for text in without_turn) > 0.02 * CLIPS
    )  # those can't be random words
    known = {clip.text for clip in clips if clip.turn is not None}
    assert not known & {text for text in without_turn if len(text.split()) > longest_random}
    assert all(clip.turn is not None for clip in itertools.islice(plan_asr(random.Random(4), HELDOUT), 100))


@pytest.mark.parametrize(
    ("reply", "segments"),
    [
        ("Hello! How can I help you?", ["Hello! How can I help you?"]),
        ("I'm fine, thank you. How are you?", ["I'm fine, thank you.", "How are you?"]),
        ("One, two, three, four, five.", ["One, two,", "three, four, five."]),
        ("Bread is spelled B, R, E, A, D.", ["Bread is spelled B,", "R, E, A, D."]),
        ("Not at all", ["Not at all"]),
    ],
)
def test_a_reply_is_cut_as_the_server_cuts_it(reply: str, segments: list[str]) -> None:
    assert spoken_segments(reply) == segments
    segmenter, cut = TextSegmenter(_Pieces()), []
    for piece in range(len(_Pieces.split(reply))):
        _Pieces.text = reply
        segment = segmenter.push(piece, torch.zeros(1))
        if segment is not None:
            cut.append(segment.text.strip())
            segmenter.spoken = True
    rest = segmenter.flush()
    assert [*cut, *([rest.text.strip()] if rest is not None else [])] == segments


class _Pieces:
    """A tokenizer whose token n is the n-th word or mark of `text`."""

    text = ""

    @staticmethod
    def split(text: str) -> list[str]:
        return re.findall(r"\s*(?:[\w']+|[^\w\s])", text)

    def decode(self, token_ids: list[int], **_: bool) -> str:
        return "".join(self.split(self.text)[i] for i in token_ids)


def test_the_agents_plan_is_the_same_for_equal_generators() -> None:
    one, two = (itertools.islice(plan_agent(random.Random(4), TRAINING), 100) for _ in range(2))
    assert list(one) == list(two)


class _Words:
    """A tokenizer of words, long ones in two pieces; ids in the order of their first use."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        pieces: list[str] = []
        for word in re.findall(r"<\|[^|]+\|>|\n|[^\s<]+", text):
            pieces += [f"\u2581{word[:4]}", word[4:]] if word.isalpha() and len(word) > 4 else [f"\u2581{word}"]
        return [self.ids.setdefault(piece, len(self.ids) + 1) for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.convert_ids_to_tokens(number) for number in ids).replace("\u2581", " ")

    def convert_ids_to_tokens(self, number: int) -> str:
        return next(piece for piece, other in self.ids.items() if other == number)


def test_a_pause_holds_blanks_and_a_hesitation_that_nothing_predicts(monkeypatch) -> None:
    monkeypatch.setattr(dialogue_writer, "PAUSED", 1.0)
    monkeypatch.setattr(dialogue_writer, "HESITATION_SHARE", 1.0)
    monkeypatch.setattr(dialogue_writer, "REPEATED_PIECES", 0.0)
    monkeypatch.setattr(dialogue_writer, "RESTART_SHARE", 0.0)
    words = _Words()
    said = words.encode("what is the capital of france", add_special_tokens=False)  # lower ids than the specials
    writer = DialogueWriter(words)
    hesitations = {words.encode(each, add_special_tokens=False)[0] for each in HESITATIONS}
    rng = random.Random(1)
    whole = 0
    for _ in range(50):
        ids, following = writer.stream("what is the capital of france", rng)
        heard = [i for i in ids if i != writer.blank]
        assert hesitations & set(heard)
        assert not hesitations & set(following)
        whole += [i for i in heard if i not in hesitations] == said
        at = next(i for i, piece in enumerate(ids) if piece in hesitations)
        assert ids[at + 1 : at + 3] == [writer.blank] * 2
        assert following[at] == following[at + 1]
        assert words.convert_ids_to_tokens(following[at]) not in ("tal", "ce")  # never inside a word
    assert whole > 40  # now and then a piece is misheard or lost


def test_behind_its_stream_a_spoken_turns_words_stand_once_more() -> None:
    """As they were said or as they were heard, with what is to come and without a doubt; typed turns stand alone."""
    writer = DialogueWriter(_Words())
    turn = Turn("what is the capital of france", "The capital of France is Paris.", "capital.france", (("paris",),))
    said, found_as_said = writer.encode(turn.user), 0
    for seed in range(20):
        spoken, typed = (writer.write(Dialogue([turn]), random.Random(seed), speech=share) for share in (1.0, 0.0))
        users = [at for at, kind in enumerate(spoken.kinds) if kind == 1]
        heard = [spoken.ids[at] for at in users]
        behind = [len(heard) - len(said)]
        behind += [n for n in range(len(heard)) if len(places_of_pieces(heard[:n], writer.blank)) == len(heard) - n]
        length = next(
            n for n in behind if heard[n:] in (said, [heard[at] for at in places_of_pieces(heard[:n], writer.blank)])
        )
        words = users[length:]
        found_as_said += (as_said := heard[length:] == said)
        if as_said:
            assert [spoken.targets[at] for at in words] == [*said[1:], writer.chat.end_of_turn]
        assert [spoken.second[at] for at in words] == heard[length:]
        assert not any(spoken.doubt[at] for at in words)
        assert writer.audio_start not in typed.ids
        assert writer.decode([i for i, kind in zip(typed.ids, typed.kinds, strict=True) if kind == 1]).split() == (
            turn.user.split()
        )
        assert not any(typed.doubt)
    assert 10 <= found_as_said <= 20


def test_a_restart_says_whole_words_again(monkeypatch) -> None:
    monkeypatch.setattr(dialogue_writer, "PAUSED", 1.0)
    monkeypatch.setattr(dialogue_writer, "HESITATION_SHARE", 0.0)
    monkeypatch.setattr(dialogue_writer, "RESTART_SHARE", 1.0)
    monkeypatch.setattr(dialogue_writer, "REPEATED_PIECES", 0.0)
    words, text = _Words(), "what is the capital of france"
    writer = DialogueWriter(words)
    ends = [*words.encode(text, add_special_tokens=False), writer.chat.end_of_turn]
    rng = random.Random(1)
    longer = 0
    for _ in range(50):
        ids, following = writer.stream(text, rng)
        heard = words.decode([i for i in ids if i != writer.blank]).split()
        longer += len(heard) > len(text.split())
        for at, piece in enumerate(ids):  # what comes next is told by what was said, the second time too
            if piece in ends[:-1]:
                assert following[at] == ends[ends.index(piece) + 1]
    assert longer > 30  # a pause before the first word has nothing to say again


def test_a_hesitant_text_has_all_its_words_in_order() -> None:
    text = "what is the capital of france"
    rng = random.Random(1)
    said = {hesitant(rng, text) for _ in range(200)}
    assert text not in said
    assert any(set(HESITATIONS) & set(each.split()) for each in said)
    assert any(not set(HESITATIONS) & set(each.split()) for each in said)
    for each in said:
        words = iter(each.split())
        assert all(word in words for word in text.split())
        assert set(each.split()) <= {*text.split(), *HESITATIONS}
    assert hesitant(rng, "hello") == "hello"
