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
            "they call me {x}",
            "hello i am {x}",
            "everybody calls me {x}",
            "my first name is {x}",
            "the name is {x}",
            "i go by {x}",
            "please call me {x}",
            "it is {x} who is speaking",
            "hey my name is {x}",
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
            "did i tell you my name",
            "what did i say my name was",
            "what name do i have",
            "can you tell me my name",
            "do you still know my name",
            "please tell me my name",
            "my name is what",
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
            "i like {x} best of all colors",
            "my favorite color would be {x}",
            "i think {x} is the best color",
            "the best color is {x}",
            "the color i love is {x}",
            "my best color is {x}",
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
            "tell me my favorite color",
            "what color is my favorite",
            "which color do i like most",
            "do you know my favorite color",
            "can you remember my favorite color",
            "what color do i like most",
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
            "i like the {x} most of all animals",
            "i think the {x} is the best animal",
            "the best animal is the {x}",
            "my favorite animal would be the {x}",
            "the animal i love is the {x}",
            "*the {x} is my favorite animal",
        ),
        "The {x} is a great animal.",
        (
            "what is my favorite animal",
            "what's my favorite animal",
            "which animal do i like",
            "do you remember my favorite animal",
            "tell me my favorite animal",
            "what animal is my favorite",
            "which animal do i like most",
            "do you know my favorite animal",
            "can you remember my favorite animal",
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
            "i was born in {x}",
            "my house is in {x}",
            "i have my home in {x}",
            "the city i live in is {x}",
            "i am living in {x}",
            "i moved to {x}",
            "home for me is {x}",
            "my city is {x}",
            "*my home town is {x}",
        ),
        "{x} sounds like a nice place.",
        (
            "where do i live",
            "where am i from",
            "what city do i live in",
            "do you remember where i live",
            "tell me where i live",
            "do you know where i live",
            "where did i say i live",
            "can you tell me where i live",
            "where do i come from",
            "what is my city",
            "which city am i from",
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
        (
            "i am {x} years old",
            "i'm {x} years old",
            "my age is {x}",
            "my age is now {x}",
            "i am now {x} years old",
            "i have turned {x}",
            "i am {x} years of age",
            "i turned {x} this year",
            "i just turned {x}",
            "*i have just turned {x}",
        ),
        "{x} is a good age.",
        (
            "how old am i",
            "what is my age",
            "what's my age",
            "do you remember my age",
            "tell me how old i am",
            "do you know how old i am",
            "what age am i",
            "can you remember my age",
            "how many years old am i",
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
            "i eat {x} every day",
            "my favorite dish is {x}",
            "i could eat {x} every day",
            "the best food is {x}",
            "the food i love is {x}",
            "the food i like most is {x}",
            "*{x} is my favorite food",
        ),
        "I hear that {x} tastes great.",
        (
            "what is my favorite food",
            "what's my favorite food",
            "what do i like to eat",
            "do you remember my favorite food",
            "tell me my favorite food",
            "what food is my favorite",
            "what food do i like",
            "do you know my favorite food",
            "can you remember my favorite food",
            "what do i love to eat",
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
            "the best sport is {x}",
            "i like {x} more than other sports",
            "the sport i love is {x}",
            "my sport is {x}",
            "*{x} is my favorite sport",
        ),
        "{x} keeps you fit.",
        (
            "what is my favorite sport",
            "what's my favorite sport",
            "which sport do i like",
            "do you remember my favorite sport",
            "tell me my favorite sport",
            "what sport is my favorite",
            "what sport do i like",
            "do you know my favorite sport",
            "can you remember my favorite sport",
        ),
        "Your favorite sport is {x}.",
        "I don't know your favorite sport yet.",
        ("no my favorite sport is {x}", "no i said {x}", "sorry i meant {x}"),
        weight=1.2,
    ),
    Topic(
        "job",
        lexicon.JOBS,
        (
            "i work as a {x}",
            "i earn money as a {x}",
            "i am working as a {x}",
            "for work i am a {x}",
            "i have been a {x} for years",
            "i work every day as a {x}",
            "my work is being a {x}",
            "my job is {x}",
            "i am a {x}",
            "i'm a {x}",
            "*i have a job as a {x}",
        ),
        "A {x} has an important job.",
        (
            "what is my job",
            "tell me my job",
            "do you know my job",
            "can you remember my job",
            "what work do i do",
            "what did i say my job is",
            "what is my work",
            "what's my job",
            "what do i work as",
            "do you remember my job",
            "what do i do for work",
        ),
        "You work as a {x}.",
        "I don't know your job yet.",
        ("no i am a {x}", "no i said {x}", "no my job is {x}"),
        weight=1.2,
    ),
    Topic(
        "pet",
        lexicon.NAMES,
        (
            "my dog is called {x}",
            "i call my dog {x}",
            "we call our dog {x}",
            "my dog has the name {x}",
            "our dog is called {x}",
            "i named my dog {x}",
            "there is a dog here called {x}",
            "my dog's name is {x}",
            "i have a dog called {x}",
            "the name of my dog is {x}",
        ),
        "{x} is a good name for a dog.",
        (
            "what is my dog called",
            "tell me the name of my dog",
            "do you know the name of my dog",
            "what did i call my dog",
            "can you remember the name of my dog",
            "how is my dog called",
            "which name does my dog have",
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
