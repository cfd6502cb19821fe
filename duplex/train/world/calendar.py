# ruff: noqa: SIM905  (word lists read better as sentences)
"""Days, months, seasons, and how much of one unit fits into another."""

from collections.abc import Sequence

from duplex.train.world.lexicon import DAYS, MONTHS, SEASONS, sentence, with_article
from duplex.train.world.numbers import ordinal, spoken, written
from duplex.train.world.phrasing import NEXT_ONE
from duplex.train.world.talk import Talk, intent
from duplex.train.world.types import Turn

_CYCLES: dict[str, Sequence[str]] = {"day": DAYS, "month": MONTHS, "season": SEASONS}

_NEXT = {
    1: (
        "what {unit} comes after {x}",
        "which {unit} comes after {x}",
        "what comes after {x}",
        "what {unit} is after {x}",
        "which {unit} is after {x}",
        "tell me the {unit} after {x}",
        "after {x} comes which {unit}",
        "what is the next {unit} after {x}",
        "which {unit} is next after {x}",
        "what follows {x}",
        "name the {unit} after {x}",
        "which {unit} follows {x}",
        "what is the {unit} after {x}",
        "the {unit} after {x}",
        "{x} is followed by which {unit}",
        "{x} and then which {unit}",
        "what {unit} starts as soon as {x} ends",
        "once {x} is over what {unit} is it",
        "give me the {unit} after {x}",
        "which {unit} do we get after {x}",
        "after {x} what {unit} is it",
        "the {unit} after {x} is what",
        "if it's {x} now what is the next {unit}",
        "what {unit} do you have after {x}",
        "i can't remember the {unit} after {x}",
        "what begins after {x}",
        "{x} is over which {unit} begins",
        "what {unit} will it be after {x}",
        "which {unit} would come after {x}",
        "the {unit} that comes after {x}",
        "the {unit} that follows {x} is what",
        "what's the {unit} that follows {x}",
        "what's the next {unit} if it's {x}",
        "when {x} is over which {unit} comes",
        "{x} what {unit} comes after that",
        "{x} ends and what {unit} begins",
        "it's {x} so what {unit} comes next",
        "i always forget which {unit} comes after {x}",
        "help me out which {unit} is after {x}",
        "if this is {x} which {unit} is next",
        "going on from {x} which {unit} is next",
        "after {x} we have which {unit}",
        "*what {unit} comes right after {x}",
    ),
    -1: (
        "what {unit} comes before {x}",
        "which {unit} comes before {x}",
        "what comes before {x}",
        "what {unit} is before {x}",
        "which {unit} is before {x}",
        "tell me the {unit} before {x}",
        "before {x} comes which {unit}",
        "which {unit} is right before {x}",
        "what is right before {x}",
        "name the {unit} before {x}",
        "what is the {unit} before {x}",
        "the {unit} before {x}",
        "{x} comes after which {unit}",
        "which {unit} does {x} come after",
        "{x} follows which {unit}",
        "what {unit} ends as {x} begins",
        "give me the {unit} before {x}",
        "before {x} what {unit} was it",
        "if it's {x} now what was the {unit} before",
        "the {unit} before {x} is what",
        "{x} which {unit} goes before that",
        "which {unit} leads up to {x}",
        "going back from {x} what {unit} do you get",
        "what {unit} do we have before {x}",
        "i can't remember the {unit} before {x}",
        "what {unit} was it before {x}",
        "which {unit} would come before {x}",
        "the {unit} that comes before {x}",
        "when {x} begins which {unit} is over",
        "{x} what {unit} comes before that",
        "{x} what was the {unit} before it",
        "it's {x} so what {unit} came before",
        "i need the {unit} before {x}",
        "i always forget which {unit} comes before {x}",
        "help me out which {unit} is before {x}",
        "which {unit} do we have just before {x}",
        "which {unit} ends when {x} begins",
        "go back one {unit} from {x}",
        "one {unit} back from {x} is what",
        "before {x} we have which {unit}",
        "*what {unit} comes right before {x}",
    ),
}


def _written(name: str, unit: str) -> str:
    return name if unit == "season" else name.capitalize()


def _neighbour(talk: Talk, user: str, unit: str, index: int, step: int) -> Turn:
    cycle = _CYCLES[unit]
    word = "after" if step > 0 else "before"

    def again(later: Talk) -> Turn:
        user = later.say(NEXT_ONE)
        return _neighbour(later, user, unit, (index + 1) % len(cycle), 1)

    talk.follow_ups = [again] if step > 0 else []
    result, known = (_written(cycle[i % len(cycle)], unit) for i in (index + step, index))
    reply = sentence(f"{result} comes {word} {known}.")
    return Turn(user, reply, f"{unit}.{word}", ((f"{result} comes {word}".lower(),),))


def _register_neighbour(unit: str, step: int, weight: float) -> None:
    @intent(f"{unit}.{'after' if step > 0 else 'before'}", weight)
    def make(talk: Talk) -> Turn:
        index = talk.rng.randrange(len(_CYCLES[unit]))
        return _neighbour(talk, talk.say(_NEXT[step], unit=unit, x=_CYCLES[unit][index]), unit, index, step)


for _unit, _weight in (("day", 3.0), ("month", 3.0), ("season", 1.2)):
    _register_neighbour(_unit, 1, _weight)
    _register_neighbour(_unit, -1, _weight)


@intent("day.nth", 1.5)
def _day_nth(talk: Talk) -> Turn:
    index = talk.rng.randrange(len(DAYS))
    templates = (
        "what is the {n} day of the week",
        "which day is the {n} day of the week",
        "tell me the {n} day of the week",
        "what day is the {n} day of the week",
        "name the {n} day of the week",
        "which is the {n} day of the week",
        "what is the {n} weekday",
        "the {n} day of the week",
        "the {n} day of the week is what",
        "which day comes {n} in the week",
        "what do you call the {n} day of the week",
        "give me the {n} day of the week",
        "what day of the week comes {n}",
        "what's the name of the {n} day of the week",
        "counting from monday what is the {n} day",
        "which day of the week is the {n} one",
        "in a week which day is the {n}",
        "say the {n} day of the week",
        "the week's {n} day is which",
        "the {n} day in a week is called what",
        "i can't remember the {n} day of the week",
        "what's the {n} day of the week",
        "which weekday is the {n} one",
        "which weekday comes {n}",
        "which is the {n} weekday",
        "i need the {n} day of the week",
        "what's the {n} one of the seven days",
        "of the seven days which is the {n}",
        "of all the days in the week which comes {n}",
        "if monday is first which day comes {n}",
        "the week starts with monday so which day is the {n}",
        "help me out what is the {n} day of the week",
        "in the week which day comes {n}",
        "what day is {n} in the week",
    )
    talk.follow_ups = []
    user = talk.say(templates, n=ordinal(index + 1))
    reply = f"The {ordinal(index + 1)} day is {DAYS[index].capitalize()}."
    return Turn(user, reply, "day.nth", ((DAYS[index],),))


@intent("month.nth", 2)
def _month_nth(talk: Talk) -> Turn:
    index = talk.rng.randrange(len(MONTHS))
    templates = (
        "what is the {n} month of the year",
        "which month is the {n} month",
        "tell me the {n} month",
        "what month is the {n} month",
        "which is the {n} month of the year",
        "which month comes {n}",
        "tell me the {n} month of the year",
        "what is the {n} month",
        "what's the {n} month",
        "the {n} month",
        "the {n} month is what",
        "what do you call the {n} month",
        "which month of the year is {n}",
        "which month is {n} on the calendar",
        "i don't know which month is the {n}",
        "what month comes {n} in the year",
        "counting from january what is the {n} month",
        "in a year what is the {n} month",
        "the year's {n} month is which",
        "out of the twelve months which is the {n}",
        "which one is the {n} month",
        "say the {n} month",
        "the month that comes {n} is what",
        "the {n} month of the year is what",
        "the {n} month in the year is which one",
        "which month is the {n} of the year",
        "name the {n} month",
        "give me the {n} month",
        "give me the {n} month of the year",
        "i need the {n} month",
        "i need the name of the {n} month",
        "i can't remember the {n} month",
        "what's the name of the {n} month",
        "what's the {n} of the twelve months",
        "if january is first which month comes {n}",
        "january is the first month so which is the {n}",
        "help me out what is the {n} month",
        "what month is {n} in the year",
        "*name the {n} month of the year",
    )
    talk.follow_ups = []
    user = talk.say(templates, n=ordinal(index + 1))
    reply = f"The {ordinal(index + 1)} month is {MONTHS[index].capitalize()}."
    return Turn(user, reply, "month.nth", ((MONTHS[index],),))


@intent("day.weekend", 1.2)
def _weekend(talk: Talk) -> Turn:
    day = talk.rng.choice(DAYS)
    talk.follow_ups = []
    user = talk.say(
        (
            "is {d} on the weekend",
            "is {d} a day of the weekend",
            "is {d} in the weekend",
            "does {d} belong to the weekend",
            "do we have weekend on {d}",
            "is {d} a weekend day",
            "does {d} count as the weekend",
            "{d} is on the weekend isn't it",
            "does the weekend include {d}",
            "is it the weekend on {d}",
            "{d} is part of the weekend right",
            "is {d} one of the weekend days",
            "check if {d} is on the weekend",
            "i think {d} is on the weekend",
            "would {d} be the weekend",
            "does {d} fall on the weekend",
            "true or false {d} is on the weekend",
            "is {d} already the weekend",
            "do we count {d} as weekend",
            "on {d} is it the weekend",
            "is {d} part of the weekend",
            "is it weekend when it's {d}",
            "is it already weekend on {d}",
            "if it's {d} is it the weekend",
            "if today is {d} is it the weekend",
            "{d} is a weekend day isn't it",
            "{d} is on the weekend am i right",
            "{d} is that on the weekend",
            "{d} weekend or not",
            "am i right that {d} is on the weekend",
            "do you think {d} is on the weekend",
            "is it true that {d} is on the weekend",
            "i'm not sure if {d} is on the weekend",
            "can i call {d} the weekend",
            "when {d} comes is it the weekend",
            "somebody told me {d} is on the weekend",
        ),
        d=day,
    )
    is_weekend = day in ("saturday", "sunday")
    reply = f"{'Yes' if is_weekend else 'No'}, {day.capitalize()} is {'on the weekend' if is_weekend else 'a weekday'}."
    return Turn(
        user, reply, "day.weekend", (("yes" if is_weekend else "no",), ("weekend" if is_weekend else "weekday",))
    )


def _days_of(month: str) -> int:
    """Days of a month; of February in most years."""
    return 28 if month == "february" else 30 if month in ("april", "june", "september", "november") else 31


@intent("month.length", 1.5)
def _month_length(talk: Talk) -> Turn:
    month = talk.rng.choice(MONTHS)
    days = _days_of(month)
    talk.follow_ups = []
    user = talk.say(
        (
            "how many days are in {m}",
            "tell me how many days {m} has",
            "{m} has how many days",
            "what is the length of {m}",
            "how many days has {m}",
            "how many days long is {m}",
            "how many days does {m} have",
            "how long is {m}",
            "the number of days in {m}",
            "{m} is how many days long",
            "in {m} how many days are there",
            "what's the number of days in {m}",
            "how long does {m} last",
            "how many days make up {m}",
            "i never know how many days {m} has",
            "give me the number of days in {m}",
            "how many days do we get in {m}",
            "{m} how many days is that",
            "how many days go by in {m}",
            "there are how many days in {m}",
            "{m} lasts how many days",
            "the whole of {m} is how many days",
            "how many days are there in {m}",
            "{m} how long is it in days",
            "what's the length of {m} in days",
            "how many days can {m} have",
            "how many days do i have in {m}",
            "how many days would {m} have",
            "how many days pass from the beginning to the end of {m}",
            "in days how long is {m}",
            "i can't remember how many days {m} has",
            "i always forget how many days {m} has",
            "i'm not sure how many days are in {m}",
            "does {m} have thirty days or how many",
            "the month of {m} has how many days",
            "the month of {m} is how long",
            "count the days in {m}",
            "on the calendar how many days does {m} have",
        ),
        m=month,
    )
    return Turn(
        user, f"{month.capitalize()} has {written(days)} days.", "month.length", ((f"has {written(days)} days",),)
    )


_SEASON_OF = dict(
    zip(
        MONTHS,
        "winter winter spring spring spring summer summer summer autumn autumn autumn winter".split(),
        strict=True,
    )
)


@intent("month.season", 1.5)
def _month_season(talk: Talk) -> Turn:
    month = talk.rng.choice(MONTHS)
    talk.follow_ups = []
    user = talk.say(
        (
            "what season is {m} in",
            "which season does {m} belong to",
            "{m} is in which season",
            "tell me the season of {m}",
            "what season do we have in {m}",
            "what season does {m} belong to",
            "which season is {m} in",
            "in which season is {m}",
            "what time of year is {m}",
            "{m} belongs to which season",
            "in {m} what season is it",
            "what season does {m} fall in",
            "to which season does {m} belong",
            "during which season is {m}",
            "if it's {m} what season is it",
            "{m} falls in what season",
            "which season has {m} in it",
            "which of the four seasons is {m} in",
            "name the season for {m}",
            "{m} what season is that",
            "what's the season in {m}",
            "i don't know what season {m} is in",
            "what season is {m}",
            "which season is it in {m}",
            "in {m} which season do we have",
            "in {m} we have which season",
            "when it's {m} which season is it",
            "when {m} comes which season are we in",
            "if it's {m} is it winter or summer or what",
            "{m} is part of which season",
            "{m} counts as which season",
            "{m} is what season",
            "{m} is that in spring or autumn or what",
            "the season in {m} is what",
            "i'm not sure which season {m} is in",
            "i can't remember what season {m} is",
            "i was born in {m} which season is that",
            "which season would you put {m} in",
        ),
        m=month,
    )
    season = _SEASON_OF[month]
    return Turn(user, f"{month.capitalize()} is in {season}.", "month.season", ((f"in {season}",),))


_UNITS = (
    ("minute", "hour", 60, 10),
    ("second", "minute", 60, 10),
    ("hour", "day", 24, 4),
    ("day", "week", 7, 10),
    ("month", "year", 12, 8),
    ("cent", "dollar", 100, 10),
    ("inch", "foot", 12, 8),
    ("egg", "dozen", 12, 6),
    ("meter", "kilometer", 1000, 9),
    ("year", "century", 100, 9),
)
_PLURALS = {"inch": "inches", "foot": "feet", "dozen": "dozen", "century": "centuries"}


def _count_of(number: int, unit: str) -> str:
    return f"{spoken(number)} {unit if number == 1 else _PLURALS.get(unit, unit + 's')}"


def _conversion(talk: Talk, user: str, index: int, number: int) -> Turn:
    small, big, factor, limit = _UNITS[index]

    def again(later: Talk) -> Turn:
        other = later.rng.randint(1, limit)
        user = later.say(
            (
                "and in {x}",
                "what about {x}",
                "how about {x}",
                "and {x}",
                "now {x}",
                "and how many in {x}",
                "and if it's {x}",
                "now do {x}",
                "then how many in {x}",
                "and for {x}",
                "and how about {x}",
                "and what about {x}",
                "and {x} is how many",
                "and {x} would be how many",
                "and now for {x}",
                "and if i have {x}",
                "let's try {x}",
                "what if it's {x}",
                "how many is it for {x}",
                "do the same for {x}",
                "try it for {x}",
                "and how many would {x} be",
            ),
            x=_count_of(other, big),
        )
        return _conversion(later, user, index, other)

    talk.follow_ups = [again]
    result = written(number * factor)
    verb = "has" if number == 1 else "have"
    owner = with_article(big) if number == 1 else _count_of(number, big)
    reply = sentence(f"{owner} {verb} {result} {_PLURALS.get(small, small + 's')}.")
    return Turn(user, reply, f"convert.{small}", ((f"{verb} {result}",),))


def _register_conversion(index: int) -> None:
    small, big, _, limit = _UNITS[index]

    @intent(f"convert.{small}", 1.0)
    def make(talk: Talk) -> Turn:
        number = talk.rng.choice((1, talk.rng.randint(1, limit)))
        templates = (
            "how many {s} are in {x}",
            "how many {s} are there in {x}",
            "{x} has how many {s}",
            "tell me how many {s} are in {x}",
            "how many {s} fit in {x}",
            "how many {s} in {x}",
            "how many {s} make {x}",
            "{x} is how many {s}",
            "in {x} how many {s} are there",
            "{x} how many {s} is that",
            "how many {s} does it take to make {x}",
            "how many {s} go into {x}",
            "what's {x} in {s}",
            "the number of {s} in {x}",
            "how many {s} add up to {x}",
            "convert {x} to {s}",
            "how many {s} is {x}",
            "give me the number of {s} in {x}",
            "{x} in {s} is how many",
            "how many {s} equal {x}",
            "i don't know how many {s} are in {x}",
            "how many {s} would {x} be",
            "how many {s} can i get out of {x}",
            "how many {s} do i have in {x}",
            "how many {s} do you count in {x}",
            "how many {s} do i need for {x}",
            "{x} would be how many {s}",
            "{x} is the same as how many {s}",
            "{x} comes to how many {s}",
            "change {x} into {s}",
            "turn {x} into {s}",
            "put {x} into {s}",
            "what would {x} be in {s}",
            "i need {x} in {s}",
            "in {s} what is {x}",
            "if i have {x} how many {s} do i have",
            "*how many {s} do you have in {x}",
        )
        in_words = with_article(big) if number == 1 else _count_of(number, big)
        user = talk.say(templates, s=_PLURALS.get(small, small + "s"), x=in_words)
        return _conversion(talk, user, index, number)


for _index in range(len(_UNITS)):
    _register_conversion(_index)


_HOURS = 12


def _hour(number: int) -> str:
    return written((number - 1) % _HOURS + 1)


@intent("time.read", 2)
def _time_read(talk: Talk) -> Turn:
    hour, minutes = talk.rng.randint(1, _HOURS), talk.rng.choice(("fifteen", "thirty", "forty five"))
    templates = (
        "read the time {h} {m}",
        "say the time {h} {m}",
        "how do you read {h} {m}",
        "what time is {h} {m}",
        "how else can i say {h} {m}",
        "what is another way to say {h} {m}",
        "the clock says {h} {m} what time is that",
        "{h} {m} how do you say that time",
        "is there another way to say {h} {m}",
        "say {h} {m} in a different way",
        "how do people say {h} {m}",
        "my watch shows {h} {m} how do i read it",
        "{h} {m} is what time",
        "it's {h} {m} how else do you say that",
        "put {h} {m} another way",
        "how do i read {h} {m} on a clock",
        "read me the time {h} {m}",
        "{h} {m} what do you call that time",
        "give me another way of saying {h} {m}",
        "the time is {h} {m} how do i say that",
        "the clock shows {h} {m} how do i read that",
        "it is {h} {m} what time is that",
        "my phone says {h} {m} what time is that",
        "how would you say the time {h} {m}",
        "how should i read the time {h} {m}",
        "how can i say {h} {m} in other words",
        "what do people say for {h} {m}",
        "what do you say when it's {h} {m}",
        "what does {h} {m} mean on the clock",
        "say it another way {h} {m}",
        "i see {h} {m} on the clock what time is it",
        "i don't know how to read {h} {m}",
        "in other words what time is {h} {m}",
        "my train leaves at {h} {m} how else do you say that",
        "*how do you tell the time {h} {m}",
    )
    talk.follow_ups = []
    said = {"fifteen": f"a quarter past {_hour(hour)}", "thirty": f"half past {_hour(hour)}"}
    shown = said.get(minutes, f"a quarter to {_hour(hour + 1)}")
    user = talk.say(templates, h=_hour(hour), m=minutes)
    return Turn(user, sentence(f"{_hour(hour)} {minutes.replace(' ', '-')} is {shown}."), "time.read", ((shown,),))


@intent("time.after", 2)
def _time_after(talk: Talk) -> Turn:
    hour, later, step = talk.rng.randint(1, _HOURS), talk.rng.randint(1, 6), talk.rng.choice((1, -1))
    templates = (
        "what time is it {n} {w} {h} o'clock",
        "which time is {n} {w} {h} o'clock",
        "what is {n} {w} {h} o'clock",
        "tell me the time {n} {w} {h} o'clock",
        "{n} {w} {h} o'clock is what time",
        "{n} {w} {h} o'clock",
        "what time will it be {n} {w} {h} o'clock",
        "{n} {w} {h} o'clock is when",
        "when is {n} {w} {h} o'clock",
        "give me the time {n} {w} {h} o'clock",
        "{n} {w} {h} o'clock what time is that",
        "we meet {n} {w} {h} o'clock what time is that",
        "what does the clock say {n} {w} {h} o'clock",
        "what time would it be {n} {w} {h} o'clock",
        "i need the time {n} {w} {h} o'clock",
        "if it's {n} {w} {h} o'clock what time is it",
        "work out the time {n} {w} {h} o'clock",
        "what time do you get {n} {w} {h} o'clock",
        "what's the time {n} {w} {h} o'clock",
        "what's {n} {w} {h} o'clock",
        "what time do we have {n} {w} {h} o'clock",
        "what will the clock show {n} {w} {h} o'clock",
        "{n} {w} {h} o'clock would be when",
        "{n} {w} {h} o'clock what will the clock say",
        "{n} {w} {h} o'clock that's what time",
        "help me with the time {n} {w} {h} o'clock",
        "i have to be there {n} {w} {h} o'clock what time is that",
        "my train leaves {n} {w} {h} o'clock when is that",
        "the time {n} {w} {h} o'clock is what",
        "if i come {n} {w} {h} o'clock what time is it then",
        "calculate the time {n} {w} {h} o'clock",
        "say what time it is {n} {w} {h} o'clock",
        "we eat {n} {w} {h} o'clock when is that",
        "*what hour is {n} {w} {h} o'clock",
    )
    talk.follow_ups = []
    word = "after" if step > 0 else "before"
    span = f"{written(later)} {'hour' if later == 1 else 'hours'}"
    result = f"{_hour(hour + step * later)} o'clock"
    user = talk.say(templates, n=span, w=word, h=_hour(hour))
    reply = sentence(f"{span} {word} {_hour(hour)} o'clock is {result}.")
    return Turn(user, reply, "time.after", ((f"is {result}",),))


def _day(talk: Talk) -> tuple[str, int]:
    month = talk.rng.choice(MONTHS)
    return month, talk.rng.randint(1, _days_of(month))


@intent("date.read", 2)
def _date_read(talk: Talk) -> Turn:
    month, day = _day(talk)
    templates = (
        "read the date {m} {d}",
        "say the date {m} {d}",
        "how do you read the date {m} {d}",
        "what date is {m} {d}",
        "tell me the date {m} {d}",
        "read out the date {m} {d}",
        "{m} {d} how do you read that",
        "how is the date {m} {d} read",
        "what's another way to say {m} {d}",
        "say {m} {d} as a date",
        "let me hear the date {m} {d}",
        "how else can i say {m} {d}",
        "read me the date {m} {d}",
        "the date is {m} {d} how do i read it",
        "which date is {m} {d}",
        "put the date {m} {d} another way",
        "how would you read {m} {d}",
        "say {m} {d} in a different way",
        "{m} {d} is what date",
        "how should i read the date {m} {d}",
        "how do i say the date {m} {d}",
        "how would you say the date {m} {d}",
        "i don't know how to read the date {m} {d}",
        "i want to hear the date {m} {d}",
        "the calendar says {m} {d} how do i say that",
        "it says {m} {d} here how do you read it",
        "my birthday is {m} {d} how do i say that date",
        "what's another way of saying {m} {d}",
        "what do you call the date {m} {d}",
        "{m} {d} how else can you say it",
        "{m} {d} say that as a date",
        "in other words what is {m} {d}",
        "read {m} {d} to me",
        "today is {m} {d} how do you say that",
        "*how do you say the date {m} {d}",
    )
    talk.follow_ups = []
    shown = f"the {ordinal(day)} of {month.capitalize()}"
    user = talk.say(templates, m=month, d=ordinal(day).replace("-", " "))
    return Turn(user, sentence(f"{shown}."), "date.read", ((shown.lower(),),))


@intent("date.after", 2)
def _date_after(talk: Talk) -> Turn:
    month, day = _day(talk)
    templates = (
        "what date comes after {m} {d}",
        "which date comes after {m} {d}",
        "what date is after {m} {d}",
        "what is the date after {m} {d}",
        "the day after {m} {d} is what date",
        "if today is {m} {d} what is tomorrow",
        "today is {m} {d} what date is tomorrow",
        "yesterday was {m} {d} what date is it now",
        "what comes after {m} {d}",
        "after {m} {d} comes what date",
        "name the date after {m} {d}",
        "what's the day after {m} {d}",
        "{m} {d} and then what date",
        "one day after {m} {d} is what date",
        "what is the next date after {m} {d}",
        "give me the date after {m} {d}",
        "it's {m} {d} today and tomorrow is what date",
        "the date after {m} {d}",
        "which date is after {m} {d}",
        "what date do we have after {m} {d}",
        "what date will it be the day after {m} {d}",
        "what's tomorrow if today is {m} {d}",
        "if it's {m} {d} today what will tomorrow be",
        "if yesterday was {m} {d} what is today",
        "it's {m} {d} now what date comes next",
        "today we have {m} {d} so what is tomorrow",
        "when {m} {d} is over which date is it",
        "{m} {d} what's the day after that",
        "{m} {d} is followed by what date",
        "the day that follows {m} {d} is what",
        "i need the date after {m} {d}",
        "my birthday is the day after {m} {d} when is that",
        "go one day on from {m} {d}",
        "*which date follows {m} {d}",
    )
    talk.follow_ups = []
    is_last = day == _days_of(month)
    next_month = MONTHS[(MONTHS.index(month) + is_last) % len(MONTHS)]
    result = f"the {ordinal(1 if is_last else day + 1)} of {next_month.capitalize()}"
    user = talk.say(templates, m=month, d=ordinal(day).replace("-", " "))
    reply = sentence(f"{result} comes after the {ordinal(day)} of {month.capitalize()}.")
    return Turn(user, reply, "date.after", ((f"{result} comes after".lower(),),))
