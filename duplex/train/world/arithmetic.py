"""Sums, counting, and what numbers have around them."""

from duplex.train.world.lexicon import sentence
from duplex.train.world.numbers import spoken, written
from duplex.train.world.phrasing import NEXT_ONE
from duplex.train.world.talk import Maker, Talk, intent
from duplex.train.world.types import Turn

_LIMIT = 20
_PRODUCT_LIMIT = 100

_ASK = {
    "plus": (
        "what is {a} plus {b}",
        "what's {a} plus {b}",
        "{a} plus {b}",
        "how much is {a} plus {b}",
        "add {a} and {b}",
        "what is {a} and {b}",
        "{a} and {b} makes what",
        "can you add {a} and {b}",
        "what is {a} added to {b}",
        "plus {a} and {b}",
        "what do {a} and {b} make",
        "tell me {a} plus {b}",
        "calculate {a} plus {b}",
        "{a} plus {b} is what",
        "what do you get when you add {a} and {b}",
        "what does {a} plus {b} make",
        "add {b} to {a}",
        "{a} and {b} together is how much",
        "if i add {b} to {a} what do i get",
        "what is {b} more than {a}",
        "start with {a} and add {b}",
        "{a} plus {b} equals what",
        "work out {a} plus {b}",
        "{a} and {b} what's the total",
        "what's the answer to {a} plus {b}",
        "put {a} and {b} together",
        "what number do {a} and {b} add up to",
        "i need {a} plus {b}",
        "how much do i have if i put {b} on top of {a}",
        "let's add {a} and {b}",
        "the total of {a} and {b}",
        "give me the sum of {a} and {b}",
        "how much are {a} and {b} together",
        "{a} plus {b} how much is it",
        "{a} and {b} more is how many",
        "i have {a} and get {b} more how many do i have",
        "if i have {a} and add {b} what does that make",
        "take {a} and add {b}",
        "what will {a} plus {b} be",
        "what do i get for {a} plus {b}",
        "say what {a} plus {b} is",
        "my homework says {a} plus {b}",
        "with {a} and {b} together what do you get",
        "sum up {a} and {b}",
        "increase {a} by {b}",
        "*what is the sum of {a} and {b}",
    ),
    "minus": (
        "what is {a} minus {b}",
        "what's {a} minus {b}",
        "{a} minus {b}",
        "how much is {a} minus {b}",
        "subtract {b} from {a}",
        "what is {a} take away {b}",
        "take {b} from {a}",
        "take away {b} from {a}",
        "what is {b} less than {a}",
        "tell me {a} minus {b}",
        "calculate {a} minus {b}",
        "{a} minus {b} is what",
        "what is left if i take {b} from {a}",
        "{a} less {b}",
        "what does {a} minus {b} make",
        "what is {b} subtracted from {a}",
        "{b} from {a} leaves what",
        "take {b} off {a}",
        "reduce {a} by {b}",
        "if i subtract {b} from {a} what do i get",
        "start with {a} and take off {b}",
        "{a} minus {b} equals what",
        "how much is {b} less than {a}",
        "if you take {b} off {a} how much is that",
        "work out {a} minus {b}",
        "what remains when you take {b} from {a}",
        "what's the answer to {a} minus {b}",
        "knock {b} off {a}",
        "i need {a} minus {b}",
        "from {a} take {b}",
        "help me with {a} minus {b}",
        "how much is left of {a} if you take {b}",
        "{a} minus {b} how much is it",
        "{a} take {b} away is what",
        "{a} and take away {b}",
        "i have {a} and lose {b} how many are left",
        "if i have {a} and give you {b} what's left",
        "if i have {a} and take away {b} what do i get",
        "take {a} and subtract {b}",
        "what will {a} minus {b} be",
        "what do i get for {a} minus {b}",
        "what's {b} less than {a}",
        "what's left when {b} is taken from {a}",
        "my homework says {a} minus {b}",
        "*{a} take away {b}",
    ),
    "times": (
        "what is {a} times {b}",
        "what's {a} times {b}",
        "{a} times {b}",
        "how much is {a} times {b}",
        "multiply {a} by {b}",
        "what is {a} multiplied by {b}",
        "tell me {a} times {b}",
        "calculate {a} times {b}",
        "{a} times {b} is what",
        "what do you get for {a} times {b}",
        "how much do you get for {a} times {b}",
        "what is the product of {a} and {b}",
        "what does {a} times {b} make",
        "what do you get when you multiply {a} by {b}",
        "multiply {a} and {b}",
        "{a} times {b} equals what",
        "if i multiply {a} by {b} what do i get",
        "work out {a} times {b}",
        "the product of {a} and {b}",
        "how much would {a} times {b} be",
        "{a} times {b} comes to how much",
        "what number is {a} times {b}",
        "i need {a} times {b}",
        "let's multiply {a} by {b}",
        "what's the answer to {a} times {b}",
        "i have to multiply {a} by {b} what is that",
        "what do {a} and {b} multiply to",
        "help me multiply {a} by {b}",
        "help me with {a} times {b}",
        "how much is {a} multiplied by {b}",
        "{a} times {b} how much is it",
        "{a} multiplied with {b} is what",
        "take {a} and multiply it by {b}",
        "what will {a} times {b} be",
        "what's {a} multiplied by {b}",
        "say what {a} times {b} is",
        "i always forget what {a} times {b} is",
        "my homework says {a} times {b}",
        "if you take {a} times {b} how much is that",
        "what does {a} multiplied by {b} give",
        "in the times table what is {a} times {b}",
        "start with {a} and multiply by {b}",
        "*{a} multiplied by {b}",
    ),
    "divided by": (
        "what is {a} divided by {b}",
        "what's {a} divided by {b}",
        "{a} divided by {b}",
        "how much is {a} divided by {b}",
        "divide {a} by {b}",
        "tell me {a} divided by {b}",
        "calculate {a} divided by {b}",
        "{a} divided by {b} is what",
        "how often does {b} go into {a}",
        "what is {a} over {b}",
        "split {a} by {b}",
        "how many times does {b} go into {a}",
        "{b} goes into {a} how many times",
        "how often does {b} fit into {a}",
        "if i divide {a} by {b} what do i get",
        "{a} over {b}",
        "what do you get when you divide {a} by {b}",
        "{a} divided by {b} equals what",
        "work out {a} divided by {b}",
        "what's the answer to {a} divided by {b}",
        "i need {a} divided by {b}",
        "{a} split by {b} is how much",
        "let's divide {a} by {b}",
        "how much is {a} over {b}",
        "i have to divide {a} by {b} what is that",
        "help me divide {a} by {b}",
        "help me with {a} divided by {b}",
        "how much would {a} divided by {b} be",
        "{a} divided by {b} how much is it",
        "{a} divided by {b} makes what",
        "{b} into {a} goes how often",
        "take {a} and divide it by {b}",
        "what will {a} divided by {b} be",
        "what do i get for {a} divided by {b}",
        "say what {a} divided by {b} is",
        "my homework says {a} divided by {b}",
        "share {a} between {b}",
        "give me {a} divided by {b}",
        "the answer to {a} divided by {b} is what",
        "start with {a} and divide by {b}",
        "*what does {a} divided by {b} make",
    ),
}
_SECOND_AGAIN = (
    "what about {b}",
    "now {b}",
    "and with {b}",
    "what about with {b}",
    "okay and {b}",
    "now with {b}",
    "and {b}",
    "how about {b}",
    "same with {b}",
    "try it with {b}",
    "and if it's {b}",
    "now do {b}",
    "do the same with {b}",
    "then with {b}",
    "use {b} this time",
    "what would it be with {b}",
    "and what about {b}",
    "and {b} instead",
    "make it {b} this time",
    "what if i use {b}",
    "how about with {b}",
    "and how about with {b}",
    "and now with {b}",
    "let's do it with {b}",
    "let's take {b} instead",
    "change it to {b}",
    "now use {b}",
    "then what about with {b}",
    "once more with {b}",
    "now the same with {b}",
    "what does it make with {b}",
)
_CORRECTION = (
    "no i said {b}",
    "i meant {b}",
    "no no {b}",
    "sorry i said {b}",
    "that is wrong i said {b}",
    "no it was {b}",
    "actually i meant {b}",
    "no i meant {b}",
    "sorry i meant {b}",
    "i said {b}",
    "{b} is what i said",
    "you misheard me it's {b}",
    "my mistake i meant {b}",
    "no it's {b}",
    "i was saying {b}",
    "it should be {b}",
    "the number was {b}",
    "wrong number i meant {b}",
    "that's not the number i said {b}",
    "you got the number wrong it's {b}",
    "you heard me wrong i said {b}",
    "no the number is {b}",
    "no my number was {b}",
    "i wanted to say {b}",
    "i wanted {b}",
    "no make that {b}",
    "no that should be {b}",
    "not that number i meant {b}",
    "wrong it's {b}",
    "no with {b} i said",
    "*no not that i said {b}",
)


def _result(a: int, operator: str, b: int) -> int:
    if operator == "plus":
        return a + b
    if operator == "minus":
        return a - b
    return a * b if operator == "times" else a // b


def _possible(a: int, operator: str, b: int) -> bool:
    if operator == "times":
        return a * b <= _PRODUCT_LIMIT
    if operator == "divided by":
        return b > 0 and a % b == 0
    return True


def _operands(talk: Talk, operator: str) -> tuple[int, int]:
    if operator == "divided by":
        b = talk.rng.randint(1, 10)
        return b * talk.rng.randint(1, 10), b
    a, b = talk.rng.randint(0, _LIMIT), talk.rng.randint(0, _LIMIT)
    while not _possible(a, operator, b) or (operator == "minus" and a < b and talk.rng.random() < 0.8):
        a, b = talk.rng.randint(0, _LIMIT), talk.rng.randint(0, _LIMIT)
    return a, b


def _turn(talk: Talk, user: str, a: int, operator: str, b: int, apology: str = "") -> Turn:
    result = written(_result(a, operator, b))
    talk.follow_ups = [_second_again(a, operator), _corrected(a, operator)]
    if 0 <= _result(a, operator, b) <= _LIMIT:
        talk.follow_ups.append(_chained(_result(a, operator, b)))
    name = operator.split()[0]
    reply = apology + sentence(f"{written(a)} {operator} {written(b)} is {result}.")
    return Turn(user, reply, f"arithmetic.{name}", ((f"is {result}", f"equals {result}", f"makes {result}"),))


def _new_second(talk: Talk, a: int, operator: str) -> int:
    b = talk.rng.randint(1, _LIMIT)
    while not _possible(a, operator, b):
        b = talk.rng.randint(1, _LIMIT)
    return b


def _second_again(a: int, operator: str) -> Maker:
    def make(talk: Talk) -> Turn:
        b = _new_second(talk, a, operator)
        return _turn(talk, talk.say(_SECOND_AGAIN, b=spoken(b)), a, operator, b)

    return make


def _corrected(a: int, operator: str) -> Maker:
    def make(talk: Talk) -> Turn:
        b = _new_second(talk, a, operator)
        return _turn(talk, talk.say(_CORRECTION, b=spoken(b)), a, operator, b, apology="Sorry. ")

    return make


def _chained(result: int) -> Maker:
    def make(talk: Talk) -> Turn:
        operator = talk.rng.choice(("plus", "minus"))
        b = talk.rng.randint(1, max(1, result)) if operator == "minus" else talk.rng.randint(1, _LIMIT)
        user = talk.say(
            (
                "and {op} {b}",
                "now {op} {b}",
                "{op} {b}",
                "that {op} {b}",
                "what is that {op} {b}",
                "the result {op} {b}",
                "{op} another {b}",
                "and what's that {op} {b}",
                "now the answer {op} {b}",
                "and all of that {op} {b}",
                "take that {op} {b}",
                "now what is that {op} {b}",
                "and what is all that {op} {b}",
                "and the answer {op} {b}",
                "and that {op} {b}",
                "and the result {op} {b}",
                "what's the result {op} {b}",
                "what's the answer {op} {b}",
                "what's that {op} {b}",
                "what would that be {op} {b}",
                "how much is that {op} {b}",
                "and how much is that {op} {b}",
                "now take that {op} {b}",
                "take the result {op} {b}",
                "use the answer {op} {b}",
                "work out that {op} {b}",
                "*and then {op} {b}",
            ),
            op=operator,
            b=spoken(b),
        )
        return _turn(talk, user, result, operator, b)

    return make


def _register(operator: str, weight: float) -> None:
    @intent(f"arithmetic.{operator.split()[0]}", weight)
    def make(talk: Talk) -> Turn:
        a, b = _operands(talk, operator)
        return _turn(talk, talk.say(_ASK[operator], a=spoken(a), b=spoken(b)), a, operator, b)


_register("plus", 9)
_register("minus", 11)
_register("times", 10)
_register("divided by", 4)


def _counting(start: int, stop: int) -> str:
    return ", ".join(written(number) for number in range(start, stop + 1))


def _count_turn(talk: Talk, user: str, start: int, stop: int, name: str) -> Turn:
    def keep_going(later: Talk) -> Turn:
        user = later.say(
            (
                "keep going",
                "go on",
                "keep on",
                "go further",
                "and more",
                "please go on",
                "what comes then",
                "count on",
                "count further",
                "continue",
                "carry on",
                "and then",
                "keep counting",
                "don't stop there",
                "go on counting",
                "a few numbers more",
                "what are the next numbers",
                "and the next ones",
                "you can keep going",
                "a bit further",
                "keep it going",
                "you can go on",
                "continue counting",
                "count some more",
                "count a bit more",
                "and so on",
                "some more numbers",
                "don't stop keep counting",
                "don't stop now",
                "go a little further",
                "go higher",
                "what numbers come next",
                "what comes after those",
                "let me hear more numbers",
                "that's not all go on",
                "you're doing well keep going",
                "*more please",
            )
        )
        return _count_turn(later, user, stop + 1, stop + 5, "count.more")

    talk.follow_ups = [keep_going] if stop <= 30 else []
    counted = _counting(start, stop)
    return Turn(user, sentence(counted) + ".", name, ((counted,),))


@intent("count.to", 2.5)
def _count_to(talk: Talk) -> Turn:
    stop = talk.rng.randint(3, 12)
    user = talk.say(
        (
            "count to {n}",
            "count up to {n}",
            "can you count up to {n}",
            "count to the number {n}",
            "let me hear you count to {n}",
            "count until {n}",
            "show me how you count to {n}",
            "count one to {n}",
            "count from one to {n}",
            "start counting to {n}",
            "count as far as {n}",
            "list the numbers from one to {n}",
            "say the numbers up to {n}",
            "i want to hear you count to {n}",
            "let's count to {n}",
            "from one to {n} count for me",
            "give me the numbers one through {n}",
            "start at one and stop at {n}",
            "count out loud to {n}",
            "how do you count to {n}",
            "go from one up to {n}",
            "count till you get to {n}",
            "are you able to count to {n}",
            "one to {n} in order",
            "could i hear you count to {n}",
            "do you think you can count to {n}",
            "i bet you can't count to {n}",
            "i'd like to hear the numbers up to {n}",
            "name all the numbers up to {n}",
            "what are the numbers up to {n}",
            "say every number from one to {n}",
            "begin with one and count to {n}",
            "start from one and go to {n}",
            "starting at one count to {n}",
            "count for me to {n}",
            "i need the numbers one to {n}",
            "give me all the numbers to {n}",
            "my child wants to hear you count to {n}",
            "try to count to {n}",
            "*count all the way to {n}",
        ),
        n=spoken(stop),
    )
    return _count_turn(talk, user, 1, stop, "count.to")


@intent("count.from", 2.5)
def _count_from(talk: Talk) -> Turn:
    start = talk.rng.randint(2, 18)
    stop = start + talk.rng.randint(2, 6)
    user = talk.say(
        (
            "count from {a} to {b}",
            "count the numbers from {a} to {b}",
            "count starting at {a} up to {b}",
            "name the numbers from {a} to {b}",
            "count {a} to {b}",
            "begin at {a} and count to {b}",
            "say the numbers from {a} to {b}",
            "count up from {a} to {b}",
            "start at {a} and count to {b}",
            "list the numbers from {a} to {b}",
            "go from {a} up to {b} one by one",
            "from {a} count up to {b}",
            "start with {a} and stop at {b}",
            "give me every number from {a} to {b}",
            "what are the numbers from {a} to {b}",
            "let me hear the numbers from {a} to {b}",
            "begin counting at {a} and end at {b}",
            "count on from {a} till you reach {b}",
            "the numbers {a} through {b}",
            "go through the numbers {a} to {b}",
            "{a} to {b} count it out",
            "let's count from {a} to {b}",
            "which numbers go from {a} to {b}",
            "count from {a} until you get to {b}",
            "could i hear the numbers from {a} to {b}",
            "i want all numbers from {a} to {b}",
            "give me the numbers between {a} and {b}",
            "name every number from {a} up to {b}",
            "say all the numbers between {a} and {b}",
            "what numbers are there from {a} to {b}",
            "starting at {a} count to {b}",
            "starting with {a} count up until {b}",
            "from {a} to {b} count for me",
            "start from {a} and keep going until {b}",
            "begin with {a} and go up to {b}",
            "i bet you can count from {a} to {b}",
            "show me how you count from {a} to {b}",
            "don't start at one but count from {a} to {b}",
            "*count between {a} and {b}",
        ),
        a=spoken(start),
        b=spoken(stop),
    )
    return _count_turn(talk, user, start, stop, "count.from")


@intent("count.down", 1.5)
def _count_down(talk: Talk) -> Turn:
    start = talk.rng.randint(3, 10)
    user = talk.say(
        (
            "count down from {n}",
            "count backward from {n}",
            "count down starting at {n}",
            "start a countdown from {n}",
            "count from {n} down to one",
            "count from {n} to one",
            "make a countdown from {n}",
            "count backwards from {n}",
            "from {n} count down to one",
            "{n} down to one",
            "start at {n} and count down",
            "go backwards from {n} to one",
            "give me a countdown from {n}",
            "count in reverse from {n}",
            "let's count down from {n}",
            "i need a countdown from {n}",
            "say the numbers backwards from {n}",
            "how do you count down from {n}",
            "starting at {n} count back to one",
            "let me hear a countdown from {n}",
            "begin with {n} and go down to one",
            "countdown from {n}",
            "do a countdown from {n}",
            "count down to one from {n}",
            "count down beginning at {n}",
            "count the other way from {n}",
            "count back from {n}",
            "i want to hear you count down from {n}",
            "i'd like a countdown from {n}",
            "start with {n} and count backwards",
            "start from {n} and count back",
            "starting with {n} count down",
            "begin at {n} and count backwards",
            "say the numbers from {n} down to one",
            "name the numbers from {n} back to one",
            "from {n} to one count backwards",
            "show me how you count down from {n}",
            "the rocket starts count down from {n}",
        ),
        n=spoken(start),
    )
    talk.follow_ups = []
    counted = ", ".join(written(number) for number in range(start, 0, -1))
    return Turn(user, sentence(counted) + ".", "count.down", ((counted,),))


def _neighbour(talk: Talk, user: str, number: int, step: int) -> Turn:
    def again(later: Talk) -> Turn:
        user = later.say(NEXT_ONE)
        return _neighbour(later, user, number + 1, 1)

    word = "after" if step > 0 else "before"
    talk.follow_ups = [again] if step > 0 else []
    result = written(number + step)
    reply = sentence(f"{result} comes {word} {written(number)}.")
    return Turn(user, reply, f"number.{word}", ((f"{result} comes {word}",),))


@intent("number.after", 3)
def _number_after(talk: Talk) -> Turn:
    number = talk.rng.randint(0, 60)
    templates = (
        "what comes after {n}",
        "what number comes after {n}",
        "which number comes after {n}",
        "what is the number after {n}",
        "which number follows {n}",
        "what follows {n}",
        "{n} and then what",
        "what is the next number after {n}",
        "tell me the number after {n}",
        "which number is next after {n}",
        "after {n} comes what",
        "what do you say after {n} if you're counting",
        "{n} is followed by what",
        "{n} is followed by which number",
        "the number after {n}",
        "give me the number after {n}",
        "i'm at {n} what number is next",
        "i counted to {n} what's next",
        "after {n} which number do you get",
        "name the number that follows {n}",
        "the number after {n} is what",
        "what's the next number if i'm at {n}",
        "i can't remember what comes after {n}",
        "counting up from {n} what is the next number",
        "what number do i say after {n}",
        "what number will come after {n}",
        "what's next after {n}",
        "which number would be next after {n}",
        "when you count what do you say after {n}",
        "when i get to {n} what is the next number",
        "if i count up what comes after {n}",
        "if you're at {n} what do you say next",
        "{n} what number comes after that",
        "{n} what comes after it",
        "{n} and which number is next",
        "{n} and then which number",
        "i always forget what comes after {n}",
        "i'm counting and i got to {n} what's next",
        "go one up from {n}",
        "one up from {n} is what",
        "*what number is after {n}",
    )
    return _neighbour(talk, talk.say(templates, n=spoken(number)), number, 1)


@intent("number.before", 2.5)
def _number_before(talk: Talk) -> Turn:
    number = talk.rng.randint(1, 60)
    templates = (
        "what comes before {n}",
        "what number comes before {n}",
        "which number comes before {n}",
        "which number is before {n}",
        "tell me the number before {n}",
        "before {n} comes what",
        "what is right before {n}",
        "name the number before {n}",
        "what is the number before {n}",
        "{n} comes after which number",
        "which number does {n} come after",
        "{n} follows what number",
        "the number before {n}",
        "give me the number before {n}",
        "the number before {n} is what",
        "{n} which number goes before it",
        "just before {n} what number do you say",
        "what do you count right before {n}",
        "going back from {n} what number do i get",
        "which number leads up to {n}",
        "i can't remember what comes before {n}",
        "say the number that comes before {n}",
        "if i go back one from {n} where am i",
        "what number would come before {n}",
        "what's right before {n}",
        "which number do you say before {n}",
        "when i count what comes before {n}",
        "when you count what do you say before {n}",
        "if i count backwards from {n} what comes first",
        "if i'm at {n} which number was before",
        "{n} what number comes before that",
        "{n} what comes before it",
        "{n} and what was before",
        "i need the number before {n}",
        "i always forget what comes before {n}",
        "go one back from {n}",
        "one back from {n} is what",
        "one down from {n} is what",
        "*what number is before {n}",
    )
    return _neighbour(talk, talk.say(templates, n=spoken(number)), number, -1)


@intent("number.bigger", 3)
def _number_bigger(talk: Talk) -> Turn:
    a, b = talk.rng.sample(range(31), 2)
    talk.follow_ups = []
    user = talk.say(
        (
            "which is bigger {a} or {b}",
            "which number is bigger {a} or {b}",
            "{a} or {b} which is bigger",
            "what is bigger {a} or {b}",
            "tell me which is bigger {a} or {b}",
            "what number is bigger {a} or {b}",
            "is {a} or {b} bigger",
            "which is greater {a} or {b}",
            "which is the bigger number {a} or {b}",
            "what is more {a} or {b}",
            "which is more {a} or {b}",
            "which of {a} and {b} is bigger",
            "between {a} and {b} which is bigger",
            "compare {a} and {b}",
            "{a} and {b} which one is more",
            "{a} or {b} which is higher",
            "the bigger of {a} and {b}",
            "is {a} more or less than {b}",
            "pick the bigger number {a} or {b}",
            "what's the higher number {a} or {b}",
            "of the numbers {a} and {b} which is greater",
            "give me the bigger one of {a} and {b}",
            "is it {a} or {b} that's bigger",
            "out of {a} and {b} which is the bigger number",
            "is the bigger number {a} or {b}",
            "which one is bigger {a} or {b} as a number",
            "which one of the numbers is bigger {a} or {b}",
            "which is higher {a} or {b}",
            "what's bigger {a} or {b}",
            "what's more {a} or {b}",
            "what's the bigger number {a} or {b}",
            "what is greater {a} or {b}",
            "{a} or {b} which is more",
            "{a} or {b} what's bigger",
            "is {a} more than {b} or is it less",
            "is {a} more or {b}",
            "do i get more with {a} or with {b}",
            "of {a} and {b} which number is bigger",
            "between {a} and {b} which is the higher number",
            "choose the bigger number {a} or {b}",
            "*which is larger {a} or {b}",
        ),
        a=spoken(a),
        b=spoken(b),
    )
    big, small = written(max(a, b)), written(min(a, b))
    return Turn(user, sentence(f"{big} is bigger than {small}."), "number.bigger", ((f"{big} is bigger",),))


@intent("number.even", 2)
def _number_even(talk: Talk) -> Turn:
    number, asked = talk.rng.randint(0, 30), talk.rng.choice(("even", "odd"))
    talk.follow_ups = []
    user = talk.say(
        (
            "is {n} {p}",
            "is {n} an {p} number",
            "do you think {n} is {p}",
            "is it true that {n} is {p}",
            "tell me if {n} is {p}",
            "{n} is {p} is that true",
            "i think {n} is {p}",
            "is {n} really {p}",
            "{n} is {p} right",
            "is {n} an {p} one",
            "is the number {n} {p}",
            "{n} is {p} isn't it",
            "isn't {n} {p}",
            "does {n} count as {p}",
            "is {n} one of the {p} numbers",
            "{n} that's an {p} number isn't it",
            "true or false {n} is {p}",
            "check if {n} is {p}",
            "would {n} be an {p} number",
            "does {n} belong to the {p} numbers",
            "do we call {n} an {p} number",
            "i believe {n} is an {p} number",
            "somebody told me {n} is {p}",
            "i'm not sure if {n} is {p}",
            "could it be that {n} is {p}",
            "can {n} be called {p}",
            "are you sure {n} is {p}",
            "say if {n} is {p}",
            "say if {n} is an {p} number",
            "is it true that {n} is an {p} number",
            "is {n} {p} yes or no",
            "is {n} what you call an {p} number",
            "{n} is an {p} number right",
            "{n} is an {p} number is that true",
            "{n} is {p} am i right",
            "{n} is that {p}",
            "my homework says {n} is an {p} number",
            "do you think {n} is an {p} number",
            "*would you say {n} is {p}",
        ),
        n=spoken(number),
        p=asked,
    )
    truth = "even" if number % 2 == 0 else "odd"
    verdict = "Yes" if truth == asked else "No"
    return Turn(
        user, f"{verdict}, {written(number)} is {truth}.", "number.even", ((verdict.lower(),), (f"is {truth}",))
    )


@intent("number.double", 2)
def _number_double(talk: Talk) -> Turn:
    number = talk.rng.randint(1, 30)
    talk.follow_ups = []
    user = talk.say(
        (
            "what is double {n}",
            "double {n}",
            "what is the double of {n}",
            "tell me double {n}",
            "can you double {n}",
            "how much is double {n}",
            "twice {n}",
            "what is twice {n}",
            "what's double {n}",
            "{n} doubled",
            "what do you get when you double {n}",
            "if i double {n} what do i get",
            "{n} doubled is what",
            "twice {n} is how much",
            "what is {n} doubled",
            "give me double {n}",
            "what is twice as much as {n}",
            "work out double {n}",
            "i need double {n}",
            "how much would {n} be doubled",
            "make {n} twice as big",
            "twice as many as {n}",
            "i want to double {n} what is that",
            "how much is twice {n}",
            "the double of {n} is what",
            "what's the double of {n}",
            "what would double {n} be",
            "what will i have if i double {n}",
            "how much do i get if i double {n}",
            "say what double {n} is",
            "give me twice {n}",
            "help me double {n}",
            "take {n} and double it",
            "take {n} twice",
            "take {n} twice how much is that",
            "i have {n} and want twice as many",
            "if you double {n} what number is it",
            "start with {n} and double it",
            "you have {n} and i have double how many do i have",
        ),
        n=spoken(number),
    )
    result = written(2 * number)
    return Turn(user, f"Double {written(number)} is {result}.", "number.double", ((f"is {result}",),))


@intent("number.half", 1.5)
def _number_half(talk: Talk) -> Turn:
    number = 2 * talk.rng.randint(1, 25)
    talk.follow_ups = []
    user = talk.say(
        (
            "what is half of {n}",
            "tell me half of {n}",
            "what is the half of {n}",
            "how much is one half of {n}",
            "can you give me half of {n}",
            "half {n}",
            "what is one half of {n}",
            "what's half of {n}",
            "half of {n}",
            "halve {n}",
            "what do you get when you halve {n}",
            "cut {n} in half",
            "{n} halved is what",
            "if i take half of {n} what do i get",
            "half of {n} is how much",
            "what is {n} cut in half",
            "split {n} in half",
            "what's half as much as {n}",
            "i need half of {n}",
            "work out half of {n}",
            "take half of {n}",
            "how much is {n} halved",
            "one half of {n}",
            "how much is half of {n}",
            "what would half of {n} be",
            "what will i have if i halve {n}",
            "how much do i get if i halve {n}",
            "the half of {n} is what",
            "say what half of {n} is",
            "give me one half of {n}",
            "help me halve {n}",
            "take {n} and halve it",
            "take {n} and cut it in half",
            "i have {n} and give away half how many are left",
            "if you halve {n} what number is it",
            "start with {n} and halve it",
            "you have {n} and i have half how many do i have",
            "{n} cut in half is what",
            "{n} split in half is how much",
        ),
        n=spoken(number),
    )
    result = written(number // 2)
    return Turn(user, f"Half of {written(number)} is {result}.", "number.half", ((f"is {result}",),))
