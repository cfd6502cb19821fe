"""The lexicon of the agent's voice: how flite says every word of the world."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from duplex.model.lexicon import Lexicon
from duplex.train.plans import world_words
from duplex.train.voices import AGENT_VOICE, phones_of

_SILENCE = "pau"


def lexicon_of(words: Iterable[str]) -> Lexicon:
    """Phones of each word, as the agent's voice says it alone. Raises SynthesisError."""
    wanted = sorted({word.lower() for word in words if len(word) > 1})
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for an engine process
        said = pool.map(lambda word: phones_of(word, AGENT_VOICE), wanted)
        found = {
            word: tuple(phone for phone in phones if phone != _SILENCE)
            for word, phones in zip(wanted, said, strict=True)
        }
    return Lexicon(tuple(sorted({phone for phones in found.values() for phone in phones})), found)


def world_lexicon(dialogues: int) -> Lexicon:
    """The lexicon of what users and the agent say in so many dialogues of the world."""
    return lexicon_of(world_words(random.Random(0), dialogues))
