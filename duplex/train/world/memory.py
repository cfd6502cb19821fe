"""What the user tells about themselves and asks back later in the same talk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from duplex.train.world import lexicon
from duplex.train.world.lexicon import sentence
from duplex.train.world.numbers import spoken, written
from duplex.train.world.phrasing import with_held_out
from duplex.train.world.talk import Talk, intent
from duplex.train.world.types import Turn


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to remember: the values, how it is told, confirmed, asked, recalled and not known."""

    name: str
    values: Sequence[str]
    tell: Sequence[str]
    confirm: str
    ask: Sequence[str]
    recall: str
    unknown: str
    correction: Sequence[str]
    shown: Callable[[str], str] = str
    weight: float = 1.0


def _shown_age(value: str) -> str:
    return written(int(value))


TOPICS = (
    Topic(
        "name",
        lexicon.NAMES,
        (
            "my name is {x}",
            "i am {x}",
            "i'm {x}",
            "call me {x}",
            "you can call me {x}",
            "hello my name is {x}",
            "my name's {x}",
            "hi i'm {x}",
            "*people call me {x}",
        ),
        "Nice to meet you, {x}.",
        (
            "what is my name",
            "what's my name",
            "do you remember my name",
            "who am i",
            "do you know my name",
            "tell me my name",
            "can you remember my name",
            "what am i called",
            "*say my name",
        ),
        "Your name is {x}.",
        "I don't know your name yet.",
        ("no my name is {x}", "no i said {x}", "no i'm {x}", "sorry my name is {x}", "no it's {x}"),
        str.capitalize,
        5.0,
    ),
    Topic(
        "color",
        lexicon.COLORS,
        (
            "my favorite color is {x}",
            "i like the color {x}",
            "the color i like most is {x}",
            "i love the color {x}",
            "*{x} is my favorite color",
        ),
        "{x} is a lovely color.",
        (
            "what is my favorite color",
            "what's my favorite color",
            "which color do i like",
            "do you remember my favorite color",
            "what color do i like",
            "*which color is my favorite",
        ),
        "Your favorite color is {x}.",
        "I don't know your favorite color yet.",
        ("no my favorite color is {x}", "no i said {x}", "sorry i meant {x}"),
        weight=2.0,
    ),
    Topic(
        "animal",
        lexicon.PETS,
        (
            "my favorite animal is the {x}",
            "the animal i like most is the {x}",
            "my favorite animal is a {x}",
            "*the {x} is my favorite animal",
        ),
        "The {x} is a great animal.",
        (
            "what is my favorite animal",
            "what's my favorite animal",
            "which animal do i like",
            "do you remember my favorite animal",
            "what animal do i like",
        ),
        "Your favorite animal is the {x}.",
        "I don't know your favorite animal yet.",
        ("no my favorite animal is the {x}", "no i said {x}", "sorry i meant the {x}"),
        weight=2.0,
    ),
    Topic(
        "city",
        lexicon.CITIES,
        (
            "i live in {x}",
            "i am from {x}",
            "i'm from {x}",
            "my home is in {x}",
            "i come from {x}",
            "my city is {x}",
            "*my home town is {x}",
        ),
        "{x} sounds like a nice place.",
        (
            "where do i live",
            "where am i from",
            "what city do i live in",
            "do you remember where i live",
            "which city do i live in",
            "where is my home",
            "*in which city do i live",
        ),
        "You live in {x}.",
        "I don't know where you live yet.",
        ("no i live in {x}", "no i said {x}", "no i'm from {x}"),
        str.capitalize,
        2.0,
    ),
    Topic(
        "age",
        [str(age) for age in range(5, 81)],
        ("i am {x} years old", "i'm {x} years old", "my age is {x}", "i just turned {x}", "*i have just turned {x}"),
        "{x} is a good age.",
        (
            "how old am i",
            "what is my age",
            "what's my age",
            "do you remember my age",
            "do you remember how old i am",
            "*do you know my age",
        ),
        "You are {x} years old.",
        "I don't know your age yet.",
        ("no i am {x} years old", "no i said {x}", "no i'm {x}"),
        _shown_age,
        2.0,
    ),
    Topic(
        "food",
        lexicon.FOODS,
        (
            "my favorite food is {x}",
            "i like to eat {x}",
            "i love to eat {x}",
            "the food i like most is {x}",
            "*{x} is my favorite food",
        ),
        "I hear that {x} tastes great.",
        (
            "what is my favorite food",
            "what's my favorite food",
            "what do i like to eat",
            "do you remember my favorite food",
            "which food do i like",
        ),
        "Your favorite food is {x}.",
        "I don't know your favorite food yet.",
        ("no my favorite food is {x}", "no i said {x}", "sorry i meant {x}"),
        weight=1.5,
    ),
    Topic(
        "sport",
        lexicon.SPORTS,
        (
            "my favorite sport is {x}",
            "the sport i like most is {x}",
            "i love {x}",
            "my sport is {x}",
            "*{x} is my favorite sport",
        ),
        "{x} keeps you fit.",
        (
            "what is my favorite sport",
            "what's my favorite sport",
            "which sport do i like",
            "do you remember my favorite sport",
        ),
        "Your favorite sport is {x}.",
        "I don't know your favorite sport yet.",
        ("no my favorite sport is {x}", "no i said {x}", "sorry i meant {x}"),
        weight=1.2,
    ),
    Topic(
        "job",
        lexicon.JOBS,
        ("i work as a {x}", "my job is {x}", "i am a {x}", "i'm a {x}", "*i have a job as a {x}"),
        "A {x} has an important job.",
        ("what is my job", "what's my job", "what do i work as", "do you remember my job", "what do i do for work"),
        "You work as a {x}.",
        "I don't know your job yet.",
        ("no i am a {x}", "no i said {x}", "no my job is {x}"),
        weight=1.2,
    ),
    Topic(
        "pet",
        lexicon.NAMES,
        ("my dog is called {x}", "my dog's name is {x}", "i have a dog called {x}", "the name of my dog is {x}"),
        "{x} is a good name for a dog.",
        (
            "what is my dog called",
            "what is the name of my dog",
            "what's my dog's name",
            "do you remember my dog's name",
        ),
        "Your dog is called {x}.",
        "I don't know your dog's name yet.",
        ("no my dog is called {x}", "no i said {x}", "no his name is {x}"),
        str.capitalize,
        1.2,
    ),
)


def tell(talk: Talk, topic: Topic) -> Turn:
    """The user tells a value, or corrects the one just told."""
    value = talk.rng.choice(topic.values)
    return _told(talk, topic, talk.say(topic.tell, x=_heard(topic, value)), value)


def ask(talk: Talk, topic: Topic) -> Turn:
    """The user asks the value back; without one the reply says that it is not known yet."""
    user = talk.say(with_held_out(topic.ask))
    talk.follow_ups = []
    if topic.name not in talk.facts:
        return Turn(user, topic.unknown, f"memory.{topic.name}.unknown", (("don't know",),))
    shown = topic.shown(talk.facts[topic.name])
    return Turn(user, topic.recall.format(x=shown), f"memory.{topic.name}.ask", ((shown.lower(),),))


def _heard(topic: Topic, value: str) -> str:
    return spoken(int(value)) if topic.name == "age" else value


def _told(talk: Talk, topic: Topic, user: str, value: str, apology: str = "") -> Turn:
    def correct(later: Talk) -> Turn:
        other = later.rng.choice([v for v in topic.values if v != value])
        return _told(later, topic, later.say(topic.correction, x=_heard(topic, other)), other, "Sorry. ")

    talk.facts[topic.name] = value
    talk.follow_ups = [correct, lambda later: ask(later, topic)]
    shown = topic.shown(value)
    return Turn(
        user, apology + sentence(topic.confirm.format(x=shown)), f"memory.{topic.name}.tell", ((shown.lower(),),)
    )


def _register(topic: Topic) -> None:
    @intent(f"memory.{topic.name}.tell", topic.weight)
    def make_tell(talk: Talk) -> Turn:
        return tell(talk, topic)

    @intent(f"memory.{topic.name}.ask", topic.weight * 0.6)
    def make_ask(talk: Talk) -> Turn:
        return ask(talk, topic)


for _topic in TOPICS:
    _register(_topic)
