"""How words are said, for a speech decoder that reads symbols: phones where a lexicon has the word, else its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from duplex.core.errors import CheckpointError
from duplex.core.spoken import numbers_in_words

BYTES = 256  # the first symbols are the bytes of a text's UTF-8 form; phones follow
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True)
class Lexicon:
    """phones: their names, in the order of their symbols; words: lower-case words as phones. Empty: letters alone."""

    phones: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def symbols(self) -> int:
        """How many symbols there are."""
        return BYTES + len(self.phones)

    def symbols_of(self, text: str, spelled: Callable[[], bool] = lambda: False) -> list[int]:
        """Symbol ids of a text, its numbers in words. Marks and gaps stay bytes; `spelled` is asked for each known word whether it does too.

        A letter alone is no word: in "A, B." it is spelled, and nothing but the text around it tells.
        """
        text = numbers_in_words(text)
        ids: list[int] = []
        done = 0
        for found in _WORD.finditer(text):
            phones = self.words.get(found.group().lower()) if len(found.group()) > 1 else None
            if phones is None or spelled():
                continue
            ids += text[done : found.start()].encode()
            ids += [BYTES + self.phones.index(phone) for phone in phones]
            done = found.end()
        return ids + list(text[done:].encode())

    def write(self, path: Path) -> None:
        """Write it as JSON: {"phones": ["aa", ...], "words": {"phone": "f ow n", ...}}."""
        words = {word: " ".join(phones) for word, phones in sorted(self.words.items())}
        path.write_text(json.dumps({"phones": self.phones, "words": words}, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """Read what `write` wrote. Raises CheckpointError naming the file and the word."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            phones = tuple(str(phone) for phone in content["phones"])
            words = {str(word): tuple(said.split()) for word, said in content["words"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is no lexicon: {error!r}") from error
        for word, said in words.items():
            if not said or not set(said) <= set(phones):
                raise CheckpointError(f"{path}: {word!r} is said {' '.join(said)!r}, which are not all phones")
        return cls(phones, words)
