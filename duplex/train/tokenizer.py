"""The LLM's tokenizer: SentencePiece's unigram model of the world's text, with frequent words whole."""

from __future__ import annotations

import math
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duplex.train.world import all_replies, sample_dialogue

BLANK = "<|blank|>"
AUDIO_START = "<|audio|>"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", BLANK, AUDIO_START, "\n")
ROLE = "You are a friendly voice assistant."
WORD_START = "\u2581"  # of a piece that begins a word
VOCABULARY_ROUNDS = 6  # in which frequent words take the places of rare pieces; the last ones change little

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Take over a tokenizer from one LLM's folder into another's, where token ids are to mean the same."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copy(source / name, target / name)


def make_tokenizer(folder: Path, vocabulary: int, seed: int, dialogues: int) -> None:
    """Train a SentencePiece unigram model on world text and save it as a Hugging Face tokenizer."""
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(seed)
    lines = [ROLE, "user", "assistant", "system"] * 50
    for _ in range(dialogues):
        for turn in sample_dialogue(rng, "train").turns:
            lines += [turn.user, turn.reply]
    lines += all_replies(rng, 5000)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "text.txt"
        text.write_text("\n".join(lines))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(Path(scratch) / "model"),
            vocab_size=vocabulary - len(SPECIALS),
            model_type="unigram",
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            max_sentencepiece_length=12,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(model_file=str(Path(scratch) / "model.model"))
        pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    words = Counter(word for line in lines for word in re.findall(r"[A-Za-z'-]+", line))
    tokenizer = Tokenizer(models.Unigram(with_frequent_words(pieces, words), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": list(SPECIALS[1:])})
    fast.save_pretrained(folder)


def with_frequent_words(pieces: Sequence[tuple[str, float]], words: Counter[str]) -> list[tuple[str, float]]:
    """Let frequent words that a unigram model cuts up take the places of the pieces that are needed least.

    `pieces` are of a unigram model, with their log probabilities, the unknown one first; `words` say how often each is
    said. What has one character stays, so that everything can be written.
    """
    from tokenizers import models

    places = list(pieces)
    for _ in range(VOCABULARY_ROUNDS):  # a piece that goes makes others needed more
        model = models.Unigram(places, unk_id=0)
        cuts = {word: [token.id for token in model.tokenize(WORD_START + word)] for word in words}
        needed = Counter[int]()
        for word, ids in cuts.items():
            needed.update(dict.fromkeys(ids, words[word]))
        free = sorted((i for i in range(1, len(places)) if len(places[i][0]) > 1), key=lambda i: needed[i])
        cut = sorted((word for word, ids in cuts.items() if len(ids) > 1), key=lambda word: (-words[word], word))
        swaps = [(word, place) for word, place in zip(cut, free, strict=False) if words[word] > 2 * needed[place]]
        if not swaps:
            break
        for word, place in swaps:
            places[place] = WORD_START + word, math.log(words[word] / words.total())
    return places
