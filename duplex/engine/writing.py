"""Writing a reply: text tokens from the LLM, cut into segments that can be spoken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from duplex.core.errors import BranchOverflowError
from duplex.engine.failures import attempt, batched, restored_on_error
from duplex.engine.states import TorchReplyState
from duplex.engine.steps import ReplyResult, ReplyStep, StepFailure
from duplex.engine.trace import Trace
from duplex.model.caches import Branch, BranchPool
from duplex.model.checkpoint import DuplexModel
from duplex.model.checkpoint_config import Refusal
from duplex.model.segmenter import Segment


@dataclass
class _Writing:
    """How far one step has come; `first_token`, `first_char`: where it began in the reply."""

    step: ReplyStep
    state: TorchReplyState
    first_token: int
    first_char: int
    segments: list[Segment] = field(default_factory=list)
    failure: StepFailure | None = None

    @classmethod
    def begin(cls, step: ReplyStep) -> _Writing:
        state = cast(TorchReplyState, step.state)
        state.segmenter.spoken = step.spoken
        return cls(step, state, len(state.tokens), len(state.text))

    @property
    def goes_on(self) -> bool:
        if self.failure is not None or self.state.finished or self.segments:
            return False
        return len(self.state.tokens) - self.first_token < self.step.max_tokens

    def note(self, completed: list[Segment] | StepFailure) -> None:
        """What came of one token. A reply whose memory is full ends there, and what it has written is said."""
        if not isinstance(completed, StepFailure):
            self.segments += completed
        elif isinstance(completed.error, BranchOverflowError) and self.state.started:
            self.state.finished = True
            self.segments += self.state.end()
        else:
            self.failure = completed

    def result(self) -> ReplyResult | StepFailure:
        if self.failure is not None:
            return self.failure
        state = self.state
        tokens, text = tuple(state.tokens[self.first_token :]), state.text[self.first_char :]
        return ReplyResult(tokens, text, tuple(self.segments), state.finished, self.step.branch.length)


@dataclass(frozen=True)
class _RefusalTrial:
    """A refusal, to be read by the LLM behind what opens a reply: its tokens with their text, the end of the turn
    included, and the embeddings [tokens - 1, hidden] that all but the first are predicted from.
    """

    tokens: Sequence[tuple[int, str]]
    input: Tensor
    from_probability: float

    def is_likely(self, logits: Tensor) -> bool:
        """By logits [tokens, vocab], each at the position that predicts one of the tokens."""
        tokens = torch.tensor([token for token, _ in self.tokens], device=logits.device)
        likelihood = logits.log_softmax(dim=-1).gather(-1, tokens[:, None]).sum()
        return float(likelihood) >= math.log(self.from_probability)


class TextWriter:
    """The text side of one checkpoint's replies: several at a time, token by token."""

    def __init__(self, model: DuplexModel, branches: BranchPool, trace: Trace | None) -> None:
        self._model = model
        self._llm = model.llm
        self._branches = branches
        self._trace = trace
        with torch.inference_mode():
            self._suffix = self._llm.embed(model.chat.suffix)
            self._refusal = None if model.refusal is None else self._new_trial(model.refusal)

    def tokens_of(self, text: str) -> list[tuple[int, str]]:
        """The tokens of a whole reply, the end of the turn included, each with its part of the text."""
        return [*self._llm.encode_parts(self._llm.escaped(text)), (self._model.chat.end_of_turn, "")]

    def _new_trial(self, refusal: Refusal) -> _RefusalTrial:
        tokens = self.tokens_of(refusal.text)
        return _RefusalTrial(tokens, self._llm.embed([token for token, _ in tokens[:-1]]), refusal.from_probability)

    @torch.inference_mode()
    def write(self, steps: Sequence[ReplyStep]) -> list[ReplyResult | StepFailure]:
        """Each reply a little further; one that fails drops out, the others keep all they have written."""
        writings = [_Writing.begin(step) for step in steps]
        while active := [writing for writing in writings if writing.goes_on]:
            for writing, predicted in zip(active, batched(active, self._predict), strict=True):
                if isinstance(predicted, StepFailure):
                    writing.note(predicted)
                else:
                    writing.note(attempt(self._take_token, writing, *predicted))
        return [writing.result() for writing in writings]

    def _predict(self, writings: Sequence[_Writing]) -> list[tuple[Tensor, Tensor]]:
        """The last token of each reply into its branch; returns of each the hidden state and logits that follow it.

        A reply that begins is tried as a refusal on the way, in the same batch, and is one where that is likely enough.
        """
        if self._trace is not None and not writings[0].state.started:
            self._trace.conversation_format(self._model.chat, self._model.prompt_embeddings, self._suffix)
        branches = [writing.step.branch for writing in writings]
        openings = [None if writing.state.started else self._opening(writing.step.branch) for writing in writings]
        trials = [self._trial(writing, opening) for writing, opening in zip(writings, openings, strict=True)]
        rows = [
            self._next_input(writing.state, opening, trial)
            for writing, opening, trial in zip(writings, openings, trials, strict=True)
        ]
        with restored_on_error(branches):
            last = []
            for writing, trial, hidden in zip(
                writings, trials, self._llm.forward(self._branches, branches, rows), strict=True
            ):
                tried = 0 if trial is None else len(trial.input)
                writing.step.branch.length -= tried
                last.append(hidden[-1 - tried])
                if trial is not None and trial.is_likely(self._llm.logits(hidden[-1 - tried :])):
                    writing.state.forced = list(trial.tokens)
            predicting = torch.stack(last)
            predicted = list(zip(predicting, self._llm.logits(predicting), strict=True))
        for branch, opening in zip(branches, openings, strict=True):
            if opening is not None:
                branch.stream = replace(branch.stream, hypotheses=[])  # read, and not to be read once more
        return predicted

    def _opening(self, branch: Branch) -> Tensor:
        """What stands between a user's turn and the reply: the turn's words where it was spoken, the model searches for
        them and there is room, and the suffix.
        """
        search = self._model.word_search
        words = [] if search is None else search.best(branch.stream.hypotheses)
        if not words or branch.length + len(words) + self._least_room > self._branches.max_length:
            return self._suffix
        return torch.cat([self._llm.embed(words), self._suffix])

    @property
    def _least_room(self) -> int:
        """Positions that a reply needs to begin at all, one token and the trial of a refusal included."""
        return len(self._suffix) + 1 + (0 if self._refusal is None else len(self._refusal.input))

    def _next_input(self, state: TorchReplyState, opening: Tensor | None, trial: _RefusalTrial | None) -> Tensor:
        if opening is not None:
            return opening if trial is None else torch.cat([opening, trial.input])
        assert state.pending is not None
        return self._llm.embed([state.pending])

    def _trial(self, writing: _Writing, opening: Tensor | None) -> _RefusalTrial | None:
        """The refusal, where a reply begins whose text is free and whose branch has room for trying it."""
        if self._refusal is None or opening is None or writing.state.forced is not None:
            return None
        needed = len(opening) + len(self._refusal.input)
        return self._refusal if writing.step.branch.length + needed <= self._branches.max_length else None

    def _take_token(self, writing: _Writing, hidden: Tensor, logits: Tensor) -> list[Segment]:
        """Sample (or force) the token that `hidden` predicts; returns segments it completes."""
        state, length = writing.state, writing.step.branch.length
        if not state.started:
            state.started, state.start_length = True, length
        token, written = state.forced.pop(0) if state.forced else (state.sampler.sample(logits), None)
        if self._trace is not None:
            self._trace.written(hidden, logits, length, token)
        if token == self._model.chat.end_of_turn:
            state.finished, state.pending = True, None
        else:
            state.pending = token
            state.tokens.append(token)
            if self._trace is not None:
                self._trace.add("reply_hidden", hidden)
            done = state.segmenter.push(token, hidden.clone(), written)
            state.text = state.segmenter.text
            state.finished = len(state.tokens) >= state.max_tokens and not state.forced
            if not state.finished:
                return [done] if done else []
            return [*([done] if done else []), *state.end()]
        return state.end()
