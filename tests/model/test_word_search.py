"""The search for a turn's words, and the n-gram model that it asks."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from duplex.core.errors import CheckpointError
from duplex.model.checkpoint_config import WordSearchEntries
from duplex.model.word_search import BEAM_WIDTH, NgramModel, WordSearch, _score
from duplex.train.word_model import ORDER, ngram_model

BLANK = 0
ENTRIES = WordSearchEntries(blank_piece=BLANK, lm_weight=0.7, insertion_bonus=0.4)


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


def found(search: WordSearch, logits: torch.Tensor) -> list[int]:
    """The words of one turn, logits [positions, pieces]."""
    [words] = search.words(logits[None], [len(logits)])
    return words


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(piece for piece, _ in itertools.groupby(path) if piece != BLANK)


def all_that_may_be_heard(seed: int) -> tuple[torch.Tensor, dict[tuple[int, ...], float]]:
    """Random logits of two pieces at three positions, and by every alignment the log probability of every text that may
    have been said: no more texts than are kept.
    """
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)) * 2
    log_probs = logits.double().log_softmax(-1)
    heard: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=3):
        likely = float(log_probs[range(3), path].sum())
        text = collapsed(path)
        heard[text] = np.logaddexp(heard.get(text, -np.inf), likely)
    return logits, heard


@pytest.mark.parametrize("seed", range(12))
def test_the_best_of_all_texts_is_found(seed: int) -> None:
    search = search_of(3, texts(3, 20, seed))
    logits, heard = all_that_may_be_heard(seed)
    total = {
        text: likely + 0.7 * search.model.log_probability(text) + 0.4 * len(text) for text, likely in heard.items()
    }
    assert found(search, logits) == list(max(total, key=lambda text: total[text]))


def test_a_slip_that_nobody_says_is_mended() -> None:
    said = [[1, 2, 3]] * 20 + [[4, 2, 1]] * 20
    slip = logits_of([{1: 0.9}, {BLANK: 0.9}, {2: 0.9}, {4: 0.5, 3: 0.4}], 5)
    assert found(search_of(5, said), slip) == [1, 2, 3]
    alone = WordSearchEntries(blank_piece=BLANK, lm_weight=0.0, insertion_bonus=0.0)
    assert found(search_of(5, said, alone), slip) == [1, 2, 4]


def test_a_piece_that_is_said_twice_needs_a_blank_between() -> None:
    search = search_of(3, [[1, 1], [1]])
    assert found(search, logits_of([{1: 0.99}, {1: 0.99}], 3)) == [1]
    assert found(search, logits_of([{1: 0.99}, {BLANK: 0.99}, {1: 0.99}], 3)) == [1, 1]
    assert found(search, torch.tensor([[-9.0, 9, -9], [30, -9, -9], [-9, 9, -9]])) == [1, 1]  # surely a blank


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
    words = [search.best(turn) for turn in known]
    assert words == search.words(turns, [24, 24, 24])
    assert all(len(text) > 4 for text in words)
    assert search.words(turns, [24, 10, 0]) == [words[0], found(search, turns[1, :10]), []]


@pytest.mark.parametrize("seed", range(4))
def test_the_end_is_as_likely_as_it_is_on_average_over_the_texts(seed: int) -> None:
    search = search_of(3, texts(3, 20, seed))
    logits, heard = all_that_may_be_heard(seed)
    total = over = 0.0
    for text, likely in heard.items():
        prefix = log_probability_of_prefix(search, text)
        weight = math.exp(likely + ENTRIES.lm_weight * prefix + ENTRIES.insertion_bonus * len(text))
        total += weight
        over += weight * math.exp(search.model.log_probability(text) - prefix)
    [hypotheses] = search.advance([[]], logits[None])
    assert search.boundary_probability(hypotheses) == pytest.approx(over / total, rel=1e-4)


def log_probability_of_prefix(search: WordSearch, pieces: tuple[int, ...]) -> float:
    state, total = np.int32(search.model.beginning), 0.0
    for piece in pieces:
        log_prob, state = _score(state, piece, *search.model.arrays)
        total += log_prob
    return total


def test_a_turn_that_has_not_begun_is_not_over() -> None:
    search = search_of(3, [[1, 2]])
    assert search.boundary_probability([]) == 0.0


def test_nothing_said_is_no_text() -> None:
    search = search_of(4, texts(4, 30, 3))
    assert search.best([]) == []
    assert found(search, logits_of([{BLANK: 0.9999999}] * 5, 4)) == []


def smoothed(said: list[list[int]], pieces: int) -> Callable[[tuple[int, ...], int], float]:
    """Witten and Bell's probability of a piece, of `pieces` and the boundary, after a context, by its own recursion."""
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for text in said:
        whole = [pieces, *text, pieces]
        for at in range(1, len(whole)):
            for before in range(min(at, ORDER - 1) + 1):
                counts.setdefault(tuple(whole[at - before : at]), Counter())[whole[at]] += 1

    def probability(context: tuple[int, ...], piece: int) -> float:
        context = context[-(ORDER - 1) :]
        shorter = probability(context[1:], piece) if context else 1 / (pieces + 1)
        if context not in counts:
            return shorter
        after = counts[context]
        return (after[piece] + len(after) * shorter) / (after.total() + len(after))

    return probability


def test_probabilities_are_witten_and_bells() -> None:
    said = texts(9, 60, 4)
    model, probability = ngram_model(said, 9), smoothed(said, 9)
    assert model.boundary == 9
    assert sum(probability((9, 1, 2), piece) for piece in range(10)) == pytest.approx(1)
    for text in [*said[:10], *texts(9, 30, 5), [], [0], [8, 8, 8, 8, 8]]:
        whole = [9, *text, 9]
        wanted = sum(math.log(probability(tuple(whole[:at]), whole[at])) for at in range(1, len(whole)))
        assert model.log_probability(text) == pytest.approx(wanted, abs=1e-4)


def plain_search(logits: torch.Tensor, search: WordSearch, width: int) -> list[int]:
    """Prefix beam search over dictionaries, every prefix scored as a whole, no candidate left out."""
    weight, bonus = search.entries.lm_weight, search.entries.insertion_bonus
    first, pieces, log_prob, following, shorter, back_off = search.model.arrays

    def by_model(prefix: tuple[int, ...], *, ended: bool) -> float:
        state, total = search.model.beginning, 0.0
        for piece in [*prefix, *([search.model.boundary] if ended else [])]:
            while piece not in pieces[first[state] : first[state + 1]]:
                total += back_off[state]
                if state == 0:
                    break
                state = shorter[state]
            else:
                at = first[state] + list(pieces[first[state] : first[state + 1]]).index(piece)
                total, state = total + log_prob[at], following[at]
        return weight * float(total) + bonus * len(prefix)

    beam = {(): (0.0, -np.inf)}
    for row in logits.double().log_softmax(-1).tolist():
        after: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix: tuple[int, ...], blank: float, piece: float, after: Any = after) -> None:
            known = after.get(prefix, (-np.inf, -np.inf))
            after[prefix] = (np.logaddexp(known[0], blank), np.logaddexp(known[1], piece))

        for prefix, (blank, piece) in beam.items():
            either = np.logaddexp(blank, piece)
            add(prefix, either + row[BLANK], piece + row[prefix[-1]] if prefix else -np.inf)
            for new in range(1, len(row)):
                add((*prefix, new), -np.inf, (blank if prefix[-1:] == (new,) else either) + row[new])
        order = sorted(after, key=lambda prefix: np.logaddexp(*after[prefix]) + by_model(prefix, ended=False))
        beam = {prefix: after[prefix] for prefix in order[-width:]}
    return list(max(beam, key=lambda prefix: np.logaddexp(*beam[prefix]) + by_model(prefix, ended=True)))


@pytest.mark.parametrize("seed", range(8))
def test_a_long_turn_is_searched_as_a_plain_search_does(seed: int) -> None:
    """More texts than are kept, unsure pieces, sure blanks between."""
    search = search_of(8, texts(8, 60, seed))
    logits = torch.randn(24, 8, generator=torch.Generator().manual_seed(seed)) * 2.5
    logits[::4, BLANK] += 25
    assert found(search, logits) == plain_search(logits, search, BEAM_WIDTH)


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
        {"log_prob": np.where(tensors["log_prob"] > -1, np.float16("nan"), tensors["log_prob"])},
        {"back_off": -tensors["back_off"]},
        {"goes_on": moved(tensors["goes_on"], int(tensors["entries"][0]) - 1, -1)},  # nothing begins a text
        {"goes_on": moved(tensors["goes_on"], 0, -1)},  # a state comes before what leads to it
        {"entries": np.concatenate([[0, tensors["entries"][:2].sum()], tensors["entries"][2:]]).astype(np.uint16)},
    ):
        save_file(tensors | broken, path)
        with pytest.raises(CheckpointError, match="do not fit together"):
            NgramModel.read(path)
    for other in (
        {"log_prob": tensors["log_prob"][None]},
        {"entries": tensors["entries"].astype(np.float32)},
        {"piece": tensors["piece"].astype(np.int64)},
    ):
        save_file(tensors | other, path)
        with pytest.raises(CheckpointError, match="no n-gram model that can be read"):
            NgramModel.read(path)
    del tensors["piece"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="no n-gram model that can be read"):
        NgramModel.read(path)


def moved(flags: np.ndarray, source: int, target: int) -> np.ndarray:
    """The same with a flag taken away and the first entry from `target` on that has none given one."""
    changed = flags.copy()
    assert changed[source]
    free = np.flatnonzero(~flags)[target]
    changed[source], changed[free] = False, True
    return changed


def test_words_of_another_model_are_refused() -> None:
    large, small = search_of(40, texts(40, 300, 1)), search_of(40, texts(40, 3, 2))
    [turn] = large.advance([[]], torch.randn(1, 6, 40, generator=torch.Generator().manual_seed(1)) * 5)
    with pytest.raises(ValueError, match="another n-gram model"):
        small.best(turn)
    with pytest.raises(ValueError, match="another n-gram model"):
        small.advance([turn], torch.zeros(1, 2, 40))


def test_a_vocabulary_of_a_large_llm_fits_in_the_file(tmp_path: Path) -> None:
    model = ngram_model([[70_000, 3], [3]], 152_000)
    model.write(tmp_path / "ngrams.safetensors")
    again = NgramModel.read(tmp_path / "ngrams.safetensors")
    assert again.boundary == 152_000
    assert again.log_probability([70_000, 3]) == pytest.approx(model.log_probability([70_000, 3]), abs=0.02)
