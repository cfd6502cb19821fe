"""Accents that nobody has, for espeak's voices: what they say is written in its notation of English phonemes."""

import random
import re

ACCENTS = 1_000_000  # how many there are; 0 is a voice's own
_VOWELS_MOVED = (0.1, 0.6)  # from light accents to heavy ones
_CONSONANTS_MOVED = 0.12


def _table(lines: str) -> dict[str, list[str]]:
    rows = (line.split() for line in lines.strip().splitlines())
    return {sound: [other.strip("-") for other in others] for sound, *others in rows}


# A sound, and what accents make of it ("-": nothing at all).
_VOWELS = _table("""
    a aa E a: A:
    aa a E a:
    A: a: O: 0 a
    0 O O: A: a
    E e I a
    I i E @ e
    I2 i @ I
    i I i: e
    i: i I e:
    V a @ U E O
    U u u: V
    u: U u i: oU
    O: O o: 0 A:
    3: e: E@ IR V U@
    3 @ V a#
    @ V a# E
    a# @ a E
    @2 i V
    eI e: E aI i@
    aI a: OI eI VI
    aU u: O: VU a:
    OI aI O: oI
    oU o: O: @U u:
    e@ E: e: i@
    i@ i: e@
    i@3 i:@ e@
    aI@ a: aIa#
    A@ A:r a:r a: A:
    O@ O:r o: O:
    o@ o:r O: U@
    U@ u:r O: o@
    @L El Ul @l
    e E eI
    o O oU
    o: oU O:
    aI3 a: aIa#
""")
_CONSONANTS = _table("""
    T t f s
    D d z v
    N n
    h -
    v w f
    w v
    z s
""")
_KEPT = ("tS", "dZ", "t#", "t[", "r-")  # one sound, not its first letter's and another
_SOUND = re.compile("|".join(map(re.escape, sorted([*_VOWELS, *_CONSONANTS, *_KEPT], key=len, reverse=True))))


def accented(phonemes: str, accent: int) -> str:
    """Phonemes in espeak's notation as someone says them whose vowels, and a few consonants, moved to a neighbour.

    What moves where depends on `accent` alone. So do the Scots' and Barbadians' differ from the Londoners', and a
    recogniser that has heard thousands of such accents follows one that it has not.
    """
    rng = random.Random(accent)
    vowels_moved = rng.uniform(*_VOWELS_MOVED)
    said = {
        sound: rng.choice(others)
        for table, share in ((_VOWELS, vowels_moved), (_CONSONANTS, _CONSONANTS_MOVED))
        for sound, others in table.items()
        if rng.random() < share
    }
    return _SOUND.sub(lambda found: said.get(found.group(), found.group()), phonemes)
