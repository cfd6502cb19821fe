# ruff: noqa: SIM905  (word lists read better as sentences)
"""Questions beyond the world, all refused in the same words, and speech that makes no sense."""

import itertools
import string

from duplex.train.world import lexicon
from duplex.train.world.phrasing import is_held_out, with_held_out
from duplex.train.world.talk import UNKNOWN_ANSWER, UNKNOWN_REPLY, Talk, intent
from duplex.train.world.types import Turn

UNCLEAR_REPLY = "Sorry, I did not catch that."

_FILLERS: dict[str, tuple[str, ...]] = {
    "place": tuple("boston chicago dallas texas florida hawaii geneva munich venice milan nepal dubai".split()),
    "day": ("today", "tomorrow", "tonight", "this week", "on the weekend", "next week", "right now"),
    "team": ("the lakers", "the yankees", "the rangers", "the giants", "the bulls", "the eagles"),
    "company": ("apple", "google", "amazon", "tesla", "microsoft", "the bank"),
    "dish": ("lasagna", "pancakes", "curry", "fried rice", "an omelette", "apple pie", "onion soup"),
    "person": ("shakespeare", "einstein", "napoleon", "mozart", "cleopatra", "lincoln", "picasso", "newton"),
    "gadget": ("a computer", "the internet", "an engine", "a battery", "a satellite", "a microwave", "a rocket"),
    "topic": ("politics", "history", "philosophy", "chemistry", "the economy", "religion", "the law", "medicine"),
    "device": ("the lights", "the radio", "the television", "the heating", "the alarm", "the music"),
    "film": ("star wars", "the matrix", "titanic", "the lion king", "casablanca"),
    "item": ("a ticket", "a taxi", "a table", "a pizza", "a hotel room", "new shoes", "a flight"),
    "language": ("french", "german", "spanish", "japanese", "latin", "greek"),
    "country": ("france", "china", "brazil", "canada", "india", "sweden", "kenya", "egypt"),
    "word": ("hello", "house", "water", "love", "friend", "bread"),
    "health": ("a fever", "back pain", "a cough", "the flu", "a broken leg"),
}

# topic -> phrasings separated by "|"; a leading "*" holds a phrasing out of training.
TOPICS: dict[str, str] = {
    "weather": "what is the weather {day}|what's the weather like {day}|will it rain {day}|is it going to snow {day}|how is the weather in {place}|how warm is it in {place}|do i need an umbrella {day}|is it sunny {day}|should i take a coat {day}|what will the weather be like {day}|is there a storm coming|how cold will it get {day}|weather in {place}|give me the forecast for {place}|will the sun shine {day}|*what is the temperature in {place}",
    "time": "what time is it|what's the time|what time is it in {place}|what is the date today|what day is it today|what year is it|how late is it|have you got the time|how long until midnight|what date do we have|which day are we on|is it noon yet|what week is it|tell me the time",
    "news": "what is in the news {day}|what happened {day} in {place}|tell me the news|what are the headlines {day}|what is happening in {country}|anything new in {country}|what is going on in the world|read me the news|what's the latest from {country}|did anything important happen {day}|*any news from {place}",
    "politics": "who is the president of {country}|who is the king of {country}|who won the election|who is the prime minister of {country}|who should i vote for|who runs {country}|when is the next election|who is in charge of {country}|what does the government want|is the president of {country} popular|*who rules {country}",
    "scores": "who won the game {day}|what is the score of {team}|did {team} win|when do {team} play|who is playing {day}|how did {team} do|how many points did {team} get|are {team} playing {day}|who scored the most {day}|did {team} lose|what's the latest score|who beat {team}|*are {team} winning",
    "stocks": "what is the price of {company} stock|how is the stock market {day}|should i buy {company} stock|what is {company} worth|how much is one share of {company}|are the markets up {day}|where do you see {company} next year|what did {company} earn|is it time to sell {company}|how are my shares doing|*is {company} going up",
    "recipes": "how do i make {dish}|how do you cook {dish}|what do i need for {dish}|give me a recipe for {dish}|how long does {dish} take|how much salt goes into {dish}|what goes well with {dish}|teach me how to make {dish}|how many eggs do i need for {dish}|i want to cook {dish} what do i need|can i freeze {dish}|*what is a good recipe for {dish}",
    "people": "who was {person}|when was {person} born|what did {person} do|where did {person} live|how old was {person}|why is {person} famous|tell me the story of {person}|was {person} married|what is {person} known for|did {person} have children|how did {person} become famous|which country was {person} from|*when did {person} die",
    "gadgets": "how does {gadget} work|who invented {gadget}|how do i fix {gadget}|how much is {gadget}|how do you build {gadget}|why is {gadget} so loud|what do they use in {gadget}|who built the first {gadget}|can you explain how {gadget} works|how long does {gadget} last|what happens inside {gadget}|*what is inside {gadget}",
    "topics": "what do you think about {topic}|explain {topic} to me|what is {topic}|teach me {topic}|do you like {topic}|give me a short lesson in {topic}|who is the father of {topic}|where can i study {topic}|what should i know about {topic}|i need help with {topic}|*why is {topic} important",
    "control": "turn on {device}|turn off {device}|can you switch on {device}|set {device} for me|turn {device} up|make {device} louder|switch off {device}|i want {device} off|stop {device}|turn {device} down|{device} should be off|*please start {device}",
    "films": "who directed {film}|what is {film} about|who plays in {film}|is {film} a good film|when did {film} come out|when was {film} made|where can i watch {film}|does {film} have a happy end|who is the villain in {film}|have you seen {film}|who wrote {film}|*how long is {film}",
    "shopping": "order {item}|book {item} for me|buy {item}|how much does {item} cost|where can i get {item}|i want to order {item}|get me {item}|find a cheap place for {item}|is there a shop that has {item}|can you get me {item}|i would like to buy {item}|where do they sell {item}|*i need to buy {item}",
    "translation": "how do you say {word} in {language}|translate {word} to {language}|what is {word} in {language}|what is the {language} word for {word}|i need the {language} word for {word}|say {word} in {language}|how would a speaker of {language} say {word}|is {word} the same in {language}|give me {word} in {language}|*what does {word} mean in {language}",
    "countries": "how many people live in {country}|what is the population of {country}|how big is {country}|what language do they speak in {country}|what money do they use in {country}|what do people eat in {country}|is {country} a rich country|what is {country} famous for|who lives in {country}|when is the best time to visit {country}|how old is {country}|is it safe in {country}|*what is the flag of {country}",
    "health": "what should i do about {health}|how do i treat {health}|is {health} dangerous|do i have {health}|what helps with {health}|i think i have {health}|how long does {health} last|should i see a doctor about {health}|can you cure {health}|what can i take for {health}|my friend has {health} what now|*what causes {health}",
    "travel": "how do i get to {place}|how far is {place}|how long is the flight to {place}|when does the train to {place} leave|is there a bus to {place}|what can i see in {place}|which train goes to {place}|are there flights to {place} {day}|how much is a trip to {place}|where should i stay in {place}|take me to {place}|show me the way to {place}|can i walk to {place}|*what is the best way to {place}",
    "phone": "call my mother|send a message to my boss|read my messages|do i have any mail|call a taxi|what is my phone number|did anybody call|answer the phone|dial the last number|write a message to my wife|who sent me that mail|i want to call my father|who called me",
    "calendar": "what is on my calendar {day}|remind me to call my sister|set a timer|set an alarm for tomorrow|do i have a meeting {day}|when is my next meeting|am i free {day}|when does my class begin|put the party on my calendar|wake me at seven|what do i have to do {day}|cancel my meeting {day}|how long until my next meeting|*what are my plans {day}",
    "songs": "play some music|what song is this|who sings this song|play my favorite song|what is the best song ever|put on something by {person}|what's playing right now|skip this song|who made this song|which band is that|turn up that song|play something by {person}",
    "books": "who wrote that book|what should i read|which book is the best|what is the bible about|how does the book end|how many pages does that book have|is there a book about {topic}|read me a chapter|who is the hero of the book|what did {person} write|which book did you like|did {person} write books",
    "science": "why is the sky blue|how far is the moon|how fast is light|what is gravity|what is an atom|how hot is the sun|how old is the earth|what is a black hole|why do we dream|what is light made of|how do magnets work|why do things fall down|how big is the sun|how deep is the sea|what makes thunder|why is the sea salty|how do planes fly|how many bones do people have|what is electricity",
    "history": "when did the war end|who discovered america|when was rome built|who was the first man on the moon|when did the wall fall|what happened in {country} long ago|who built the pyramids|when did {person} rule|how did rome fall|what year did the war begin|who ruled {country} in the past|why was there a war|*who was the first president",
    "deep": "what is the meaning of life|is there a god|why are we here|what is love|what happens when we die|is there life on mars|do you believe in ghosts|does anything matter|what comes after death|are we alone in the universe|what is truth|can a machine think|do we have a free will|why is there something and not nothing|what is consciousness",
    "advice": "what should i wear {day}|should i get married|what should i cook {day}|how can i lose weight|how do i get rich|how can i find a job|what should i do {day}|what would you do if you were me|is it a good idea to move to {place}|how do i make more money|which job is right for me|can you plan my day|what is a good present for my wife|should i learn {language}|*how do i make friends",
    "words": "what does {word} mean|what is another word for {word}|where does the word {word} come from|how many letters are in {word}|how is {word} used in a sentence|give me another word for {word}|is {word} a noun|what is the past of {word}|how old is the word {word}|which language is the word {word} from|what is the plural of {word}",
    "personal": "what is my sister called|what did i do yesterday|what am i thinking|where are my keys|what is in my pocket|how tall am i|when is my birthday|what color is my car|how much do i weigh|when did i get up|where did i park|what did i eat yesterday|who is at my door|do i have any brothers|how many children do i have|what was i doing last night|who is my best friend",
    "law": "is that legal|how much tax do i pay|can i park here|what is the speed limit in {country}|do i need a visa for {country}|can they do that|am i allowed to drive at sixteen|what happens if i don't pay|how long is a passport good for|can my boss fire me|is it against the law|*how do i get a passport for {country}",
    "traffic": "how is the traffic {day}|is the road to {place} open|why is my train late|where is the next gas station|how long will i be stuck here|are there any delays {day}|which way is faster|when does the next bus come|is there parking in {place}|how do i avoid the traffic|how long is the drive to {place}",
    "sums": "what is the square root of {word}|how many stars are there|how many people are there in the world|how heavy is the earth|what is pi|what is the biggest prime number|how much does the moon weigh|how many grains of sand are there|what is three to the power of four|how many hairs are on a head|how fast can i run|what is infinity",
}  # fmt: skip
TEST_ONLY_TOPICS: dict[str, str] = {
    "art": "who painted the mona lisa|where is the best museum in {place}|what is modern art|did {person} paint|how much is a painting",
    "sports": "what are the rules of cricket|how long is a marathon|who is the best player of {team}|how do i throw a curve ball",
    "garden": "when should i plant potatoes|how often do i water the roses|why are my tomatoes dying|how do i cut a hedge",
    "school": "help me with my homework|what did i learn in school|how do i pass the exam|who is the best teacher in {place}",
}

_UNFINISHED = (
    "what is the",
    "i want to",
    "can you",
    "tell me the",
    "how many",
    "the thing is",
    "and then the",
    "is it",
    "what about the",
    "do you",
    "when i was",
    "because of the",
    "which of",
    "the other one of",
)


def _slots(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template.lstrip("*")) if name]


def questions() -> set[str]:
    """Every out-of-world question without fillers, of both splits."""
    found = set()
    for templates in (*TOPICS.values(), *TEST_ONLY_TOPICS.values()):
        for template in templates.split("|"):
            names = _slots(template)
            for values in itertools.product(*(_FILLERS[name] for name in names)):
                found.add(template.lstrip("*").format(**dict(zip(names, values, strict=True))))
    return found


def _register(topic: str, phrasings: str, weight: float) -> None:
    @intent(f"outside.{topic}", weight)
    def make(talk: Talk) -> Turn:
        talk.follow_ups = []
        slots = {name: talk.rng.choice(values) for name, values in _FILLERS.items()}
        return Turn(
            talk.say(with_held_out(phrasings.split("|")), **slots), UNKNOWN_REPLY, f"outside.{topic}", UNKNOWN_ANSWER
        )


for _topic, _phrasings in TOPICS.items():
    _register(_topic, _phrasings, 1.0)
for _topic, _phrasings in TEST_ONLY_TOPICS.items():
    _register(_topic, "|".join("*" + p.lstrip("*") for p in _phrasings.split("|")), 0.8)


@intent("unclear.words", 1.5)
def _unclear_words(talk: Talk) -> Turn:
    talk.follow_ups = []
    words = lexicon.REPEAT_NOUNS + lexicon.REPEAT_ADJECTIVES + ["the", "of", "and", "to", "with", "for", "is"]
    user = ""
    while not user or is_held_out(user) != (talk.split == "test"):
        user = " ".join(talk.rng.choices(words, k=talk.rng.randint(3, 6)))
    return Turn(user, UNCLEAR_REPLY, "unclear.words", (("not catch",),))


@intent("unclear.unfinished", 0.8)
def _unfinished(talk: Talk) -> Turn:
    talk.follow_ups = []
    return Turn(talk.say(with_held_out(_UNFINISHED)), UNCLEAR_REPLY, "unclear.unfinished", (("not catch",),))
