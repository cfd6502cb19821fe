"""Writing a reply: text tokens from the LLM, cut into segments that can be spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from duplex.core.errors import BranchOverflowError
from duplex.engine.failures import attempt, batched, restored_on_error
from duplex.engine.states import TorchReplyState
from duplex.engine.steps import ReplyResult, ReplyStep, StepFailure
from duplex.engine.trace import Trace
from duplex.model.caches import BranchPool
from duplex.model.checkpoint import DuplexModel
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


class TextWriter:
    """The text side of one checkpoint's replies: several at a time, token by token."""

    def __init__(self, model: DuplexModel, branches: BranchPool, trace: Trace | None) -> None:
        self._model = model
        self._llm = model.llm
        self._branches = branches
        self._trace = trace
        with torch.inference_mode():
            self._suffix = self._llm.embed(model.chat.suffix)

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
        """The last token of each reply into its branch; returns of each the hidden state and logits that follow it."""
        if self._trace is not None and not writings[0].state.started:
            self._trace.conversation_format(self._model.chat, self._model.prompt_embeddings, self._suffix)
        branches = [writing.step.branch for writing in writings]
        rows = [self._next_input(writing.state) for writing in writings]
        with restored_on_error(branches):
            hidden = self._llm.forward(self._branches, branches, rows)
            last = torch.stack([row[-1] for row in hidden])
            return list(zip(last, self._llm.logits(last), strict=True))

    def _next_input(self, state: TorchReplyState) -> Tensor:
        if not state.started:
            return self._suffix
        assert state.pending is not None
        return self._llm.embed([state.pending])

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
