"""An independent recogniser that judges synthetic speech: pocketsphinx, if wanted with a language model of a small world."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duplex.audio.pcm import Float32, resample
from duplex.core.words import plain_words, word_errors

RATE = 16000  # Hz, what pocketsphinx's en-us model hears
MARGIN_SAMPLES = 4000  # silence around what is to be recognised
FRAMES_PER_SEC = 100  # of pocketsphinx
FILLERS = ("SIL", "+NSN+", "+SPN+")
ORDER = 3
DISCOUNT = 0.5
BACKOFF_FLOOR = 1e-4  # share of the mass kept for unseen words where a history was always followed by one
START, END = "<s>", "</s>"

WordErrors = tuple[int, int]  # errors, reference words


def arpa(sentences: Iterable[str], order: int = ORDER) -> str:
    """A back-off language model of these sentences in ARPA format, by absolute discounting (Ney et al. 1994)."""
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 1)]
    for sentence in sentences:
        words = [START, *plain_words(sentence).split(), END]
        for n in range(1, order + 1):
            counts[n].update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    del counts[1][(START,)]
    total = sum(counts[1].values())
    probability: dict[tuple[str, ...], float] = {gram: count / total for gram, count in counts[1].items()}
    probability[(START,)] = 0.0
    backoff: dict[tuple[str, ...], float] = {}
    for n in range(2, order + 1):
        followers: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for gram in counts[n]:
            followers.setdefault(gram[:-1], []).append(gram)
        for history, grams in followers.items():
            seen = sum(counts[n][gram] for gram in grams)
            for gram in grams:
                probability[gram] = (counts[n][gram] - DISCOUNT) / seen
            left = DISCOUNT * len(grams) / seen
            lower = 1.0 - sum(probability.get(gram[1:], 0.0) for gram in grams)
            backoff[history] = left / max(lower, BACKOFF_FLOOR)
    lines = ["\\data\\", *(f"ngram {n}={sum(len(gram) == n for gram in probability)}" for n in range(1, order + 1))]
    for n in range(1, order + 1):
        lines += ["", f"\\{n}-grams:"]
        for gram, value in sorted(item for item in probability.items() if len(item[0]) == n):
            tail = f"\t{math.log10(backoff[gram]):.4f}" if gram in backoff else ""
            lines.append(f"{math.log10(value) if value else -99.0:.4f}\t{' '.join(gram)}{tail}")
    return "\n".join([*lines, "", "\\end\\", ""])


class Aligner:
    """pocketsphinx's en-us acoustic model, told what is said: when does it hear which phone?"""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(loglevel="FATAL")

    def phones(self, text: str, pcm: Float32, rate: int) -> list[tuple[str, float]]:
        """Every phone of `text` in a recording, float32 [samples] at `rate` Hz, and how many seconds it lasts.

        Empty where the text does not fit or holds a word that the dictionary does not know.
        """
        raw = _raw(pcm, rate)
        words = plain_words(text)
        if not words or any(self._decoder.lookup_word(word) is None for word in words.split()):
            return []
        try:
            self._decoder.set_align_text(words)
            _decode(self._decoder, raw)
            if self._decoder.hyp() is None:
                return []
            self._decoder.set_alignment()  # of what was found, by phones
            _decode(self._decoder, raw)
        except RuntimeError:  # it came to the end of the recording before that of the text
            return []
        phones = [phone for word in self._decoder.get_alignment() or () for phone in word]
        return [(phone.name, phone.duration / FRAMES_PER_SEC) for phone in phones if phone.name not in FILLERS]


def _raw(pcm: Float32, rate: int) -> bytes:
    wave = np.clip(resample(pcm, rate, RATE), -1.0, 1.0)
    return (np.pad(wave, MARGIN_SAMPLES) * 32767).astype(np.int16).tobytes()


# A decoder begins a recording with the best densities of the last one's end, and may hear other words for it; so there is
# always the same before.
_FORGOTTEN_OVER = bytes(RATE)  # half a second of silence


def _decode(decoder: Any, raw: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(raw, full_utt=True)
    decoder.end_utt()


class Recogniser:
    """pocketsphinx's en-us acoustic model, with its own language model or one of `sentences`."""

    def __init__(self, sentences: Sequence[str] = ()) -> None:
        from pocketsphinx import Decoder

        options: dict[str, Any] = {"loglevel": "FATAL"}
        if not sentences:
            self._decoder = Decoder(**options)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "world.lm"
            path.write_text(arpa(sentences), encoding="utf-8")
            self._decoder = Decoder(lm=str(path), **options)

    def hear(self, pcm: Float32, rate: int) -> str:
        """The words in a recording, float32 [samples] at `rate` Hz, whatever was heard before it."""
        _decode(self._decoder, _FORGOTTEN_OVER)
        _decode(self._decoder, _raw(pcm, rate))
        best = self._decoder.hyp()
        return re.sub(r"\(\d+\)", "", best.hypstr) if best else ""

    def word_errors(self, spoken: Iterable[tuple[str, Float32, int]]) -> list[WordErrors]:
        """Word errors and reference words of every (text, audio, rate); none of a text without words."""
        return [word_errors(text, self.hear(pcm, rate)) if plain_words(text) else (0, 0) for text, pcm, rate in spoken]

    def word_error_rate(self, spoken: Iterable[tuple[str, Float32, int]]) -> float | None:
        """Word errors a reference word over (text, audio, rate), texts without words left out; None of nothing."""
        return error_rate(self.word_errors(spoken))


def error_rate(counts: Iterable[tuple[float, int]]) -> float | None:
    """Errors a reference word over all; None without words."""
    wrong, words = map(sum, zip((0.0, 0), *counts, strict=True))
    return round(wrong / words, 4) if words else None
