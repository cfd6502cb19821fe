"""What people would say who never saw a phrasing of the world: written for every intent of one reply from that reply and
one example alone, and kept for evaluation.

Some of it training knows all the same, since everybody says it; what it does not know is asked for apart.
"""

import functools

from duplex.train.world.phrasing import core_text
from duplex.train.world.small_talk import ROWS
from duplex.train.world.types import Turn

# intent, what five people say, separated by "|"
SAID: tuple[tuple[str, str], ...] = (
    ("greet.hello", "hi there|hey computer|oh hello there my friend|well hi|hello hello anybody home"),
    ("greet.morning", "morning everyone|a very good morning to you|hi good morning computer|good morning i just woke up|wishing you a lovely morning"),
    ("greet.afternoon", "hello and good afternoon|afternoon everybody|a very good afternoon to you my dear|hi there good afternoon|i wish you a pleasant afternoon"),
    ("greet.evening", "evening all|hello and a good evening to you|hi good evening i just got home|wishing you a nice evening|good evening my dear computer"),
    ("greet.night", "night night|i'm going to bed now|have a good night dear|sleep tight little computer|okay it's bedtime so good night"),
    ("greet.how", "how's it going|how have you been lately|are you doing okay today|hope you're well how are you feeling|and how are we doing today"),
    ("greet.fine", "i'm doing very well thanks for asking|pretty good actually|i am just fine dear|doing all right over here|oh i can't complain i'm well"),
    ("greet.meet", "pleased to meet you|it's a pleasure to make your acquaintance|great to finally meet you|glad we met|oh how lovely to meet you"),
    ("greet.up", "what's new|what's going on with you|so what are you up to|hey what's happening|anything new with you these days"),
    ("thanks", "thanks a lot|thank you so much dear|cheers thanks|i really appreciate your help|oh that was kind many thanks"),
    ("goodbye", "see you later|bye bye|i've got to go now bye|take care until next time|catch you tomorrow"),
    ("sorry", "oh sorry about that|i apologize|please forgive me|oops my bad|i didn't mean to do that sorry"),
    ("who", "tell me a little about yourself|what are you exactly|who am i talking to here|could you introduce yourself please|what kind of thing are you"),
    ("name", "what are you called|do you have a name|may i ask your name please|what should i call you|hey what's your name again"),
    ("can", "what are you able to do|what are you good at|show me what you can do|could you tell me what your skills are|what sort of things do you do"),
    ("help", "i need some help|please help me|i don't know what to ask you|what can i ask you about|could you help me i'm a bit lost"),
    ("robot", "are you just a machine|am i talking to a computer|is this a robot speaking|you're a bot aren't you|are you some kind of computer"),
    ("human", "are you a real person|is there a living person in there|am i speaking with a real human being|are you a person like me|wait are you an actual human"),
    ("maker", "who built you|who is your creator|where did you come from who made you|may i ask who programmed you|which people created you"),
    ("old", "what's your age|are you very old already|are you young or old|may i ask how old you are|how many years old are you"),
    ("live", "where is your home|where do you stay|do you have a house|so where are you living these days|where are you right now"),
    ("hear", "do you hear me|are you hearing what i say|hello can you hear my voice|can you hear me all right dear|am i loud enough can you hear this"),
    ("see", "are you able to see my face|do you have eyes to see me|are you watching me|can you see what i'm wearing|is there a camera can you see us"),
    ("understand", "do you know what i'm saying|can you understand what i say|am i making sense to you|are you following me|did you understand that"),
    ("languages", "can you talk in another language|do you speak spanish|how many languages do you know|which languages can you speak please|do you only speak english"),
    ("sleep", "do you ever go to bed|can you sleep like people do|do you need any sleep at night|are you sleeping sometimes|don't you ever take a nap"),
    ("eat", "do you like pizza|are you going to eat dinner|do you ever have breakfast|don't you ever get hungry and eat|can you eat food like me"),
    ("feelings", "can you feel emotions|do you ever feel happy or sad|do you feel anything inside|do computers like you have emotions|can your feelings get hurt"),
    ("love", "i really love you|i like you so much|i adore you my dear|i think i'm in love with you|you know what i love you computer"),
    ("loveme", "do you like me|are you my friend|do you care about me at all|am i special to you|tell me honestly do you like me"),
    ("insult", "you're so dumb|you are useless|i hate you|you're the worst assistant ever|what an idiot you are"),
    ("praise", "well done|you're really smart|great work you did that perfectly|you are a very clever computer|wow you are amazing"),
    ("okay", "okay i understand|oh i see now|all right that makes sense|right got it|ah now it's clear to me"),
    ("bored", "there's nothing to do|i am so bored today|this is really boring|i have nothing to do all afternoon|ugh i'm dying of boredom"),
    ("happy", "i feel so happy today|i'm in a really good mood|this is the best day ever|i am full of joy|i'm so excited and happy right now"),
    ("sad", "i feel really down|i feel like crying|i'm very unhappy today|i've been so sad since yesterday|my heart is heavy i feel blue"),
    ("tired", "i'm exhausted|i feel so sleepy|i hardly slept i'm worn out|i have no energy left today|i can barely keep my eyes open"),
    ("hungry", "i'm starving|my tummy is rumbling|i haven't eaten all day|i could really eat something now|i want some food"),
    ("thirsty", "i need a drink|my mouth is so dry|i really want some water|i'm dying of thirst|i feel rather thirsty dear"),
    ("cold", "i'm freezing|it's so chilly in here|my hands are like ice i'm cold|i can't stop shivering|brr i feel cold today"),
    ("hot", "it's way too warm in here|i'm sweating so much|it is boiling in this room|i feel very hot today|phew this heat is too much"),
    ("sick", "i don't feel well|i've got a bad cold|i have a fever and a headache|my tummy hurts|i think i caught the flu"),
    ("angry", "i'm so mad right now|i am furious|everything is making me angry today|i'm really annoyed with my brother|ugh i want to scream i'm so angry"),
    ("scared", "i'm really afraid|there's a monster under my bed|i had a nightmare and i'm frightened|i feel scared all by myself in the dark|that thunder frightens me"),
    ("lonely", "i feel so alone|i have no friends|nobody ever visits me anymore|i'm all by myself and feel lonely|it gets lonely here since my husband died"),
    ("birthday", "today is my birthday|guess what i turn six today|i'm eighty years old today|it's my birthday today hooray|you know it's my birthday don't you"),
    ("here", "i'm back|yes i am still here|here i am|okay i am here now|hey i'm back again"),
    ("wait", "hold on a second|just a moment please|hang on|give me a minute to think|one second i'll be right with you"),
    ("stop", "be quiet now|please stop talking|that's enough|shut up|okay you can stop it now"),
    ("voice.louder", "speak up please|can you turn the volume up|you're too quiet i can't hear you|talk a little louder dear|could you raise your voice"),
    ("voice.quieter", "you're too loud|turn the volume down|could you speak more softly please|talk quietly the baby is sleeping|can you lower your voice a bit"),
    ("voice.slower", "you're talking too fast|slow down please|could you speak more slowly dear|can you talk a little slower|not so fast i can't follow"),
    ("voice.faster", "you're talking too slowly|speed up please|can you speak a bit faster|hurry up and talk quicker|could you talk more quickly i'm in a rush"),
    ("interrupt", "may i interrupt you for a moment|excuse me for cutting in|can i just say something|sorry i didn't mean to cut you off|pardon me for interrupting"),
    ("nothing", "forget it|oh it's nothing|i changed my mind don't bother|don't worry about it it's not important|no forget what i said"),
    ("talk", "i want to chat with you|can we have a conversation|would you like to talk for a while|let's have a little chat|come on talk with me"),
    ("music", "can you sing for me|sing me something nice|would you please sing us a lullaby|i want to hear you sing|do you know any songs to sing"),
    ("story", "read me a bedtime story|can you tell us a story please|i want to hear a story|do you know any good stories|once upon a time go on tell one"),
    ("poem", "can you recite some poetry|say a little poem for me|do you know any poems|i'd love to hear a poem please|give me a short poem quick"),
    ("favorite.color", "which color do you like best|do you have a favourite colour|what color do you like the most|tell me your favorite color|mine is pink what's your favorite color"),
    ("favorite.animal", "which animal do you like best|do you have a favourite animal|what animal do you love the most|tell me your favorite animal please|i like dogs what's your favorite animal"),
    ("favorite.number", "which number do you like best|do you have a favourite number|what number do you like the most|tell me the number you love most|is there a number you like best"),
    ("week.days", "how many days make one week|how many days does a week have|what is the number of days in a week|a week is how many days long|can you tell me how many days a week has"),
    ("week.list", "say all the days of the week|can you name the days of the week please|list the seven days for me|what are the seven days called|tell me the weekdays from monday to sunday"),
    ("year.months", "how many months does one year have|number of months in a year please|a year is how many months|how many months make a whole year|do you know how many months there are"),
    ("year.days", "how many days does a year have|how many days make up one year|a year is how many days long|number of days in a year please|how many days are there in a whole year"),
    ("year.weeks", "how many weeks does a year have|number of weeks in one year|a year is how many weeks long|how many weeks make a whole year|can you tell me how many weeks a year has"),
    ("year.seasons", "name the four seasons|can you list the seasons please|what are the seasons of the year called|tell me all the seasons|which seasons are there in a year"),
    ("year.seasoncount", "how many seasons does a year have|what's the number of seasons in a year|how many different seasons do we get|is it three or four seasons|can you tell me how many seasons we have"),
    ("day.hours", "how many hours are in a day|how long is one day in hours|a day is how many hours|number of hours in a day please|how many hours make one whole day"),
    ("alphabet.count", "how many letters does the alphabet have|how long is the alphabet|number of letters in the alphabet please|how many letters from a to z|how many letters do we have in english"),
    ("alphabet.first", "which letter comes first in the alphabet|what letter does the alphabet start with|how does the alphabet begin|the abc starts with which letter|tell me the first letter please"),
    ("alphabet.last", "which letter comes last in the alphabet|what letter does the alphabet end with|what's at the very end of the alphabet|the final letter of the alphabet is what|tell me the last letter please"),
    ("rainbow", "how many colors does a rainbow have|how many colours are there in the rainbow|number of rainbow colors|i saw a rainbow how many colors has it|a rainbow has how many different colors"),
    ("mix.green", "what color do i get from blue and yellow|how do i make green|if i mix yellow and blue what happens|which two colors make green|yellow paint plus blue paint is what color"),
    ("mix.orange", "what color do i get from red and yellow|how do i make orange paint|if i mix yellow with red what comes out|which two colors make orange|mixing red and yellow gives what"),
    ("mix.purple", "what color do i get from blue and red|how do i make purple|if i mix red paint with blue what happens|which two colors make purple|blue mixed with red is which color"),
    ("body.fingers", "how many fingers do i have|how many fingers are on both hands|number of fingers a person has|a human being has how many fingers|can you tell me how many fingers we've got"),
    ("body.toes", "how many toes do i have|how many toes are on both feet|number of toes a person has|a human being has how many toes|please tell me how many toes we've got"),
    ("body.eyes", "how many eyes do i have|a person has how many eyes|number of eyes on a human face|how many eyes does everybody have|do you know how many eyes we've got"),
    ("body.hands", "how many hands do i have|a person has how many hands|number of hands on a human|how many hands does everybody have|tell me how many hands we've got"),
    ("body.noses", "how many noses do i have|a person has how many noses|number of noses on a face|how many noses does everybody have|silly question but how many noses have we got"),
    ("planet.count", "how many planets go around the sun|number of planets in the solar system|what's the total number of planets|do you know how many planets we have|how many planets are out there in our solar system"),
    ("planet.biggest", "which planet is the largest|what's the largest planet in the solar system|tell me the name of the biggest planet|of all the planets which one is biggest|which planet is bigger than all the others"),
    ("planet.smallest", "which planet is the tiniest|what's the littlest planet of all|tell me the name of the smallest planet|of all the planets which one is smallest|which planet in the solar system is smallest"),
    ("planet.red", "what's the red planet called|what planet looks red|which one is known as the red planet|tell me the name of the red planet|is there a planet that is red"),
    ("planet.ours", "what is our planet called|what planet are we on|on what planet do people live|what's the name of our own planet|which planet is our home"),
    ("animal.biggest", "which animal is the largest|what's the largest animal in the world|tell me the biggest animal there is|which creature is the biggest of all|what animal is bigger than all the others"),
    ("animal.tallest", "which animal is the tallest|what animal is taller than all others|tell me the tallest animal in the world|which creature is the tallest of all|what's that very tall animal at the zoo"),
    ("animal.fastest", "which animal runs the fastest|what animal is the quickest|tell me the fastest animal in the world|which creature can run fastest of all|what's the fastest land animal"),
    ("animal.slowest", "which animal is the slowest|what animal moves really slowly|tell me an animal that is very slow|which creature is the slowest of all|name a slow animal please"),
    ("animal.king", "which animal is king of the jungle|what animal do they call the king|who rules over all the animals|who's the king of the beasts|the king of animals is which one"),
    ("animal.milk", "which animal gives us milk|who makes our milk|where do we get milk from|what animal does milk come from|where is the milk in my glass from"),
    ("animal.eggs", "which animal lays the eggs we eat|where do we get eggs from|who lays our breakfast eggs|what animal do eggs come from|where are the eggs in the shop from"),
    ("animal.honey", "who makes honey|where do we get honey from|which insect makes honey|do bees or flies make honey|what animal gives us honey"),
    ("animal.wool", "which animal gives us wool|where do we get wool from|what animal does wool come from|where is the wool for my knitting from|my sweater is wool which animal is that from"),
    ("animal.stripes", "what animal is black and white and striped|name an animal with stripes|which animal is striped all over|tell me an animal that has stripes|what striped animals are there"),
    ("animal.trunk", "what animal has a long trunk|name an animal with a trunk|which animal drinks with its trunk|who has a trunk for a nose|what's the big grey animal with the trunk"),
    ("animal.pocket", "what animal carries its baby in a pouch|name an animal with a pouch|which animal has a pocket on its tummy|who keeps their babies in a pouch|tell me an animal that has a pouch please"),
    ("world.ocean", "which ocean is the largest|what's the largest ocean in the world|tell me the name of the biggest ocean|of all the oceans which one is biggest|which ocean is bigger than the others"),
    ("world.mountain", "which mountain is the tallest|what's the tallest mountain in the world|tell me the name of the highest mountain|which mountain on earth is the highest|what mountain is higher than all the others"),
    ("world.river", "which river is the longest in the world|name a very long river|tell me the longest river there is|of all the rivers which one is longest|do you know a really long river"),
    ("world.country", "which country is the largest|what's the largest country in the world|tell me the name of the biggest country|which country has the most land|of all the countries which one is biggest"),
    ("world.continents", "how many continents does the world have|number of continents on earth|what's the total number of continents|do you know how many continents we have|is it six or seven continents"),
    ("world.oceans", "how many oceans does the world have|number of oceans on earth|what's the total number of oceans|do you know how many oceans we have|is it four or five oceans"),
    ("world.rises", "which direction does the sun come up|where does the sun come up in the morning|in the morning which side is the sun on|does the sun rise in the east or west|on which side does the sun rise"),
    ("world.sets", "which direction does the sun go down|where does the sun go in the evening|where is the sunset|does the sun set in the east or west|on which side does the sun set"),
    ("world.directions", "name the four directions|what are the directions on a compass|can you list the compass points please|tell me the four cardinal directions|which directions are on a map"),
    ("science.ice", "what do you call water that is frozen|what does water become when it freezes|what do we get when water freezes|water gets really cold and turns into what|what is the word for frozen water"),
    ("science.steam", "what does boiling water turn into|what happens to water in a hot kettle|what do you get when you boil water|if water gets really hot what does it become|what comes out of boiling water"),
    ("science.air", "what do people breathe in|what is it that we breathe|what goes into our lungs|what do we need to breathe|when i breathe in what am i breathing"),
    ("science.rain", "where does the rain come from|what does rain fall out of|where is all this rain coming from|when it rains where does the water come from|what do raindrops come from"),
    ("science.night", "what is up in the sky at night|what shines in the dark night sky|what can we look at in the sky at night|when it gets dark what can i see up there|what twinkles at night"),
    ("science.day", "what lights up the sky in the daytime|what is bright in the sky during the day|what shines on us by day|what gives us light in the daytime|what do we see shining in the day"),
    ("science.plants", "what do plants need to grow|what should i give my plants|how do i keep a plant alive|what does a flower need to live|what makes plants grow well"),
    ("bread", "what do you make bread from|what's in bread|what is a loaf of bread made out of|what do bakers use to make bread|which ingredient do i need for bread"),
    ("cheese", "what do you make cheese from|what's in cheese|what is my cheese made out of|what do they use to make cheese|where does cheese come from"),
    ("glass", "what do you make glass from|what stuff is glass made out of|what are windows made of|what do they use to make glass|which material does glass come from"),
    ("paper", "what do you make paper from|what stuff is paper made out of|where does paper come from|what do they use to make paper|what are the pages in a book made of"),
    ("wheels.car", "how many wheels are on a car|a car has how many wheels|number of wheels on a car|how many wheels has daddy's car got|how many tires does a normal car have"),
    ("wheels.bike", "how many wheels are on a bike|a bicycle has how many wheels|number of wheels on a bike|how many wheels has my bike got|does a bike have two or three wheels"),
    ("hot.drink", "what is a nice warm drink|tell me a drink that is hot|can you name some hot drinks|what hot drinks are there|which drinks do people have hot"),
    ("santa", "what month is christmas in|when do we celebrate christmas|when does santa claus come|which month do we have christmas|tell me when it's christmas please"),
    ("newyear", "what month does the year start with|when is new year|when does a new year begin|which month comes first in the new year|in what month do we celebrate new year"),
    ("coin", "heads or tails|toss a coin for me|can you flip a coin please|throw a coin we need to decide|do a coin toss"),
    ("rhyme.cat", "give me a word that rhymes with cat|what's a rhyme for cat|tell me something that rhymes with cat|i need a rhyme for the word cat|do you know a word that sounds like cat"),
    ("rhyme.house", "give me a word that rhymes with house|what's a rhyme for house|tell me something that rhymes with house|i need a rhyme for the word house|which word sounds like house"),
    ("rhyme.tree", "give me a word that rhymes with tree|what's a rhyme for tree|tell me something that rhymes with tree|i need a rhyme for the word tree|can you find a word that sounds like tree"),
)  # fmt: skip


def strangers_turns() -> list[Turn]:
    """All of it with the replies that it is to get, each with no conversation before."""
    rows = {name: (reply, answer) for name, _, reply, answer, _ in ROWS}
    return [
        Turn(text, rows[name][0], name, (tuple(rows[name][1]),)) for name, texts in SAID for text in texts.split("|")
    ]


def is_known(text: str) -> bool:
    """Whether some phrasing of an intent of one reply is the same but for fillers."""
    return core_text(text) in _known()


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(core_text(text.lstrip("*+")) for *_, phrasings in ROWS for text in phrasings.split("|"))
