"""The words of a spoken turn: a CTC prefix beam search over the adapter's pieces (Graves and Jaitly 2014, Hannun et al.
2014) with an n-gram model of what people say ("shallow fusion").

The adapter writes the likeliest piece of every 80 ms, a slip of the ears included. What is likely to be said mends most
slips; with the words as found here, read once more before the reply, the LLM need not guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from duplex.core.errors import CheckpointError
from duplex.model.checkpoint_config import WordSearchEntries
from duplex.model.checkpoint_files import write_safetensors
from duplex.model.cpu_kernels import kernel

BEAM_WIDTH = 16  # texts that are kept,
CANDIDATES = 12  # and pieces that each may go on with
_NEVER = -1e30  # a log probability of nothing
_NEGLIGIBLE = -12.0  # a piece of less than this log probability is not tried
_SURELY_BLANK = -1e-4  # and above this, no other is

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Hypotheses = list[Tensor]
"""The texts that a turn may have been so far, the best first: their pieces [texts, longest] and lengths [texts], int32;
log probability where the last position was blank, where it was the last piece, and of the text by the n-gram model with
the bonus, float64 [texts, 3]; state of that model, int32 [texts]; int64 hashes of the pieces [texts]. All on the
CPU. Empty: nothing yet.
"""


class NgramModel:
    """An n-gram model with back-off over pieces (Katz 1987), as states: a state is the pieces before, as far as they count.

    States lie in the order of their lengths, those of one length in that of their pieces; state 0 knows nothing. Entries
    of state s are `first[s]:first[s + 1]`, by piece. What ends a text is the boundary, the number after the last piece; what
    begins one is the state of the boundary alone. Log probabilities are those to be used, whatever smoothed them.
    first: [states + 1]; piece, goes_on (whether state and piece together are a state), log_prob: [entries]; back_off, the log
    weight of the state without its first piece: [states], that of state 0 is the log probability of any other piece.
    """

    def __init__(self, first: Ints, piece: Ints, goes_on: Bools, log_prob: Floats, back_off: Floats) -> None:
        self.first, self.piece, self.goes_on, self.log_prob, self.back_off = first, piece, goes_on, log_prob, back_off
        self._following = np.where(goes_on, np.cumsum(goes_on), -1).astype(np.int32)  # the state after an entry's piece
        self._shorter = np.zeros(len(back_off), np.int32)
        _connect(first, piece, self._following, self._shorter)

    def write(self, path: Path) -> None:
        """Save as safetensors, log probabilities in 16 bits."""
        entries = np.diff(self.first)
        stored = {
            "entries": entries.astype(np.min_scalar_type(entries.max())),
            "piece": self.piece.astype(np.min_scalar_type(self.boundary)),
            "goes_on": self.goes_on,
            "log_prob": self.log_prob.astype(np.float16),
            "back_off": self.back_off.astype(np.float16),
        }
        write_safetensors(path, {name: torch.from_numpy(array) for name, array in stored.items()})

    @classmethod
    def read(cls, path: Path) -> NgramModel:
        """Read what `write` wrote. Raises CheckpointError where it is missing or does not fit together."""
        try:
            stored = {name: tensor.numpy() for name, tensor in load_file(path).items()}
            arrays = [stored[name] for name in ("entries", "piece", "goes_on", "log_prob", "back_off")]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is no n-gram model that can be read: {error}") from error
        if [(array.ndim, array.dtype.kind) for array in arrays] != [(1, kind) for kind in "uubff"]:
            raise CheckpointError(f"{path} is no n-gram model that can be read: its arrays are of other types")
        entries, piece, goes_on, log_prob, back_off = arrays
        first = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])
        if not _fits_together(first, piece := piece.astype(np.int64), goes_on, log_prob, back_off):
            raise CheckpointError(f"{path}: the arrays of the n-gram model do not fit together")
        return cls(
            first.astype(np.int32),
            piece.astype(np.int32),
            goes_on,
            log_prob.astype(np.float32),
            back_off.astype(np.float32),
        )

    @property
    def boundary(self) -> int:
        """What ends a text: the number after the last piece."""
        return int(self.piece[self.first[1] - 1])

    @property
    def beginning(self) -> int:
        """The state before a text."""
        return int(self._following[self.first[1] - 1])

    def log_probability(self, pieces: Sequence[int]) -> float:
        """Of a whole text, its end included."""
        state, total = np.int32(self.beginning), 0.0
        for piece in [*pieces, self.boundary]:
            log_prob, state = _score(state, piece, *self.arrays)
            total += log_prob
        return total

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All of it as the kernels take it."""
        return self.first, self.piece, self.log_prob, self._following, self._shorter, self.back_off


def _fits_together(first: Any, piece: Any, goes_on: Bools, log_prob: Any, back_off: Any) -> bool:
    """Whether the arrays can be those of an NgramModel."""
    states = len(back_off)
    if (
        not len(piece) == len(goes_on) == len(log_prob) == first[-1]
        or len(first) != states + 1
        or goes_on.sum() != states - 1
    ):
        return False
    if not all(np.isfinite(logs).all() and (logs <= 0).all() for logs in (log_prob, back_off)):
        return False
    of_state = np.repeat(np.arange(states), np.diff(first))
    rising = (np.diff(piece) > 0) | (np.diff(of_state) > 0)
    return bool(
        rising.all()
        and first[1] > 0
        and goes_on[first[1] - 1]
        and (np.cumsum(goes_on)[goes_on] > of_state[goes_on]).all()
    )


@dataclass(frozen=True, eq=False)
class WordSearch:
    """Finds the words of turns; holds no turn itself."""

    model: NgramModel
    entries: WordSearchEntries

    @classmethod
    def load(cls, path: Path, entries: WordSearchEntries, pieces: int) -> WordSearch:
        """The search of an adapter that writes so many pieces, its n-gram model from a file. Raises CheckpointError."""
        model = NgramModel.read(path)
        if entries.blank_piece >= pieces:
            raise CheckpointError(f"{path.parent}: blank_piece {entries.blank_piece} is none of the {pieces} pieces")
        if model.boundary != pieces:
            raise CheckpointError(f"{path} is a model of {model.boundary} pieces, the adapter writes {pieces}")
        search = cls(model, entries)
        [begun] = search.advance([[]], torch.zeros(1, 1, pieces))  # compiled now, not in somebody's first turn
        search.best(begun)
        search.boundary_probability(begun)
        return search

    def advance(self, turns: Sequence[Hypotheses], pieces: Tensor) -> list[Hypotheses]:
        """Every turn a few positions further: pieces [turns, positions, pieces] are the adapter's logits."""
        return [self._advance(turn, *row) for turn, *row in zip(turns, *_likeliest(pieces), strict=True)]

    def best(self, hypotheses: Hypotheses) -> list[int]:
        """The likeliest text, if the turn ends here."""
        if not hypotheses:
            return []
        pieces, lengths, scores, states, _ = self._arrays(hypotheses)
        ends = [_score(state, self.model.boundary, *self.model.arrays)[0] for state in states]
        heard = np.logaddexp(scores[:, 0], scores[:, 1]) + scores[:, 2] + self.entries.lm_weight * np.array(ends)
        found = int(heard.argmax())
        text: list[int] = pieces[found, : lengths[found]].tolist()
        return text

    def boundary_probability(self, hypotheses: Hypotheses) -> float:
        """P(the turn is over), after what people say: the mean over the texts it may have been so far."""
        if not hypotheses:
            return 0.0
        _, _, scores, states, _ = self._arrays(hypotheses)
        return float(_boundary_probability(scores, states, self.model.boundary, *self.model.arrays))

    def words(self, pieces: Tensor, lengths: Sequence[int]) -> list[list[int]]:
        """The likeliest texts of whole turns: logits [turns, positions, pieces], of which so many positions are each's."""
        rows = zip(*_likeliest(pieces), lengths, strict=True)
        return [self.best(self._advance([], ids[:length], logs[:length])) for ids, logs, length in rows]

    def _begun(self) -> Hypotheses:
        return [
            torch.zeros(1, 0, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
            torch.tensor([[0.0, _NEVER, 0.0]], dtype=torch.float64),
            torch.full((1,), self.model.beginning, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int64),
        ]

    def _advance(self, turn: Hypotheses, ids: npt.NDArray[np.int64], logs: Floats) -> Hypotheses:
        known, e = self._arrays(turn or self._begun()), self.entries
        further = _advance(ids, logs, e.blank_piece, e.lm_weight, e.insertion_bonus, *known, *self.model.arrays)
        return [torch.from_numpy(array) for array in further]

    def _arrays(self, hypotheses: Hypotheses) -> list[npt.NDArray[Any]]:
        """Hypotheses as the kernels take them. Raises ValueError where they are those of a search with another model."""
        arrays = [tensor.numpy(force=True) for tensor in hypotheses]
        if arrays[3].max() >= len(self.model.back_off):
            raise ValueError("the words of this turn were searched for with another n-gram model")
        return arrays


def _likeliest(pieces: Tensor) -> tuple[npt.NDArray[np.int64], Floats]:
    """The likeliest pieces and their log probabilities, both [..., candidates], of logits [..., pieces]."""
    likeliest = pieces.float().log_softmax(-1).topk(min(CANDIDATES, pieces.shape[-1]))
    return likeliest.indices.cpu().numpy(), likeliest.values.cpu().numpy()


@kernel
def _score(
    state: Any, piece: Any, first: Any, pieces: Any, log_prob: Any, following: Any, shorter: Any, back_off: Any
) -> Any:
    """Log probability of a piece after a state, and the state after it."""
    total = 0.0
    while True:
        low, high = first[state], first[state + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if pieces[middle] < piece:
                low = middle + 1
            else:
                high = middle
        if low < end and pieces[low] == piece:
            return total + log_prob[low], following[low]
        total += back_off[state]
        if state == 0:
            return total, np.int32(0)
        state = shorter[state]


@kernel
def _connect(first: Any, pieces: Any, following: Any, shorter: Any) -> Any:
    """Fill in the states that entries lead to (those that `following` has as -1), and every state's shorter one: both are
    found in shorter states, which come before.
    """
    for state in range(len(shorter)):
        for entry in range(first[state], first[state + 1]):
            found, at = np.int32(0), shorter[state]
            while state > 0:  # an entry of state 0 is one piece alone: without it nothing is left
                place = np.searchsorted(pieces[first[at] : first[at + 1]], pieces[entry]) + first[at]
                if place < first[at + 1] and pieces[place] == pieces[entry]:
                    found = following[place]
                    break
                if at == 0:
                    break
                at = shorter[at]
            if following[entry] < 0:
                following[entry] = found
            else:
                shorter[following[entry]] = found


@kernel
def _either(a: Any, b: Any) -> Any:
    """Log of the sum of two probabilities."""
    high, low = max(a, b), min(a, b)
    return high if low - high < -40.0 else high + math.log1p(math.exp(low - high))


@kernel
def _boundary_probability(
    scores: Any, states: Any, boundary: Any, first: Any, pieces: Any, log_prob: Any, following: Any, shorter: Any, back_off: Any
) -> Any:  # fmt: skip
    """Of texts [n] that are as likely as scores [n, 3] tell, in such states of the n-gram model."""
    total, ends = _NEVER, _NEVER
    for text in range(len(states)):
        likely = _either(scores[text, 0], scores[text, 1]) + scores[text, 2]
        end, _ = _score(states[text], boundary, first, pieces, log_prob, following, shorter, back_off)
        total, ends = _either(total, likely), _either(ends, likely + end)
    return math.exp(ends - total)


@kernel
def _advance(
    ids: Any, logs: Any, blank: Any, weight: Any, bonus: Any, texts: Any, lengths: Any, scores: Any, states: Any, hashes: Any,
    first: Any, piece: Any, log_prob: Any, following: Any, shorter: Any, back_off: Any,
) -> Any:  # fmt: skip
    """Hypotheses after positions whose likeliest pieces and their log probabilities are ids, logs [positions, candidates]."""
    for at in range(len(ids)):
        likely, logs_of = ids[at], logs[at]
        count = len(states)
        blank_log = _NEVER
        for rank in range(len(likely)):
            if likely[rank] == blank:
                blank_log = logs_of[rank]
        if blank_log > _SURELY_BLANK:
            still = scores.copy()
            for text in range(count):
                still[text, 0] = _either(scores[text, 0], scores[text, 1]) + blank_log
                still[text, 1] = _NEVER
            scores = still
            continue
        most = count * (len(likely) + 1)
        source, added = np.empty(most, np.int64), np.empty(most, np.int64)
        new_scores, new_states = np.empty((most, 3), np.float64), np.empty(most, np.int32)
        new_hashes = np.empty(most, np.int64)
        for text in range(count):  # those that stay as they are come first
            last = texts[text, lengths[text] - 1] if lengths[text] else -1
            source[text], added[text] = text, -1
            new_states[text], new_hashes[text] = states[text], hashes[text]
            new_scores[text, 0] = _either(scores[text, 0], scores[text, 1]) + blank_log
            new_scores[text, 1], new_scores[text, 2] = _NEVER, scores[text, 2]
            for rank in range(len(likely)):
                if likely[rank] == last:
                    new_scores[text, 1] = scores[text, 1] + logs_of[rank]
        found = count
        for text in range(count):
            last = texts[text, lengths[text] - 1] if lengths[text] else -1
            for rank in range(len(likely)):
                going_on = likely[rank]
                if going_on == blank or logs_of[rank] < _NEGLIGIBLE:
                    continue
                before = scores[text, 0] if going_on == last else _either(scores[text, 0], scores[text, 1])
                ending = before + logs_of[rank]
                hashed = (hashes[text] + going_on + 1) * np.int64(6364136223846793005) + np.int64(1442695040888963407)
                same = -1
                for other in range(count):
                    if hashes[other] == hashed and lengths[other] == lengths[text] + 1:
                        same = other
                if same >= 0:
                    new_scores[same, 1] = _either(new_scores[same, 1], ending)
                    continue
                gain, state = _score(states[text], going_on, first, piece, log_prob, following, shorter, back_off)
                source[found], added[found], new_states[found], new_hashes[found] = text, going_on, state, hashed
                new_scores[found, 0], new_scores[found, 1] = _NEVER, ending
                new_scores[found, 2] = scores[text, 2] + weight * gain + bonus
                found += 1
        total = np.empty(found, np.float64)
        for text in range(found):
            total[text] = -(_either(new_scores[text, 0], new_scores[text, 1]) + new_scores[text, 2])
        kept = np.argsort(total)[: min(found, BEAM_WIDTH)]
        longest = 0
        for text in kept:
            longest = max(longest, lengths[source[text]] + (1 if added[text] >= 0 else 0))
        new_texts, new_lengths = np.full((len(kept), longest), -1, np.int32), np.empty(len(kept), np.int32)
        for row in range(len(kept)):
            text = kept[row]
            length = lengths[source[text]]
            new_texts[row, :length] = texts[source[text], :length]
            if added[text] >= 0:
                new_texts[row, length] = added[text]
                length += 1
            new_lengths[row] = length
        texts, lengths = new_texts, new_lengths
        scores, states, hashes = new_scores[kept], new_states[kept], new_hashes[kept]
    return texts, lengths, scores, states, hashes
