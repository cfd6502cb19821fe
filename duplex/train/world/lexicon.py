# ruff: noqa: SIM905  (word lists read better as sentences)
"""What the world knows: closed word lists and the facts over them. Data only."""

DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = "january february march april may june july august september october november december".split()
SEASONS = "spring summer autumn winter".split()

CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "England": "London",
    "Scotland": "Edinburgh",
    "Wales": "Cardiff",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Holland": "Amsterdam",
    "Denmark": "Copenhagen",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Hungary": "Budapest",
    "Russia": "Moscow",
    "Ukraine": "Kyiv",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Ghana": "Accra",
    "Cuba": "Havana",
    "Canada": "Ottawa",
    "Mexico": "Mexico City",
    "Brazil": "Brasilia",
    "Argentina": "Buenos Aires",
    "Chile": "Santiago",
    "Peru": "Lima",
    "China": "Beijing",
    "Japan": "Tokyo",
    "India": "New Delhi",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Iraq": "Baghdad",
    "Iran": "Tehran",
    "Australia": "Canberra",
    "Iceland": "Reykjavik",
    "South Korea": "Seoul",
}

UNKNOWN_PLACES = (
    "mongolia nepal bolivia uganda zambia jamaica laos malta qatar oman libya sudan angola mali chad "
    "panama fiji samoa tonga haiti"
).split()

OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "up": "down",
    "left": "right",
    "day": "night",
    "black": "white",
    "old": "young",
    "happy": "sad",
    "fast": "slow",
    "high": "low",
    "long": "short",
    "open": "closed",
    "full": "empty",
    "good": "bad",
    "wet": "dry",
    "rich": "poor",
    "loud": "quiet",
    "hard": "soft",
    "heavy": "light",
    "early": "late",
    "first": "last",
    "inside": "outside",
    "clean": "dirty",
    "strong": "weak",
    "near": "far",
    "thick": "thin",
    "wide": "narrow",
    "deep": "shallow",
    "sweet": "sour",
    "easy": "difficult",
    "true": "false",
    "yes": "no",
    "always": "never",
    "begin": "end",
    "buy": "sell",
    "push": "pull",
    "win": "lose",
    "love": "hate",
    "laugh": "cry",
    "north": "south",
    "east": "west",
    "king": "queen",
    "brother": "sister",
    "mother": "father",
    "awake": "asleep",
    "alive": "dead",
    "rough": "smooth",
    "sharp": "blunt",
    "more": "less",
    "above": "below",
}

COLORS = "red blue green yellow orange purple pink black white brown gray silver golden".split()

THING_COLORS = {
    "the sky": "blue",
    "the sea": "blue",
    "the sun": "yellow",
    "the moon": "white",
    "grass": "green",
    "snow": "white",
    "milk": "white",
    "blood": "red",
    "coal": "black",
    "chocolate": "brown",
    "coffee": "brown",
    "butter": "yellow",
    "rice": "white",
    "sand": "yellow",
    "a banana": "yellow",
    "a lemon": "yellow",
    "a tomato": "red",
    "a strawberry": "red",
    "a cherry": "red",
    "a carrot": "orange",
    "a pumpkin": "orange",
    "a frog": "green",
    "a cucumber": "green",
    "a leaf": "green",
    "a plum": "purple",
    "a pig": "pink",
    "a flamingo": "pink",
    "a crow": "black",
    "a swan": "white",
    "an elephant": "gray",
    "a polar bear": "white",
    "a fire truck": "red",
    "an orange": "orange",
    "a cloud": "white",
}

CATEGORIES = {
    "fruit": "apple banana pear plum peach lemon mango grape cherry strawberry".split(),
    "vegetable": "carrot potato onion cabbage cucumber radish turnip".split(),
    "animal": "dog cat horse lion tiger elephant rabbit monkey camel zebra".split(),
    "bird": "robin eagle sparrow parrot penguin pigeon owl swan".split(),
    "fish": "salmon shark trout tuna goldfish".split(),
    "insect": "ant bee butterfly mosquito beetle".split(),
    "tool": "hammer saw drill shovel screwdriver".split(),
    "vehicle": "car bus train truck bicycle tractor".split(),
    "instrument": "piano guitar violin drum flute trumpet".split(),
    "flower": "rose tulip daisy lily sunflower".split(),
    "tree": "oak pine maple willow palm".split(),
    "planet": "venus mars jupiter saturn neptune".split(),
    "shape": "circle square triangle".split(),
}

SHAPE_SIDES = {
    "triangle": 3,
    "square": 4,
    "rectangle": 4,
    "pentagon": 5,
    "hexagon": 6,
    "octagon": 8,
    "circle": 0,
}

PURPOSES = {
    "a spoon": "eat soup",
    "a pen": "write",
    "a knife": "cut bread",
    "a key": "open a door",
    "an umbrella": "stay dry",
    "a bed": "sleep",
    "a lamp": "make light",
    "a clock": "tell the time",
    "a broom": "sweep the floor",
    "a towel": "get dry",
    "a ladder": "climb up",
    "a camera": "take pictures",
    "a phone": "call people",
    "a hammer": "hit nails",
    "a cup": "drink tea",
    "soap": "wash your hands",
}

SENSES = {
    "see": "eyes",
    "hear": "ears",
    "smell": "nose",
    "taste": "tongue",
    "walk": "feet",
    "think": "brain",
    "chew": "teeth",
    "clap": "hands",
    "breathe": "lungs",
}

NAMES = (
    "anna ben carla david emma frank grace henry ida jack kate leo maria nick olga peter rosa sam tina victor "
    "wendy adam bella chris diana eric fiona george helen ivan julia kevin laura martin nina oscar paula robert "
    "sarah thomas alice brian clara daniel eva felix gina hugo irene john lisa michael nora oliver sophie "
    "tom susan mark linda james mary paul"
).split()

CITIES = (
    "paris london berlin rome madrid vienna dublin boston chicago oslo lisbon athens tokyo moscow cairo toronto "
    "sydney warsaw prague amsterdam denver seattle houston miami"
).split()

PETS = "dog cat horse rabbit lion tiger zebra monkey panda dolphin penguin turtle parrot fox bear camel".split()
FOODS = "pizza pasta soup bread cheese rice chocolate salad cake chicken apples bananas honey pancakes".split()
SPORTS = "football tennis swimming running chess basketball hockey cycling golf skiing dancing".split()
JOBS = "teacher doctor driver baker farmer nurse painter writer student builder pilot cook singer".split()

JOKES = (
    "Why did the cow cross the road? To get to the udder side.",
    "What do you call a bear with no teeth? A gummy bear.",
    "Why was the math book sad? It had too many problems.",
    "Why did the clock go to school? It wanted to learn the time.",
    "Why did the banana see the doctor? It was not peeling well.",
    "What has ears but cannot hear? A field of corn.",
)

FACTS = {
    "honey": "Honey never goes bad.",
    "octopuses": "An octopus has three hearts.",
    "space": "In space nobody can hear you.",
    "the moon": "The moon is slowly moving away from us.",
    "bees": "Bees can dance to show the way.",
    "snails": "A snail can sleep for three years.",
    "the sun": "Light from the sun takes eight minutes.",
    "whales": "The blue whale is the biggest animal.",
    "bananas": "Bananas grow upside down.",
    "cats": "Cats sleep most of the day.",
    "water": "Water covers most of the Earth.",
    "ants": "Ants can carry very heavy things.",
}

IS_FACTS = {
    "the sun": (("hot", "bright", "big"), ("cold", "small", "wet")),
    "ice": (("cold", "frozen"), ("hot", "warm")),
    "fire": (("hot", "dangerous"), ("cold", "wet")),
    "the earth": (("round", "a planet"), ("flat", "a star")),
    "the moon": (("round", "far away"), ("a banana", "made of cheese")),
    "water": (("wet", "clear"), ("dry", "hard")),
    "snow": (("cold", "white"), ("hot", "black")),
    "sugar": (("sweet", "white"), ("sour", "green")),
    "a lemon": (("sour", "yellow", "a fruit"), ("sweet", "blue", "an animal")),
    "a whale": (("an animal", "very big"), ("a fish", "small")),
    "a snail": (("slow", "small"), ("fast", "huge")),
    "a turtle": (("slow", "an animal"), ("fast", "a bird")),
    "a rock": (("hard", "heavy"), ("soft", "alive")),
    "a feather": (("light", "soft"), ("heavy", "hard")),
    "an elephant": (("big", "heavy", "gray"), ("small", "light", "a bird")),
    "a penguin": (("a bird", "cute"), ("a fish", "a mammal")),
    "paris": (("in france", "a city"), ("in spain", "a country")),
    "london": (("in england", "a city"), ("in italy", "a river")),
    "glass": (("clear", "hard"), ("soft", "sweet")),
    "honey": (("sweet", "sticky"), ("sour", "salty")),
}

CAN_FACTS = {
    "a bird": (("fly", "sing"), ("drive", "read")),
    "a fish": (("swim",), ("fly", "walk", "talk")),
    "a dog": (("bark", "run", "swim"), ("fly", "read")),
    "a cat": (("climb", "jump"), ("fly", "talk")),
    "a penguin": (("swim",), ("fly",)),
    "a snake": (("bite",), ("walk", "fly")),
    "a baby": (("cry", "sleep"), ("drive", "cook")),
    "a parrot": (("fly", "talk"), ("cook",)),
    "a horse": (("run", "jump"), ("fly", "swim underwater")),
    "a car": (("drive",), ("swim", "sleep")),
    "a plane": (("fly",), ("swim",)),
    "a kangaroo": (("jump",), ("fly",)),
    "a tree": (("grow",), ("walk", "talk")),
}

SPELLED_WORDS = (
    "cat dog sun moon red blue hat bed cup car bus pen key box fox cow pig hen egg ice sea sky tree fish bird book "
    "milk hand foot nose star ship lion bear frog duck cake rain snow wind fire king ball door road apple house "
    "green water bread music table chair happy light night train green plant"
).split()

REPEAT_ADJECTIVES = (
    "big small red blue green yellow old new happy sad hot cold fast slow little pretty funny quiet loud soft warm "
    "bright dark sweet wild lazy brave clever golden silver"
).split()

REPEAT_NOUNS = (
    "apple arm baby bag ball balloon banana bank basket bath beach bear bed bee bell bike bird boat book bottle bowl "
    "box boy bread bridge brush bucket bus butter button cake camel camera candle car carrot castle cat chair cheese "
    "cherry chicken child circle city clock cloud coat coffee cookie corn cow cup curtain dance day desert desk "
    "dinner doctor dog door dragon dream dress drum duck eagle ear egg elephant engine eye face family farm father "
    "feather field finger fire fish flag flower fly forest fork fox friend frog garden gate ghost girl glass glove "
    "goat gold grape grass guitar hair hammer hand hat heart hill honey horse hospital hotel house ice island jacket "
    "jar jungle key king kitchen kite knee knife ladder lake lamp leaf leg lemon letter lion lunch map market "
    "milk mirror monkey moon morning mother mountain mouse mouth music nail neck needle nest net night nose nurse "
    "ocean office onion orange owl page paint panda paper park party peach pencil penguin pepper piano picture pie "
    "pig pillow pilot pizza plane plant plate pocket pond potato prince queen rabbit radio rain rainbow ring "
    "river road robot rock room rope rose sail salad salt sand school sea shadow sheep ship shirt shoe shop silk "
    "sister "
    "sky smile snake snow soap sock song soup spider spoon spring star station stone storm story street sugar summer "
    "sun table tail tea teacher tiger tower town toy train tree truck tunnel turtle umbrella village violin "
    "wall watch water wheel whistle wind window winter wolf wood yard zebra"
).split()


def with_article(noun: str) -> str:
    """Prefix "a" or "an": "owl" -> "an owl", "hour" -> "an hour"."""
    return f"an {noun}" if noun[0] in "aeiou" or noun == "hour" else f"a {noun}"


def sentence(text: str) -> str:
    """Capitalise the first letter, leaving the rest alone."""
    return text[:1].upper() + text[1:]
