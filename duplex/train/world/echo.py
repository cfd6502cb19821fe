"""Repeating, spelling, jokes and facts."""

from duplex.train.world import lexicon
from duplex.train.world.lexicon import sentence, with_article
from duplex.train.world.talk import Talk, intent
from duplex.train.world.types import Turn

_REPEAT = (
    "say {x}",
    "repeat after me {x}",
    "say the word {x}",
    "can you say {x}",
    "please repeat {x}",
    "say after me the word {x}",
    "i want you to say {x}",
    "let me hear you say {x}",
    "repeat the following {x}",
    "just say {x}",
    "now repeat after me {x}",
    "say after me {x}",
    "repeat {x}",
    "say this {x}",
    "say {x} for me",
    "{x} now you say it",
    "say {x} back to me",
    "try to say {x}",
    "echo {x}",
    "i'd like to hear you say {x}",
    "how about saying {x}",
    "the word is {x} say it back to me",
    "say {x} out loud",
    "let me hear the word {x}",
    "all you have to say is {x}",
    "can i hear you say {x}",
    "repeat {x} back to me",
    "pronounce {x}",
    "let's hear you say {x}",
    "i bet you can't say {x}",
    "see if you can say {x}",
    "go ahead say {x}",
    "try saying {x}",
    "you say {x} after me",
    "when i say {x} you say it too",
    "the word i want to hear is {x}",
    "i'd love to hear you say {x}",
    "your word is {x} say it",
    "give me the word {x}",
    "do you think you can say {x}",
    "{x} is the word you should repeat",
    "are you able to say {x}",
    "*repeat the word {x}",
)
_REPEAT_PHRASE = (
    "say {x}",
    "can you say {x}",
    "please repeat {x}",
    "repeat my words {x}",
    "i want you to say {x}",
    "let me hear you say {x}",
    "repeat the following {x}",
    "just say {x}",
    "now repeat after me {x}",
    "say the words {x}",
    "repeat after me {x}",
    "say after me {x}",
    "repeat {x}",
    "say this {x}",
    "say {x} for me",
    "{x} now you say that",
    "say {x} back to me",
    "say these words {x}",
    "try to say {x}",
    "i'd like to hear you say {x}",
    "how about saying {x}",
    "echo my words {x}",
    "the words are {x} now say them",
    "copy what i say {x}",
    "say what i say {x}",
    "speak after me {x}",
    "repeat {x} back to me",
    "can i hear you say {x}",
    "my words are {x} say them too",
    "i'll say something and you repeat it {x}",
    "use my words and say {x}",
    "say exactly this {x}",
    "say {x} just as i said it",
    "{x} is what you should say",
    "{x} can you say that too",
    "do as i do and say {x}",
    "let me hear these words {x}",
    "word for word say {x}",
    "you go next say {x}",
    "try to repeat what i say {x}",
    "i say {x} and you repeat it",
    "say it with me {x}",
    "here is what i want you to say {x}",
    "*repeat this {x}",
)


def _echo_turn(talk: Talk, user: str, words: str, name: str, apology: str = "") -> Turn:
    def correct(later: Talk) -> Turn:
        other = later.rng.choice(lexicon.REPEAT_NOUNS)
        user = later.say(
            (
                "no i said {x}",
                "no say {x}",
                "i said {x}",
                "no no {x}",
                "that is wrong i said {x}",
                "no it was {x}",
                "actually i meant {x}",
                "sorry i meant {x}",
                "no it's {x}",
                "the word was {x}",
                "i wanted you to say {x}",
                "{x} is what i said",
                "you misheard me i said {x}",
                "i was saying {x}",
                "wrong word i meant {x}",
                "it should be {x}",
                "no i meant {x}",
                "that's not it i said {x}",
                "that's not what i said i said {x}",
                "no that's wrong say {x}",
                "no i wanted {x}",
                "you got it wrong it was {x}",
                "not that word i said {x}",
                "wrong it was {x}",
                "no my word was {x}",
                "i never said that i said {x}",
                "what i said was {x}",
                "i was trying to say {x}",
                "you heard me wrong it's {x}",
                "that isn't the word it's {x}",
                "no you should say {x}",
                "no try again it's {x}",
            ),
            x=other,
        )
        return _echo_turn(later, user, other, "repeat.word", "Sorry. ")

    def follow(later: Talk) -> Turn:
        other = later.rng.choice(lexicon.REPEAT_NOUNS)
        return _echo_turn(
            later,
            later.say(
                (
                    "now say {x}",
                    "then say {x}",
                    "next say {x}",
                    "also say {x}",
                    "and then {x}",
                    "now repeat {x}",
                    "and now {x}",
                    "and {x}",
                    "say {x} next",
                    "and say {x} too",
                    "{x} is the next word",
                    "after that say {x}",
                    "and then say {x}",
                    "now the word {x}",
                    "now let me hear {x}",
                    "now try {x}",
                    "now {x}",
                    "and can you say {x}",
                    "your next word is {x}",
                    "next up is {x}",
                    "now how about saying {x}",
                    "and now you say {x}",
                    "the next word is {x}",
                    "good now say {x}",
                    "great and now {x}",
                    "and repeat {x}",
                    "here comes another word {x}",
                    "one more word say {x}",
                    "say another word {x}",
                    "and one more {x}",
                    "then there is {x}",
                    "how about the word {x} now",
                ),
                x=other,
            ),
            other,
            "repeat.word",
        )

    talk.follow_ups = [correct, follow]
    return Turn(user, f"{apology}{sentence(words)}.", name, ((words,),))


@intent("repeat.word", 10)
def _repeat_word(talk: Talk) -> Turn:
    word = talk.rng.choice(lexicon.REPEAT_NOUNS + lexicon.REPEAT_ADJECTIVES)
    return _echo_turn(talk, talk.say(_REPEAT, x=word), word, "repeat.word")


@intent("repeat.phrase", 9)
def _repeat_phrase(talk: Talk) -> Turn:
    rng = talk.rng
    noun, adjective = rng.choice(lexicon.REPEAT_NOUNS), rng.choice(lexicon.REPEAT_ADJECTIVES)
    words = rng.choice(
        (
            f"{adjective} {noun}",
            f"the {adjective} {noun}",
            f"my {noun} is {adjective}",
            f"{noun} and {rng.choice(lexicon.REPEAT_NOUNS)}",
            f"i like the {adjective} {noun}",
            f"{with_article(noun)} and {with_article(rng.choice(lexicon.REPEAT_NOUNS))}",
        )
    )
    user = talk.say(_REPEAT_PHRASE, x=words)
    shown = words.replace("i like", "I like")
    turn = _echo_turn(talk, user, shown, "repeat.phrase")
    return Turn(turn.user, turn.reply, turn.intent, ((words,),))


@intent("spell", 8)
def _spell(talk: Talk) -> Turn:
    def spelled(later: Talk, user: str, word: str) -> Turn:
        def follow(again: Talk) -> Turn:
            other = again.rng.choice(lexicon.SPELLED_WORDS)
            return spelled(
                again,
                again.say(
                    (
                        "and {x}",
                        "now spell {x}",
                        "and spell {x}",
                        "then spell {x}",
                        "now {x}",
                        "next spell {x}",
                        "what about {x}",
                        "spell {x} too",
                        "and how is {x} spelled",
                        "now do {x}",
                        "also spell {x}",
                        "and the word {x}",
                        "how do you spell {x} then",
                        "after that spell {x}",
                        "{x} is the next one",
                        "and how about {x}",
                        "i also want you to spell {x}",
                        "and can you do {x}",
                        "next word is {x}",
                        "then there's {x} how do you spell it",
                        "and the spelling of {x}",
                        "try {x} next",
                        "do {x} next",
                        "the next one to spell is {x}",
                        "one more spell {x}",
                        "and the letters of {x}",
                        "let's spell {x} now",
                        "and how would you spell {x}",
                        "how is {x} spelled then",
                        "great now the word {x}",
                        "another one to spell is {x}",
                    ),
                    x=other,
                ),
                other,
            )

        later.follow_ups = [follow]
        letters = ", ".join(word.upper())
        return Turn(user, f"{word.capitalize()} is spelled {letters}.", "spell", ((letters.lower(),),))

    word = talk.rng.choice(lexicon.SPELLED_WORDS)
    templates = (
        "spell {x}",
        "spell the word {x}",
        "how do you spell {x}",
        "can you spell {x}",
        "please spell {x} for me",
        "what are the letters of {x}",
        "spell out {x}",
        "how is the word {x} spelled",
        "tell me how to spell {x}",
        "how does one spell {x}",
        "which letters are in {x}",
        "give me the letters of {x}",
        "how is {x} spelled",
        "how do i spell {x}",
        "{x} how do you spell that",
        "how would you spell {x}",
        "help me spell {x}",
        "say {x} letter by letter",
        "i don't know how to spell {x}",
        "what letters make up {x}",
        "how do you write {x}",
        "{x} is spelled how",
        "which letters spell {x}",
        "i can't spell {x}",
        "what's the right way to spell {x}",
        "the letters of {x}",
        "i need to spell {x}",
        "break {x} into its letters",
        "could i get the spelling of {x}",
        "what's the spelling of {x}",
        "i'd like the spelling of {x}",
        "i'm trying to spell {x}",
        "i can't remember how {x} is spelled",
        "if i want to write {x} which letters do i need",
        "name the letters in {x}",
        "letter by letter what is {x}",
        "how would i write the word {x}",
        "show me how {x} is spelled",
        "i have to write {x} how is it spelled",
        "the word {x} is written how",
        "what letters do you need to write {x}",
        "i'm not sure how to spell {x}",
        "for {x} what are the letters",
        "*what is the spelling of {x}",
    )
    return spelled(talk, talk.say(templates, x=word), word)


@intent("spell.name", 2)
def _spell_name(talk: Talk) -> Turn:
    name = talk.rng.choice(lexicon.NAMES)
    templates = (
        "spell the name {x}",
        "how do you spell the name {x}",
        "how is the name {x} spelled",
        "can you spell the name {x}",
        "how would you spell the name {x}",
        "the name {x} how is it spelled",
        "spell out the name {x}",
        "help me spell the name {x}",
        "how do i write the name {x}",
        "my friend is called {x} how do i spell that",
        "i don't know how to spell the name {x}",
        "say the name {x} letter by letter",
        "the name {x} is spelled how",
        "what's the right way to spell the name {x}",
        "how do people spell the name {x}",
        "i need to write the name {x} how does it go",
        "i met somebody called {x} how is that spelled",
        "how should i spell the name {x}",
        "i want to spell the name {x}",
        "which letters are in the name {x}",
        "give me the letters in the name {x}",
        "i'm not sure how the name {x} is spelled",
        "how would i write the name {x}",
        "show me how to spell the name {x}",
        "spell somebody's name for me it's {x}",
        "what's the spelling of the name {x}",
        "my boss is called {x} how is it spelled",
        "name the letters of the name {x}",
        "if somebody's called {x} how do they spell it",
        "is there a right way to spell the name {x}",
        "*what are the letters of the name {x}",
    )
    talk.follow_ups = []
    letters = ", ".join(name.upper())
    reply = f"{name.capitalize()} is spelled {letters}."
    return Turn(talk.say(templates, x=name), reply, "spell.name", ((letters.lower(),),))


def _joke_turn(talk: Talk, user: str, name: str) -> Turn:
    joke = lexicon.JOKES[talk.jokes_told % len(lexicon.JOKES)]
    talk.jokes_told += 1
    talk.follow_ups = [_another_joke, _another_joke, _laugh]
    punchline = joke.split("? ")[1].rstrip(".").lower()
    return Turn(user, joke, name, ((punchline,),))


def _another_joke(talk: Talk) -> Turn:
    templates = (
        "another one",
        "another joke",
        "yet another one",
        "a new one",
        "can i have another one",
        "and another one",
        "give me another joke",
        "i want another joke",
        "any more jokes",
        "tell me another one",
        "tell me another joke",
        "one more",
        "one more joke",
        "let's hear one more",
        "keep them coming",
        "got any more jokes",
        "a different joke",
        "make me laugh again",
        "do one more",
        "next joke",
        "what other jokes do you know",
        "let me hear another one",
        "one more joke and then i'll stop",
        "i want to hear one more",
        "i'd like another joke",
        "what about another joke",
        "hit me with another one",
        "i'd love another one",
        "how about one more joke",
        "don't stop tell me another joke",
        "have you got another joke for me",
        "more jokes",
        "a second joke would be nice",
        "i could listen to more jokes",
        "*do you have another one",
    )
    return _joke_turn(talk, talk.say(templates), "joke.another")


def _laugh(talk: Talk) -> Turn:
    user = talk.say(
        (
            "that was funny",
            "that was a good joke",
            "that is so funny",
            "this is funny",
            "you are so funny",
            "nice joke",
            "good one",
            "what a funny joke",
            "that made me laugh",
            "i liked that one",
            "that's funny",
            "very funny",
            "that is a good one",
            "i like that joke",
            "hilarious",
            "that cracked me up",
            "you made me laugh",
            "i can't stop laughing",
            "that one got me",
            "i really enjoyed that joke",
            "now that was funny",
            "ha ha that's great",
            "that's so funny",
            "that's a good one",
            "i love that joke",
            "i love that one",
            "i liked your joke",
            "that joke was great",
            "what a great joke",
            "that joke made my day",
            "i'm still laughing",
            "ha that was good",
            "i have to laugh at that",
            "you're really funny",
            "your jokes are so good",
            "that was a great joke",
            "that's the best joke i've heard",
            "*what a good joke",
        )
    )
    talk.follow_ups = [_another_joke]
    return Turn(user, "I'm glad you liked it.", "joke.funny", (("glad",),))


@intent("joke", 2.5)
def _joke(talk: Talk) -> Turn:
    templates = (
        "tell me a joke",
        "tell a joke",
        "do you know a joke",
        "can you tell a joke",
        "i would like a joke",
        "let me hear a joke",
        "have you got a joke",
        "something funny please",
        "a joke please",
        "can you make me laugh",
        "do you have a joke",
        "make me laugh",
        "tell me something funny",
        "say something funny",
        "give me a joke",
        "i want to hear a joke",
        "do you know any jokes",
        "i could use a joke",
        "got any jokes",
        "crack a joke",
        "i need a laugh",
        "let's hear a joke",
        "what's a good joke",
        "make me smile",
        "joke time",
        "i'm in the mood for a joke",
        "say something to make me laugh",
        "what jokes do you know",
        "cheer me up with a joke",
        "are there any jokes you know",
        "share your best joke with me",
        "do you have any jokes for me",
        "give me something to laugh about",
        "i feel like laughing",
        "have you heard any good jokes",
        "i'd love to hear a joke",
        "may i hear a joke",
        "what's the best joke you know",
        "what's your favorite joke",
        "i'd like to hear something funny",
        "i need something funny right now",
        "is there a joke you can tell",
        "i'm bored of being serious tell me a joke",
        "why don't you tell me a joke",
        "say a joke",
        "the day was long so tell me a joke",
        "*how about a joke",
    )
    return _joke_turn(talk, talk.say(templates), "joke")


def _fact_turn(talk: Talk, user: str, name: str) -> Turn:
    fact = list(lexicon.FACTS.values())[talk.facts_told % len(lexicon.FACTS)]
    talk.facts_told += 1
    talk.follow_ups = [_another_fact]
    return Turn(user, fact, name, ((fact.rstrip(".").lower(),),))


def _another_fact(talk: Talk) -> Turn:
    templates = (
        "another one",
        "another fact",
        "yet another one",
        "a new one",
        "can i have another one",
        "and another one",
        "give me another fact",
        "i want another fact",
        "any more facts",
        "tell me another one",
        "tell me another fact",
        "one more",
        "one more fact",
        "let's hear one more",
        "keep them coming",
        "got any more facts",
        "a different fact",
        "what other facts do you have",
        "next fact",
        "teach me one more thing",
        "are there more facts",
        "i'd like another fact",
        "let me hear another fact",
        "let's hear another fact",
        "how about one more fact",
        "what about another fact",
        "have you got another fact for me",
        "what else can you teach me",
        "i want to hear more facts",
        "a second fact would be nice",
        "that's interesting what else is there",
        "and what else",
        "more facts",
        "give me one more of those facts",
        "teach me something else",
        "*what else do you know",
    )
    return _fact_turn(talk, talk.say(templates), "fact.another")


@intent("fact.any", 2)
def _fact(talk: Talk) -> Turn:
    templates = (
        "tell me something",
        "tell me a fact",
        "tell me something interesting",
        "tell me a fun fact",
        "can you tell me a fact",
        "i would like a fact",
        "let me hear a fact",
        "give me a fun fact",
        "tell me something new",
        "tell me something i do not know",
        "i want to learn something",
        "do you know any facts",
        "a fun fact please",
        "do you know a fact",
        "give me a fact",
        "teach me something",
        "say something interesting",
        "got any fun facts",
        "share a fact with me",
        "what's a fun fact",
        "fact of the day",
        "i want to hear a fact",
        "let me learn something new",
        "what is an interesting fact",
        "any interesting facts",
        "what is one thing i should know",
        "share something interesting",
        "i feel like learning something",
        "i could use a fun fact",
        "time for a fun fact",
        "let's hear something interesting",
        "have you got a fact for me",
        "do you have a fact for me",
        "do you have any fun facts",
        "could i hear a fact",
        "i'd love to hear a fun fact",
        "i'd like to learn something new",
        "give me something interesting",
        "say something i don't know",
        "what can i learn today",
        "what's something interesting you know",
        "is there something interesting you can tell me",
        "i bet you know some fun facts",
        "let's learn something",
        "what interesting things do you know",
        "say a fact",
        "*surprise me",
    )
    return _fact_turn(talk, talk.say(templates), "fact.any")


@intent("fact.about", 3)
def _fact_about(talk: Talk) -> Turn:
    topic = talk.rng.choice(list(lexicon.FACTS))
    talk.follow_ups = []
    templates = (
        "tell me something about {x}",
        "tell me a fact about {x}",
        "what do you know about {x}",
        "can you tell me something about {x}",
        "i want to hear about {x}",
        "what can you say about {x}",
        "tell me about {x}",
        "let me hear something about {x}",
        "a fact about {x}",
        "is there a fact about {x}",
        "do you know something about {x}",
        "say something about {x}",
        "give me a fact about {x}",
        "any facts about {x}",
        "what is interesting about {x}",
        "the topic is {x} what do you know",
        "i don't know much about {x}",
        "what should i know about {x}",
        "i'm interested in {x}",
        "share something about {x}",
        "got a fun fact about {x}",
        "i want to learn about {x}",
        "what's a fun fact about {x}",
        "is there anything you know about {x}",
        "anything interesting about {x}",
        "about {x} what can you tell me",
        "what is special about {x}",
        "what do you have on {x}",
        "i'd like to learn about {x}",
        "what can i learn about {x}",
        "let's talk about {x}",
        "have you got a fact about {x}",
        "do you have a fact about {x}",
        "give me something on {x}",
        "what's interesting about {x}",
        "what is there to know about {x}",
        "i'm reading about {x} what should i know",
        "share a fact about {x}",
        "how much do you know about {x}",
        "my kids asked me about {x} what can i say",
        "give me some information about {x}",
        "what's something i may not know about {x}",
        "*teach me something about {x}",
    )
    fact = lexicon.FACTS[topic]
    return Turn(talk.say(templates, x=topic), fact, "fact.about", ((fact.rstrip(".").lower(),),))
