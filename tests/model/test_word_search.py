"""The search for a turn's words, and the n-gram model that it asks."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from duplex.core.errors import CheckpointError
from duplex.model.checkpoint_config import WordSearchEntries
from duplex.model.word_search import NgramModel, WordSearch
from duplex.train.word_model import ngram_model

BLANK = 0
ENTRIES = WordSearchEntries(blank_piece=BLANK, language_weight=0.7, piece_bonus=0.4)


def texts(pieces: int, count: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1, pieces) for _ in range(rng.randint(1, 5))] for _ in range(count)]


def search_of(pieces: int, said: list[list[int]], entries: WordSearchEntries = ENTRIES) -> WordSearch:
    return WordSearch(ngram_model(said, pieces), entries)


def logits_of(path: list[dict[int, float]], pieces: int) -> torch.Tensor:
    """Probabilities by position as logits [positions, pieces], the rest of each shared out."""
    rows = torch.full((len(path), pieces), 1e-4)
    for row, likely in zip(rows, path, strict=True):
        for piece, probability in likely.items():
            row[piece] = probability
    return rows.log()


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(piece for piece, _ in itertools.groupby(path) if piece != BLANK)


@pytest.mark.parametrize("seed", range(12))
def test_the_best_of_all_texts_is_found(seed: int) -> None:
    """Against every alignment of every text, two pieces and three positions: no more texts than are kept."""
    search = search_of(3, texts(3, 20, seed))
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)) * 2
    log_probs = logits.double().log_softmax(-1)
    heard: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=3):
        likely = float(log_probs[range(3), path].sum())
        text = collapsed(path)
        heard[text] = np.logaddexp(heard.get(text, -np.inf), likely)
    total = {
        text: likely + 0.7 * search.model.log_probability(text) + 0.4 * len(text) for text, likely in heard.items()
    }
    assert search.words(logits) == list(max(total, key=lambda text: total[text]))


def test_a_slip_that_nobody_says_is_mended() -> None:
    said = [[1, 2, 3]] * 20 + [[4, 2, 1]] * 20
    slip = logits_of([{1: 0.9}, {BLANK: 0.9}, {2: 0.9}, {4: 0.5, 3: 0.4}], 5)
    assert search_of(5, said).words(slip) == [1, 2, 3]
    alone = WordSearchEntries(blank_piece=BLANK, language_weight=0.0, piece_bonus=0.0)
    assert search_of(5, said, alone).words(slip) == [1, 2, 4]


def test_a_piece_that_is_said_twice_needs_a_blank_between() -> None:
    search = search_of(3, [[1, 1], [1]])
    assert search.words(logits_of([{1: 0.99}, {1: 0.99}], 3)) == [1]
    assert search.words(logits_of([{1: 0.99}, {BLANK: 0.99}, {1: 0.99}], 3)) == [1, 1]


def test_chunks_of_several_turns_are_searched_as_the_whole_turns_are() -> None:
    search = search_of(40, texts(40, 300, 1))
    turns = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(2)) * 3
    turns[:, ::3, BLANK] += 12
    known: list[list[torch.Tensor]] = [[], [], []]
    for at in range(0, 24, 2):
        before = [[tensor.clone() for tensor in turn] for turn in known]
        further = search.advance(known, turns[:, at : at + 2])
        for turn, kept in zip(known, before, strict=True):  # a withdrawn reply goes back to them
            assert all(map(torch.equal, turn, kept))
        known = further
    found = [search.best(turn) for turn in known]
    assert found == [search.words(turn) for turn in turns]
    assert all(len(text) > 4 for text in found)


def test_nothing_said_is_no_text() -> None:
    search = search_of(4, texts(4, 30, 3))
    assert search.best([]) == []
    assert search.words(logits_of([{BLANK: 0.9999999}] * 5, 4)) == []


def test_probabilities_of_what_may_follow_sum_to_one() -> None:
    model = ngram_model(texts(9, 60, 4), 9)
    assert model.boundary == 9
    contexts = [[], [1], [1, 2], [1, 2, 3], [8, 8, 8, 8]]
    for context in contexts:
        # of a text that goes on with each piece or ends: the ends of all of these are divided out again
        going_on = [
            model.log_probability([*context, piece]) - _of_the_end(model, [*context, piece]) for piece in range(9)
        ]
        before = model.log_probability(context) - _of_the_end(model, context)
        assert np.exp([*going_on, model.log_probability(context)]).sum() == pytest.approx(np.exp(before), rel=1e-4)


def _of_the_end(model: NgramModel, text: list[int]) -> float:
    """Log probability that a text ends after these pieces, by every context that was counted."""
    first, pieces, log_prob, following, shorter, back_off = model.arrays
    state, total = model.beginning, 0.0
    for piece in [*text, model.boundary]:
        total = 0.0
        while not len(found := np.flatnonzero(pieces[first[state] : first[state + 1]] == piece)):
            total += float(back_off[state])
            if state == 0:
                break
            state = int(shorter[state])
        else:
            at = first[state] + found[0]
            total, state = total + float(log_prob[at]), int(following[at])
    return total


def test_after_a_piece_comes_the_longest_context_that_was_counted() -> None:
    said = texts(6, 40, 7)
    model = ngram_model(said, 6)
    counted = {
        tuple(whole[i:j])
        for text in said
        for whole in [[6, *text]]
        for i in range(len(whole))
        for j in range(i, min(i + 3, len(whole)) + 1)
    }
    states = sorted(counted, key=lambda pieces: (len(pieces), pieces))
    first, pieces, _, following, shorter, _ = model.arrays
    assert len(states) == len(shorter)

    def longest(end: tuple[int, ...]) -> int:
        return states.index(next(end[at:] for at in range(len(end) + 1) if end[at:] in counted and len(end[at:]) <= 3))

    for number, context in enumerate(states):
        assert shorter[number] == (longest(context[1:]) if context else 0)
        for at in range(first[number], first[number + 1]):
            if pieces[at] != 6:
                assert following[at] == longest((*context, int(pieces[at])))


def test_what_was_said_is_likelier_than_what_was_not() -> None:
    model = ngram_model([[1, 2, 3], [1, 2, 4], [5, 2, 3]], 8)
    likely = model.log_probability
    assert likely([1, 2, 3]) > likely([1, 2, 5]) > likely([1, 7, 5])
    assert likely([1, 2, 3]) > likely([3, 2, 1])


def test_a_model_is_kept_in_a_file(tmp_path: Path) -> None:
    model = ngram_model(texts(9, 60, 5), 9)
    path = tmp_path / "ngrams.safetensors"
    model.write(path)
    search = WordSearch.load(path, ENTRIES, 9)
    for text in ([1, 2], [8], []):
        assert search.model.log_probability(text) == pytest.approx(model.log_probability(text), abs=0.02)
    with pytest.raises(CheckpointError, match="model of 9 pieces, the adapter writes 10"):
        WordSearch.load(path, ENTRIES, 10)
    with pytest.raises(CheckpointError, match="blank_piece 9 is none of the 9 pieces"):
        WordSearch.load(path, ENTRIES.model_copy(update={"blank_piece": 9}), 9)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ngrams.safetensors"
    with pytest.raises(CheckpointError, match="no n-gram model that can be read"):
        NgramModel.read(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="no n-gram model that can be read"):
        NgramModel.read(path)
    whole = ngram_model(texts(9, 60, 6), 9)
    whole.write(path)
    tensors = load_file(path)
    for broken in (
        {"entries": tensors["entries"][:-1]},
        {"entries": tensors["entries"][::-1].copy()},
        {"piece": tensors["piece"][::-1].copy()},
        {"goes_on": ~tensors["goes_on"]},
        {"goes_on": tensors["goes_on"][::-1].copy()},
        {"log_prob": tensors["log_prob"][1:]},
        {"back_off": tensors["back_off"][1:]},
        {name: tensor[:0] for name, tensor in tensors.items()},
    ):
        save_file(tensors | broken, path)
        with pytest.raises(CheckpointError, match="do not fit together"):
            NgramModel.read(path)
    del tensors["piece"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="no n-gram model that can be read"):
        NgramModel.read(path)
