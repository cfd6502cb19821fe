"""The world answers itself, keeps its splits apart and is the same every time."""

import functools
import itertools
import random
import re

import pytest

from duplex.train.world import Dialogue, Split, Turn, all_replies, answer_is_right, intent_names, sample_dialogue
from duplex.train.world.numbers import ordinal, spoken, written
from duplex.train.world.outside import questions
from duplex.train.world.phrasing import core_text, pick_core, with_held_out
from duplex.train.world.strangers import OUTSIDE, OUTSIDE_INTENT, strangers_dialogues
from duplex.train.world.talk import REGISTRY, Talk


@functools.cache
def _dialogues(split: Split, count: int, seed: int = 7) -> list[Dialogue]:
    rng = random.Random(seed)
    return [sample_dialogue(rng, split) for _ in range(count)]


def _turns(split: Split, count: int) -> list[Turn]:
    return [turn for dialogue in _dialogues(split, count) for turn in dialogue.turns]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reply_answers_its_own_turn(split: Split) -> None:
    for turn in _turns(split, 2_000):
        assert answer_is_right(turn, turn.reply), turn


@pytest.mark.parametrize("split", ["train", "test"])
def test_users_speak_in_bare_lower_case_words(split: Split) -> None:
    for turn in _turns(split, 2_000):
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", turn.user), turn


def test_replies_are_short_written_english_without_digits() -> None:
    for turn in _turns("train", 2_000):
        assert re.fullmatch(r"[A-Z][A-Za-z',.?! -]*[.?!]", turn.reply), turn
        assert len(turn.reply.split()) <= 14, turn


def test_there_are_many_intents_and_many_refusals() -> None:
    assert len(intent_names()) >= 150
    assert len(questions()) >= 150
    seen = {turn.intent for turn in _turns("train", 6_000)}
    test_only = {"outside.art", "outside.sports", "outside.garden", "outside.school"}
    assert set(intent_names()) - seen <= test_only
    assert not seen & test_only


def test_no_phrasing_of_the_test_split_is_ever_trained_on() -> None:
    trained = {core_text(turn.user) for turn in _turns("train", 6_000)}
    tested = {core_text(turn.user) for turn in _turns("test", 2_000)}
    assert not trained & tested


def test_what_everybody_says_is_always_taught() -> None:
    sayings = ("hello", "hi there", "i greet you all", "good day to you my friend")
    marked = with_held_out(sayings)
    rng = random.Random(0)
    taught = {pick_core(rng, "train", marked) for _ in range(100)}
    tested = {pick_core(rng, "test", marked) for _ in range(100)}
    assert {"hello", "hi there"} <= taught
    assert tested
    assert not taught & tested
    assert taught | tested == set(sayings)
    said = {core_text(turn.user) for turn in _turns("train", 20_000)}
    assert {"hello", "hello there", "stop", "goodbye"} <= said


def test_a_first_turn_has_one_reply_whoever_asks() -> None:
    replies: dict[str, str] = {}
    for dialogue in _dialogues("train", 6_000):
        first = dialogue.turns[0]
        assert replies.setdefault(core_text(first.user), first.reply) == first.reply


def test_equal_generators_give_equal_dialogues() -> None:
    one, two = (random.Random(3) for _ in range(2))
    assert [sample_dialogue(one, "test") for _ in range(100)] == [sample_dialogue(two, "test") for _ in range(100)]
    assert list(all_replies(random.Random(3), 50)) == list(all_replies(random.Random(3), 50))


def test_what_was_told_is_remembered_and_what_was_not_is_unknown() -> None:
    recalled = unknown = 0
    for dialogue in _dialogues("train", 6_000):
        told: str | None = None
        for turn in dialogue.turns:
            if turn.intent == "memory.name.tell":
                told = turn.answer[0][0]
            elif turn.intent == "memory.name.ask":
                assert told is not None
                assert told in turn.reply.lower()
                recalled += 1
            elif turn.intent == "memory.name.unknown":
                assert told is None
                unknown += 1
    assert recalled > 20
    assert unknown > 20


def test_what_about_another_number_keeps_the_first_one() -> None:
    kept = 0
    for dialogue in _dialogues("train", 6_000):
        for before, turn in itertools.pairwise(dialogue.turns):
            sum_before = re.fullmatch(r"(?:Sorry\. )?(\S+) (plus|minus|times|divided by) .*", before.reply)
            if (
                sum_before
                and before.intent.startswith("arithmetic")
                and turn.user.startswith(("what about ", "how about "))
            ):
                assert turn.reply.startswith(f"{sum_before[1].capitalize()} {sum_before[2]}"), (before, turn)
                kept += 1
    assert kept > 5


def _replies(intent: str, count: int = 4_000) -> dict[str, str]:
    """What users of one intent say, and what is answered."""
    rng = random.Random(5)
    turns = [REGISTRY[intent].make(Talk(rng, "train")) for _ in range(count)]
    return {core_text(turn.user): turn.reply for turn in turns}


def test_times_are_read_out() -> None:
    replies = _replies("time.read")
    assert replies["what time is twelve forty five"] == "Twelve forty-five is a quarter to one."
    assert replies["what time is three thirty"] == "Three thirty is half past three."
    assert replies["what time is one fifteen"] == "One fifteen is a quarter past one."
    later = _replies("time.after")
    assert later["what time is it two hours after eleven o'clock"] == "Two hours after eleven o'clock is one o'clock."
    assert later["what time is it one hour before one o'clock"] == "One hour before one o'clock is twelve o'clock."


def test_dates_are_read_out_and_months_end() -> None:
    assert _replies("date.read", 12_000)["read the date may third"] == "The third of May."
    replies = _replies("date.after", 24_000)
    assert (
        replies["what date comes after december thirty first"]
        == "The first of January comes after the thirty-first of December."
    )
    assert (
        replies["what date comes after february twenty eighth"]
        == "The first of March comes after the twenty-eighth of February."
    )
    assert replies["what date comes after may third"] == "The fourth of May comes after the third of May."


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        ((("is six",),), "Two plus four is six.", True),
        ((("is six",),), "Two plus four is sixteen.", False),
        ((("is twenty",),), "It is twenty-one.", False),
        ((("yes",), ("is bigger",)), "Yes, a dog is smaller.", False),
        ((("paris", "lyon"),), "It is Paris!", True),
        ((("don't know",),), "I don't know that yet.", True),
    ],
)
def test_scoring_wants_whole_words(answer: tuple[tuple[str, ...], ...], reply: str, right: bool) -> None:
    assert answer_is_right(Turn("", "", "", answer), reply) is right


def test_numbers_are_words() -> None:
    assert written(21) == "twenty-one"
    assert written(-13) == "minus thirteen"
    assert spoken(365) == "three hundred sixty five"
    assert written(9000) == "nine thousand"
    assert [ordinal(number) for number in (1, 2, 3, 5, 8, 9, 12, 13, 20)] == (
        ["first", "second", "third", "fifth", "eighth", "ninth", "twelfth", "thirteenth", "twentieth"]
    )
    assert (ordinal(4), ordinal(22), ordinal(30), ordinal(31)) == (
        "fourth",
        "twenty-second",
        "thirtieth",
        "thirty-first",
    )
    with pytest.raises(ValueError, match="outside"):
        written(10_000)


def test_strangers_ask_in_words_of_their_own_for_what_the_world_has() -> None:
    turns = [dialogue.turns[-1] for dialogue in strangers_dialogues()]
    texts = [turn.user for turn in turns]
    assert len(set(texts)) > 0.98 * len(texts) > 1000
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)+", text) for text in texts)
    assert all(answer_is_right(turn, turn.reply) for turn in turns)
    asked = {turn.intent for turn in turns}
    assert asked - {OUTSIDE_INTENT} == {n for n in intent_names() if not n.startswith(("outside.", "unclear."))}


def test_most_of_what_strangers_say_is_never_trained_on() -> None:
    said = {core_text(dialogue.turns[-1].user) for dialogue in strangers_dialogues()}
    trained = {core_text(turn.user) for turn in _turns("train", 6_000)}
    assert len(said - trained) > 0.6 * len(said)
    outside = {core_text(text) for text in OUTSIDE.split("|")}
    assert len(outside - trained) > 0.95 * len(outside)
