"""Facts asked by slot: capitals, opposites, colors, animals, shapes, what things are and can do.

Most of these share one shape, a table from a subject to a value, so that one function registers them all and gives
each its follow-up ("and a cow?", "what about Spain?") and its correction ("no, I said Spain").
"""

from collections.abc import Callable, Mapping, Sequence

from duplex.train.world import animals, lexicon
from duplex.train.world.lexicon import sentence, with_article
from duplex.train.world.numbers import written
from duplex.train.world.talk import UNKNOWN_ANSWER, UNKNOWN_REPLY, Talk, intent
from duplex.train.world.types import Turn

_AGAIN = (
    "and {x}",
    "what about {x}",
    "how about {x}",
    "and what about {x}",
    "now {x}",
    "and for {x}",
    "okay and {x}",
    "now what about {x}",
    "*then what about {x}",
)
_CORRECTION = (
    "no i said {x}",
    "no i meant {x}",
    "sorry i meant {x}",
    "i said {x}",
    "i meant {x}",
    "no no {x}",
    "sorry i said {x}",
    "that is wrong i said {x}",
    "no it was {x}",
    "actually i meant {x}",
    "*no not that i said {x}",
)


def _register_table(
    name: str,
    weight: float,
    table: Mapping[str, str],
    ask: Sequence[str],
    reply: str,
    answer: str = "{v}",
    shown: Callable[[str], str] = str,
    again: Sequence[str] = _AGAIN,
) -> None:
    """Register an intent over subject -> value.

    `ask` templates have {x}, the spoken subject; `reply` and `answer` have {x} and {v}; `shown` turns a key into how
    the subject is said.
    """

    def turn(talk: Talk, user: str, key: str, apology: str = "") -> Turn:
        value, subject = table[key], shown(key)

        def follow(later: Talk) -> Turn:
            other = later.rng.choice([k for k in table if k != key])
            return turn(later, later.say(again, x=shown(other).lower()), other)

        def correct(later: Talk) -> Turn:
            other = later.rng.choice([k for k in table if k != key])
            return turn(later, later.say(_CORRECTION, x=shown(other).lower()), other, "Sorry. ")

        talk.follow_ups = [follow, follow, correct]
        text = apology + sentence(reply.format(x=subject, v=value))
        return Turn(user, text, name, ((answer.format(x=subject, v=value).lower(),),))

    @intent(name, weight)
    def make(talk: Talk) -> Turn:
        key = talk.rng.choice(list(table))
        return turn(talk, talk.say(ask, x=shown(key).lower()), key)


_register_table(
    "capital",
    9,
    lexicon.CAPITALS,
    (
        "what is the capital of {x}",
        "what's the capital of {x}",
        "which city is the capital of {x}",
        "what city is the capital of {x}",
        "the capital of {x}",
        "name the capital of {x}",
        "what city is capital of {x}",
        "do you know the capital of {x}",
        "which city is capital of {x}",
        "give me the capital of {x}",
        "what is the name of the capital of {x}",
        "what is the main city of {x}",
        "capital of {x}",
        "tell me the capital of {x}",
        "*what is the capital city of {x}",
    ),
    "The capital of {x} is {v}.",
    again=(*_AGAIN, "and of {x}", "and the capital of {x}"),
)
_register_table(
    "country",
    7,
    {city: country for country, city in lexicon.CAPITALS.items()},
    (
        "which country is {x} the capital of",
        "what country is {x} the capital of",
        "{x} is the capital of which country",
        "{x} is capital of which country",
        "what country has the capital {x}",
        "which country has the capital {x}",
        "{x} is the capital of what",
        "name the country with the capital {x}",
        "what is {x} the capital of",
        "{x} is the capital of what country",
        "of which country is {x} the capital",
        "*in which country is {x} the capital",
    ),
    "{x} is the capital of {v}.",
    "capital of {v}",
)
_BOTH_WAYS = {**lexicon.OPPOSITES, **{second: first for first, second in lexicon.OPPOSITES.items()}}
_register_table(
    "opposite",
    9,
    _BOTH_WAYS,
    (
        "what is the opposite of {x}",
        "what's the opposite of {x}",
        "the opposite of {x}",
        "tell me the opposite of {x}",
        "give me the opposite of {x}",
        "what is opposite to {x}",
        "opposite of {x}",
        "which word is the opposite of {x}",
        "what is the contrary of {x}",
        "name the opposite of {x}",
        "do you know the opposite of {x}",
        "{x} what is the opposite",
        "what word is the opposite of {x}",
        "*which word means the opposite of {x}",
    ),
    "The opposite of {x} is {v}.",
    "is {v}",
    again=(*_AGAIN, "and of {x}", "and the opposite of {x}"),
)
_register_table(
    "color",
    6,
    lexicon.THING_COLORS,
    (
        "what color is {x}",
        "which color is {x}",
        "what is the color of {x}",
        "what color does {x} have",
        "tell me the color of {x}",
        "do you know the color of {x}",
        "{x} has which color",
        "name the color of {x}",
        "what is the usual color of {x}",
        "{x} is what color",
        "which color does {x} have",
        "*what's the color of {x}",
    ),
    "{x} is {v}.",
    "is {v}",
)
_register_table(
    "animal.sound",
    4,
    animals.ANIMAL_SOUNDS,
    (
        "what does {x} say",
        "what sound does {x} make",
        "what noise does {x} make",
        "which sound does {x} make",
        "what sound comes from {x}",
        "{x} makes what sound",
        "what does {x} sound like",
        "how does {x} go",
        "tell me what {x} says",
        "what kind of sound does {x} make",
        "make the sound of {x}",
        "how does {x} sound",
        "*which noise does {x} make",
    ),
    "{x} says {v}.",
    shown=with_article,
)
_register_table(
    "animal.baby",
    4,
    animals.ANIMAL_BABIES,
    (
        "what is a baby {x} called",
        "what do you call a baby {x}",
        "what's a baby {x} called",
        "what is the name of a baby {x}",
        "how is a baby {x} called",
        "what is the word for a baby {x}",
        "tell me the name of a baby {x}",
        "a baby {x} is called what",
        "what name has a baby {x}",
        "what is a young {x} called",
        "how do you call a baby {x}",
        "*what is the young of a {x} called",
    ),
    "A baby {x} is called a {v}.",
    again=("and a baby {x}", "what about a baby {x}", "how about a baby {x}", "and a {x}"),
)
_register_table(
    "animal.home",
    3,
    animals.ANIMAL_HOMES,
    (
        "where does {x} live",
        "where do you find {x}",
        "where does {x} stay",
        "what is the home of {x}",
        "tell me where {x} lives",
        "in what place does {x} live",
        "{x} lives where",
        "where is the home of {x}",
        "where does {x} sleep",
        "where can i find {x}",
        "*where would {x} live",
    ),
    "{x} lives {v}.",
    "lives {v}",
    shown=with_article,
)
_register_table(
    "animal.food",
    3,
    animals.ANIMAL_FOOD,
    (
        "what does {x} eat",
        "what is the food of {x}",
        "tell me what {x} eats",
        "{x} eats what",
        "what does {x} feed on",
        "what do you feed {x}",
        "what do i give {x} to eat",
        "which food does {x} like",
        "what does {x} like to eat",
        "what food does {x} eat",
        "*what can i feed {x}",
    ),
    "{x} eats {v}.",
    "eats {v}",
    shown=with_article,
)
_register_table(
    "animal.legs",
    4,
    {animal: written(legs) if legs else "no" for animal, legs in animals.ANIMAL_LEGS.items()},
    (
        "how many legs does {x} have",
        "how many legs has {x} got",
        "how many legs are on {x}",
        "how many legs do you see on {x}",
        "{x} has how many legs",
        "tell me how many legs {x} has",
        "what is the number of legs of {x}",
        "how many legs does {x} walk on",
        "count the legs of {x}",
        "how many legs has {x}",
        "*what number of legs does {x} have",
    ),
    "{x} has {v} legs.",
    "has {v} legs",
    shown=with_article,
)
_register_table(
    "category",
    5,
    {thing: with_article(kind) for kind, things in lexicon.CATEGORIES.items() for thing in things},
    (
        "what is {x}",
        "what kind of thing is {x}",
        "tell me what {x} is",
        "do you know what {x} is",
        "what type of thing is {x}",
        "{x} what is that",
        "which kind of thing is {x}",
        "explain what {x} is",
        "what's {x}",
        "what exactly is {x}",
        "*what sort of thing is {x}",
    ),
    "{x} is {v}.",
    "is {v}",
    shown=lambda thing: thing.capitalize() if thing in lexicon.CATEGORIES["planet"] else with_article(thing),
)
_register_table(
    "shape.sides",
    2,
    {shape: written(sides) if sides else "no" for shape, sides in lexicon.SHAPE_SIDES.items()},
    (
        "how many sides does {x} have",
        "how many sides are there in {x}",
        "{x} has how many sides",
        "tell me how many sides {x} has",
        "what is the number of sides of {x}",
        "how many sides has {x} got",
        "how many edges does {x} have",
        "how many sides has {x}",
        "how many sides are in {x}",
        "how many corners does {x} have",
    ),
    "{x} has {v} sides.",
    "has {v} sides",
    shown=with_article,
)
_register_table(
    "purpose",
    3,
    lexicon.PURPOSES,
    (
        "what do you use {x} for",
        "tell me what {x} is for",
        "why do you need {x}",
        "what do people do with {x}",
        "what do you do with {x}",
        "what is the use of {x}",
        "what do i need {x} for",
        "why does somebody need {x}",
        "what is {x} for",
        "what is {x} used for",
        "why do people use {x}",
        "*what can i do with {x}",
    ),
    "You use {x} to {v}.",
    "to {v}",
)
_register_table(
    "sense",
    2,
    lexicon.SENSES,
    (
        "what do you {x} with",
        "with what do you {x}",
        "what do humans {x} with",
        "which body part do you {x} with",
        "what do i {x} with",
        "with what do people {x}",
        "how do people {x}",
        "what do people {x} with",
        "what do we {x} with",
        "which part of the body do we {x} with",
    ),
    "People {x} with their {v}.",
    "with their {v}",
    again=("and what do we {x} with", "and {x}", "what about {x}"),
)


@intent("capital.unknown", 2)
def _unknown_capital(talk: Talk) -> Turn:
    talk.follow_ups = []
    templates = ("what is the capital of {x}", "what's the capital of {x}", "which city is the capital of {x}")
    return Turn(
        talk.say(templates, x=talk.rng.choice(lexicon.UNKNOWN_PLACES)), UNKNOWN_REPLY, "capital.unknown", UNKNOWN_ANSWER
    )


def _register_yes_no(
    name: str,
    weight: float,
    facts: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    asks: Sequence[str],
    verb: str,
    negated: str,
) -> None:
    """Register true and false statements "{subject} {verb} {predicate}" asked as yes/no questions."""

    @intent(name, weight)
    def make(talk: Talk) -> Turn:
        talk.follow_ups = []
        subject = talk.rng.choice(list(facts))
        is_true = talk.rng.random() < 0.5
        predicate = talk.rng.choice(facts[subject][0 if is_true else 1])
        user = talk.say(asks, x=subject, p=predicate)
        shown = subject.capitalize() if subject in ("paris", "london") else subject
        place = predicate.split()[-1]
        if place in ("france", "spain", "england", "italy"):
            predicate = predicate.replace(place, place.capitalize())
        statement = f"{shown} {verb if is_true else negated} {predicate}"
        reply = f"{'Yes' if is_true else 'No'}, {statement}."
        return Turn(user, reply, name, (("yes" if is_true else "no",), (statement.lower(),)))


_register_yes_no(
    "fact.is",
    5,
    lexicon.IS_FACTS,
    (
        "is {x} {p}",
        "do you know if {x} is {p}",
        "i think that {x} is {p}",
        "is {x} really {p}",
        "tell me if {x} is {p}",
        "{x} is {p} is that true",
        "somebody told me {x} is {p}",
        "{x} is {p} right",
        "true or false {x} is {p}",
        "is it true that {x} is {p}",
        "do you think {x} is {p}",
        "would you say {x} is {p}",
        "i think {x} is {p} am i right",
        "*am i right that {x} is {p}",
    ),
    "is",
    "is not",
)
_register_yes_no(
    "fact.can",
    3.5,
    lexicon.CAN_FACTS,
    (
        "can {x} {p}",
        "do you know if {x} can {p}",
        "i think that {x} can {p}",
        "can {x} really {p}",
        "tell me if {x} can {p}",
        "{x} can {p} is that true",
        "somebody told me {x} can {p}",
        "{x} can {p} right",
        "true or false {x} can {p}",
        "is it true that {x} can {p}",
        "do you think {x} can {p}",
        "is {x} able to {p}",
        "*am i right that {x} can {p}",
    ),
    "can",
    "cannot",
)


@intent("bigger.which", 4)
def _bigger_which(talk: Talk) -> Turn:
    talk.follow_ups = []
    first, second = talk.rng.sample(animals.ANIMALS_BY_SIZE, 2)
    user = talk.say(
        (
            "which is bigger {a} or {b}",
            "what is bigger {a} or {b}",
            "which animal is bigger {a} or {b}",
            "{a} or {b} which is bigger",
            "tell me which is bigger {a} or {b}",
            "what is larger {a} or {b}",
            "which animal is larger {a} or {b}",
            "is {a} or {b} bigger",
            "which of them is bigger {a} or {b}",
            "who is bigger {a} or {b}",
            "*which one is larger {a} or {b}",
        ),
        a=with_article(first),
        b=with_article(second),
    )
    small, big = sorted((first, second), key=animals.ANIMALS_BY_SIZE.index)
    reply = sentence(f"{with_article(big)} is bigger than {with_article(small)}.")
    return Turn(user, reply, "bigger.which", ((f"{big} is bigger",),))


@intent("bigger.is", 4)
def _bigger_is(talk: Talk) -> Turn:
    talk.follow_ups = []
    first, second = talk.rng.sample(animals.ANIMALS_BY_SIZE, 2)
    asked = talk.rng.choice(("bigger", "smaller"))
    user = talk.say(
        (
            "is {a} {c} than {b}",
            "do you know if {a} is {c} than {b}",
            "is {a} really {c} than {b}",
            "tell me if {a} is {c} than {b}",
            "i think {a} is {c} than {b}",
            "{a} is {c} than {b} is that true",
            "{a} is {c} than {b} right",
            "true or false {a} is {c} than {b}",
            "do you think {a} is {c} than {b}",
            "is it true that {a} is {c} than {b}",
            "*would you say {a} is {c} than {b}",
        ),
        a=with_article(first),
        b=with_article(second),
        c=asked,
    )
    is_bigger = animals.ANIMALS_BY_SIZE.index(first) > animals.ANIMALS_BY_SIZE.index(second)
    truth = "bigger" if is_bigger else "smaller"
    verdict = "Yes" if truth == asked else "No"
    reply = f"{verdict}, {with_article(first)} is {truth} than {with_article(second)}."
    return Turn(user, reply, "bigger.is", ((verdict.lower(),), (f"is {truth}",)))
