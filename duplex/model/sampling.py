"""Choosing the next token: text tokens by temperature, top-k, top-p; codec tokens by top-k and a repetition penalty.

Every session has its own seeded generator, so that a conversation can be repeated whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from duplex.core.types import SamplingParams

MINUS_INFINITY = float("-inf")


def distribution(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities [rows, vocab] of logits [rows, vocab]: temperature, then top-k, then top-p (fixture quirk 8).

    `top_k` 0 is off. `top_p` 0 and 1 are off; between, the token that crosses the threshold is dropped as well
    (.5/.4/.1 at 0.8 keeps only the first), but never the most likely one. Nucleus sampling is arXiv 1904.09751.
    Raises ValueError unless `temperature` is positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    logits = logits.float() / temperature
    if 0 < top_k < logits.shape[-1]:
        weakest = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < weakest, MINUS_INFINITY)
    if 0 < top_p < 1:
        ordered, indices = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        drop = ordered.cumsum(dim=-1) > top_p
        drop[..., 0] = False
        logits = logits.masked_fill(drop.scatter(-1, indices, drop), MINUS_INFINITY)
    return logits.softmax(dim=-1)


def _generator(seed: int | None) -> torch.Generator:
    """On the CPU whatever the device, so that equal seeds give equal draws everywhere."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _draw(probs: Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(probs.cpu(), 1, generator=generator))


class TextSampler:
    """Samples the text tokens of one session. Not shared between threads."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._generator = _generator(params.seed)

    def sample(self, logits: Tensor) -> int:
        """A token id from logits [vocab]; the most likely one when top_k is 1 or the temperature 0."""
        params = self.params
        if params.top_k == 1 or params.temperature == 0:
            return int(logits.argmax())
        probs = distribution(logits[None], params.temperature, params.top_k, params.top_p)
        return _draw(probs[0], self._generator)


class CodeSampler:
    """Samples the codec tokens of one session.

    penalty, penalty_window: a code's logit is lowered once per occurrence among the last `penalty_window` codes;
    off when the window is negative, as in the official server.json.
    reference_penalty: divide whatever the sign, which raises negative logits as the reference does (fixture
    quirk 11); otherwise negative logits are multiplied (after CTRL, arXiv 1909.05858).
    barred: ids never chosen; bos, sos and pad would index outside the codebook (quirk 10).
    """

    def __init__(
        self,
        top_k: int,
        penalty: float,
        penalty_window: int,
        seed: int | None,
        *,
        reference_penalty: bool = False,
        barred: tuple[int, ...] = (),
    ) -> None:
        self.top_k = top_k
        self.penalty = penalty
        self.penalty_window = penalty_window
        self.reference_penalty = reference_penalty
        self._barred = torch.tensor(barred, dtype=torch.long)
        self._generator = _generator(seed)

    def sample(self, logits: Tensor, history: Sequence[int]) -> int:
        """A code from logits [codes + 4], given the codes sampled before in this segment."""
        logits = self.adjusted(logits, history)
        if self.top_k == 1:
            return int(logits.argmax())
        return _draw(distribution(logits[None], 1.0, self.top_k, 0.0)[0], self._generator)

    def adjusted(self, logits: Tensor, history: Sequence[int]) -> Tensor:
        """The logits after bar and penalty, float32 on the CPU."""
        logits = logits.float().cpu().clone()
        logits[self._barred] = MINUS_INFINITY
        if self.penalty_window > 0:
            for code in history[-self.penalty_window :]:
                raising = self.reference_penalty or bool(logits[code] > 0)
                logits[code] = logits[code] / self.penalty if raising else logits[code] * self.penalty
        return logits
