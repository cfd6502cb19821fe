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
    "weather": "what is the weather {day}|what's the weather like {day}|will it rain {day}|is it going to snow {day}|how is the weather in {place}|how warm is it in {place}|do i need an umbrella {day}|is it sunny {day}|should i take a coat {day}|what will the weather be like {day}|is there a storm coming|how cold will it get {day}|weather in {place}|give me the forecast for {place}|will the sun shine {day}|is it raining in {place}|do you think it'll rain {day}|how does it look outside {day}|how hot will it be {day}|what's it like outside in {place}|will we have sun or rain {day}|can i go out without a jacket {day}|i'm going to {place} what will the weather be|is it windy in {place}|is there snow in {place}|when will the rain stop|should i bring an umbrella {day}|*what is the temperature in {place}",
    "time": "what time is it|what's the time|what time is it in {place}|what is the date today|what day is it today|what year is it|how late is it|have you got the time|how long until midnight|what date do we have|which day are we on|is it noon yet|what week is it|tell me the time|do you have the time|what's the date today|what's today's date|which day is today|is it late already|is it morning or evening right now|what month are we in|my watch stopped what time is it|what does the clock say right now|is it past noon|how much time is left until noon|what's the time in {place}|today is what day|what date is it right now|i lost track of time what day is it",
    "news": "what is in the news {day}|what happened {day} in {place}|tell me the news|what are the headlines {day}|what is happening in {country}|anything new in {country}|what is going on in the world|read me the news|what's the latest from {country}|did anything important happen {day}|what's new in {country}|what's going on in {country}|what are people talking about {day}|give me the news from {country}|i want to hear the news|what did i miss in the news|has anything happened in {place}|what's in the papers {day}|is there any big news|what did they say on the news about {place}|did you hear what happened in {place}|*any news from {place}",
    "politics": "who is the president of {country}|who is the king of {country}|who won the election|who is the prime minister of {country}|who should i vote for|who runs {country}|when is the next election|who is in charge of {country}|what does the government want|is the president of {country} popular|who's the president of {country}|who's the king of {country}|who will win the election|does {country} have a king|does {country} have a queen|what party is the president in|who governs {country}|which party should i vote for|how do you become president of {country}|what do you think of the president|what's the name of the leader of {country}|is there an election in {country}|*who rules {country}",
    "scores": "who won the game {day}|what is the score of {team}|did {team} win|when do {team} play|who is playing {day}|how did {team} do|how many points did {team} get|are {team} playing {day}|who scored the most {day}|did {team} lose|what's the latest score|who beat {team}|how are {team} doing|when is the next game of {team}|who do {team} play {day}|did {team} win their game|i missed the game who won|have {team} won anything this year|will {team} win {day}|what was the score in the game|where do {team} play {day}|who's winning the game|do you think {team} can win|*are {team} winning",
    "stocks": "what is the price of {company} stock|how is the stock market {day}|should i buy {company} stock|what is {company} worth|how much is one share of {company}|are the markets up {day}|where do you see {company} next year|what did {company} earn|is it time to sell {company}|how are my shares doing|how is {company} stock doing|is {company} a good stock to buy|what's {company} trading at|will {company} go up|how much money does {company} make|did {company} stock fall|should i sell my shares of {company}|what happened to {company} stock|how much did i make on {company}|where should i put my money|i want to buy shares of {company}|who owns {company}|what do shares of {company} cost|*is {company} going up",
    "recipes": "how do i make {dish}|how do you cook {dish}|what do i need for {dish}|give me a recipe for {dish}|how long does {dish} take|how much salt goes into {dish}|what goes well with {dish}|teach me how to make {dish}|how many eggs do i need for {dish}|i want to cook {dish} what do i need|can i freeze {dish}|how do you make {dish}|i feel like making {dish} how do i do it|what goes into {dish}|how hot should the oven be for {dish}|i need a recipe for {dish}|which spices go into {dish}|show me how to make {dish}|how long do i cook {dish}|what's the secret of good {dish}|can i make {dish} without eggs|*what is a good recipe for {dish}",
    "people": "who was {person}|when was {person} born|what did {person} do|where did {person} live|how old was {person}|why is {person} famous|tell me the story of {person}|was {person} married|what is {person} known for|did {person} have children|how did {person} become famous|which country was {person} from|who's {person}|when did {person} live|how did {person} die|where was {person} born|what made {person} famous|what can you say about the life of {person}|what did people think of {person}|did {person} have a wife|i'm reading about {person} who was that|what was the first name of {person}|how many children did {person} have|is {person} still alive|what happened to {person}|have you heard of {person}|*when did {person} die",
    "gadgets": "how does {gadget} work|who invented {gadget}|how do i fix {gadget}|how much is {gadget}|how do you build {gadget}|why is {gadget} so loud|what do they use in {gadget}|who built the first {gadget}|can you explain how {gadget} works|how long does {gadget} last|what happens inside {gadget}|how is {gadget} made|what makes {gadget} work|when was {gadget} invented|how can i repair {gadget}|my kids ask how {gadget} works|why does {gadget} get hot|who came up with {gadget}|how much does {gadget} weigh|could i build {gadget} at home|is {gadget} hard to build|what do i need to build {gadget}|*what is inside {gadget}",
    "topics": "what do you think about {topic}|explain {topic} to me|what is {topic}|teach me {topic}|do you like {topic}|give me a short lesson in {topic}|who is the father of {topic}|where can i study {topic}|what should i know about {topic}|i need help with {topic}|i don't understand {topic}|i want to study {topic}|let's discuss {topic}|what's your opinion on {topic}|is {topic} hard to learn|how do i learn about {topic}|i have an exam in {topic}|who knows the most about {topic}|*why is {topic} important",
    "control": "turn on {device}|turn off {device}|can you switch on {device}|set {device} for me|turn {device} up|make {device} louder|switch off {device}|i want {device} off|stop {device}|turn {device} down|{device} should be off|put on {device}|i'd like {device} on|shut off {device}|did i leave {device} on|turn {device} off in an hour|put {device} on|shut {device} off|get {device} going|i need {device} on|i'm done with {device} so switch it off|i don't need {device} any more|have you turned off {device}|{device} should be on by now|change {device} for me|how do i turn on {device}|*please start {device}",
    "films": "who directed {film}|what is {film} about|who plays in {film}|is {film} a good film|when did {film} come out|when was {film} made|where can i watch {film}|does {film} have a happy end|who is the villain in {film}|have you seen {film}|who wrote {film}|who made {film}|what happens in {film}|how does {film} end|who was in {film}|what's {film} about|should i watch {film}|can my kids watch {film}|when does {film} start|is there a second part of {film}|did you like {film}|which actor was in {film}|i want to watch {film}|what year is {film} from|*how long is {film}",
    "shopping": "order {item}|book {item} for me|buy {item}|how much does {item} cost|where can i get {item}|i want to order {item}|get me {item}|find a cheap place for {item}|is there a shop that has {item}|can you get me {item}|i would like to buy {item}|where do they sell {item}|what's the price of {item}|i need {item}|i'd like {item}|get {item} for me|find me {item}|can i buy {item} here|i'm looking for {item}|how do i order {item}|i want {item} for tonight|where is the best place to buy {item}|what do i pay for {item}|help me find {item}|*i need to buy {item}",
    "translation": "how do you say {word} in {language}|translate {word} to {language}|what is {word} in {language}|what is the {language} word for {word}|i need the {language} word for {word}|say {word} in {language}|how would a speaker of {language} say {word}|is {word} the same in {language}|give me {word} in {language}|how does one say {word} in {language}|give me the {language} for {word}|my friend speaks {language} how do i say {word} to him|what's the {language} word for {word}|what do they say for {word} in {language}|how do i say {word} in {language}|i want to say {word} in {language}|teach me the {language} word for {word}|the {language} word for {word}|what do people in {language} say for {word}|*what does {word} mean in {language}",
    "countries": "how many people live in {country}|what is the population of {country}|how big is {country}|what language do they speak in {country}|what money do they use in {country}|what do people eat in {country}|is {country} a rich country|what is {country} famous for|who lives in {country}|when is the best time to visit {country}|how old is {country}|is it safe in {country}|how many people are there in {country}|what's the population of {country}|is {country} big|is {country} far away|what do people speak in {country}|which language is spoken in {country}|what kind of food do they have in {country}|what do you know about the people of {country}|is {country} a good place to live|what's it like in {country}|how many cities are in {country}|which countries are next to {country}|what's the money called in {country}|*what is the flag of {country}",
    "health": "what should i do about {health}|how do i treat {health}|is {health} dangerous|do i have {health}|what helps with {health}|i think i have {health}|how long does {health} last|should i see a doctor about {health}|can you cure {health}|what can i take for {health}|my friend has {health} what now|what can i do against {health}|how do i get rid of {health}|what's good for {health}|i've got {health} what should i do|how do people get {health}|my child has {health} what should i do|is it bad to have {health}|what medicine helps against {health}|do i need a doctor for {health}|how do i know if i have {health}|can i go to work with {health}|should i stay in bed with {health}|*what causes {health}",
    "travel": "how do i get to {place}|how far is {place}|how long is the flight to {place}|when does the train to {place} leave|is there a bus to {place}|what can i see in {place}|which train goes to {place}|are there flights to {place} {day}|how much is a trip to {place}|where should i stay in {place}|take me to {place}|show me the way to {place}|can i walk to {place}|what's the way to {place}|how can i get to {place}|how far away is {place}|i want to go to {place} how do i get there|is it far to {place}|which bus goes to {place}|what does a flight to {place} cost|when is the next train to {place}|what's the fastest way to {place}|is {place} worth a visit|i need a hotel in {place}|how many hours is it to {place}|what should i do in {place}|*what is the best way to {place}",
    "phone": "call my mother|send a message to my boss|read my messages|do i have any mail|call a taxi|what is my phone number|did anybody call|answer the phone|dial the last number|write a message to my wife|who sent me that mail|i want to call my father|ring my father|i need to call my boss|text my sister|has my boss called|any messages for me|did i get any mail|check my mail|what does the message say|what's the number of the hotel|put me through to my mother|take a message for me|tell my wife i'll be late|leave a message for my brother|ring my brother|text my wife for me|*who called me",
    "calendar": "what is on my calendar {day}|remind me to call my sister|set a timer|set an alarm for tomorrow|do i have a meeting {day}|when is my next meeting|am i free {day}|when does my class begin|put the party on my calendar|wake me at seven|what do i have to do {day}|cancel my meeting {day}|how long until my next meeting|what's on my calendar {day}|do i have anything on {day}|am i busy {day}|what have i got planned {day}|when do i have to be at work|put a meeting on my calendar|remind me about the party|remind me to buy milk|wake me up at six|set a timer for ten minutes|set my alarm|move my meeting to the evening|what time is my meeting|do i have time {day}|who am i meeting {day}|*what are my plans {day}",
    "songs": "play some music|what song is this|who sings this song|play my favorite song|what is the best song ever|put on something by {person}|what's playing right now|skip this song|who made this song|which band is that|turn up that song|what's this song|what's the name of this song|what is playing right now|put on my favorite song|put on some music|i want to listen to music|play the next song|play that song again|who wrote this song|who's the singer of this song|turn off that song|find me a song by {person}|which song is number one|what are the words of this song|*play something by {person}",
    "books": "who wrote that book|what should i read|which book is the best|what is the bible about|how does the book end|how many pages does that book have|is there a book about {topic}|read me a chapter|who is the hero of the book|what did {person} write|which book did you like|did {person} write books|what's a good book to read|which book should i read next|i'm looking for a good book|who is the writer of that book|what is that book about|how long is that book|have you read any books by {person}|what's the best book about {topic}|find me a book about {topic}|what happens at the end of the book|read me something from a book|i need a book about {topic}|which book did {person} write first",
    "science": "why is the sky blue|how far is the moon|how fast is light|what is gravity|what is an atom|how hot is the sun|how old is the earth|what is a black hole|why do we dream|what is light made of|how do magnets work|why do things fall down|how big is the sun|how deep is the sea|what makes thunder|why is the sea salty|how do planes fly|how many bones do people have|what's gravity|what is the sun made of|what's a black hole|why does the moon change|how far away is the sun|how far away are the stars|why do cats purr|why do we sleep|why do onions make me cry|what is inside the earth|how do fish breathe under water|how do birds know where to fly|how does my brain work|why do leaves fall in autumn|what's the speed of light|*what is electricity",
    "history": "when did the war end|who discovered america|when was rome built|who was the first man on the moon|when did the wall fall|what happened in {country} long ago|who built the pyramids|when did {person} rule|how did rome fall|what year did the war begin|who ruled {country} in the past|why was there a war|when was the war|who won the war|how long was the war|who started the war|when was america discovered|how old are the pyramids|why did they build the wall|who lived in {country} long ago|what was life like in {country} a hundred years ago|when did people first fly|when did we go to the moon|who was the first king of {country}|how did {person} come to power|what happened a hundred years ago|how was rome built|*who was the first president",
    "deep": "what is the meaning of life|is there a god|why are we here|what is love|what happens when we die|is there life on mars|do you believe in ghosts|does anything matter|what comes after death|are we alone in the universe|what is truth|can a machine think|do we have a free will|why is there something and not nothing|what is consciousness|what's the meaning of life|why do i exist|does god exist|what's the point of it all|is there life after death|where do we go when we die|why do people die|are ghosts real|is anybody out there in space|how did the world begin|will the world end|what makes a person good|what's the secret of happiness|why is there evil in the world|is everything decided already",
    "advice": "what should i wear {day}|should i get married|what should i cook {day}|how can i lose weight|how do i get rich|how can i find a job|what should i do {day}|what would you do if you were me|is it a good idea to move to {place}|how do i make more money|which job is right for me|can you plan my day|what is a good present for my wife|should i learn {language}|what should i do with my life|should i quit my job|should i buy a house|what should i eat {day}|what should i say to my boss|what should i give my mother for her birthday|how do i find a good job|how can i make friends at work|what do you think i should do|should i move to {place}|should i get a dog|i don't know what to wear {day}|give me some advice|how can i sleep better|is it too late to learn {language}|*how do i make friends",
    "words": "what does {word} mean|what is another word for {word}|where does the word {word} come from|how many letters are in {word}|how is {word} used in a sentence|give me another word for {word}|is {word} a noun|what is the past of {word}|how old is the word {word}|which language is the word {word} from|what is the plural of {word}|what's the meaning of {word}|what's another word for {word}|explain the word {word}|is {word} a verb|is {word} an old word|what words are like {word}|use {word} in a sentence|make a sentence with {word}|who came up with the word {word}|how many words are there for {word}|how do i use the word {word}|when do people say {word}",
    "personal": "what is my sister called|what did i do yesterday|what am i thinking|where are my keys|what is in my pocket|how tall am i|when is my birthday|what color is my car|how much do i weigh|when did i get up|where did i park|what did i eat yesterday|who is at my door|do i have any brothers|how many children do i have|what was i doing last night|who is my best friend|where did i put my keys|where did i leave my phone|where is my phone|what's my mother called|what's my brother's name|what did i have for breakfast|what did i dream last night|what am i doing right now|what's my address|where does my sister live|who's at the door|did i lock the door|how long did i sleep|when did i last see my doctor|am i tall",
    "law": "is that legal|how much tax do i pay|can i park here|what is the speed limit in {country}|do i need a visa for {country}|can they do that|am i allowed to drive at sixteen|what happens if i don't pay|how long is a passport good for|can my boss fire me|is it against the law|is it legal to park here|am i allowed to park here|can i drive in {country}|how fast can i drive in {country}|how fast may i drive here|can i go to {country} without a visa|do i have to pay tax|when do i have to pay my taxes|can they send me to prison|can i get my money back|do i need a lawyer|what are my rights at work|can my neighbor do that|how old do i have to be to drive|may i bring food into {country}|*how do i get a passport for {country}",
    "traffic": "how is the traffic {day}|is the road to {place} open|why is my train late|where is the next gas station|how long will i be stuck here|are there any delays {day}|which way is faster|when does the next bus come|is there parking in {place}|how do i avoid the traffic|is there a lot of traffic {day}|is there traffic on the way to {place}|how long will it take to drive to {place}|which road should i take to {place}|is my train on time|when will my train come|has my bus left already|is the bus late|where can i park in {place}|where is the nearest gas station|did i miss my bus|is the bridge open|are the roads clear {day}|how busy is the road to {place}|*how long is the drive to {place}",
    "sums": "what is the square root of {word}|how many stars are there|how many people are there in the world|how heavy is the earth|what is pi|what is the biggest prime number|how much does the moon weigh|how many grains of sand are there|what is three to the power of four|how many hairs are on a head|how fast can i run|what's pi|how many people are in the world|how many animals are there|how many trees are there in the world|how many fish are in the sea|how much does the earth weigh|what's the biggest number|is there a biggest number|how much water is in the sea|how many words are there in english|what's the square root of two|how many seconds is a whole life|what is ten to the power of six|how many ants are there in the world|*what is infinity",
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
    "where is the",
    "how do you",
    "i was going to",
    "i think that the",
    "why does the",
    "it's because the",
    "and if the",
    "would it be",
    "the one with the",
    "give me the",
    "could we",
    "what if i",
    "she said that the",
    "*the other one of",
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
