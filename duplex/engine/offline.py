"""Answer a recording without a server: the same steps as a session takes, one after another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from duplex.core.config import SessionConfig
from duplex.core.types import SamplingParams, TurnDecision
from duplex.core.verdict import decide, needed_silence_ms
from duplex.core.voice import SPEECH_PROBABILITY, VoiceActivity
from duplex.engine.engine import TorchEngine
from duplex.engine.steps import (
    Float32,
    HearStep,
    ListenStep,
    PrefillStep,
    ReplyStep,
    SpeakStep,
    StepFailure,
)
from duplex.model.caches import Branch

HISTORY_CHUNKS = 6  # replayed from before the onset (fixture quirk 15)
TAIL_CHUNKS = 12  # silence heard after the recording, so that its turn can end

R = TypeVar("R")


@dataclass
class Answer:
    """What became of a recording.

    text: the reply; pcm: float32 at the codec's rate. onset_sample, decision_sample: input samples (16 kHz) at the
    end of the chunk where the VAD opened and where the reply was decided; None where neither happened.
    probs: P(continue, respond, ignore) of every chunk heard in the turn, with the chunk's end sample.
    stage_ms: time spent in each stage; first_audio_ms: from the decision to the first samples of the reply.
    """

    text: str = ""
    pcm: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    onset_sample: int | None = None
    decision_sample: int | None = None
    probs: list[tuple[int, tuple[float, float, float]]] = field(default_factory=list)
    stage_ms: dict[str, float] = field(default_factory=dict)
    stage_calls: dict[str, int] = field(default_factory=dict)
    first_audio_ms: float | None = None
    tokens: list[int] = field(default_factory=list)
    codec_tokens: int = 0


class Conversation:
    """One conversation over one branch; each recording is a user turn of it.

    `offline` is the reference's offline driver (fixture quirk 19): every chunk goes to the model from the first on,
    predicted states are ignored, and the reply is forced at the end.
    """

    def __init__(
        self,
        engine: TorchEngine,
        *,
        role: str | None = None,
        sampling: SamplingParams | None = None,
        offline: bool = False,
    ) -> None:
        self._engine = engine
        self._sampling = sampling or SamplingParams()
        self._offline = offline
        self._config = SessionConfig()
        self.branch: Branch = engine.branches.acquire()
        system = engine.model.chat.default_role if role is None else role
        _only(engine.prefill([PrefillStep(self.branch, "system", system)]))

    def close(self) -> None:
        """Give the slot back."""
        self._engine.branches.release(self.branch)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def type(self, text: str, *, speak: bool = True) -> Answer:
        """Answer a typed turn; with `speak` False only in text."""
        answer = Answer()
        _only(self._engine.prefill([PrefillStep(self.branch, "user", text)]))
        self._reply(answer, speak=speak)
        return answer

    def hear(self, pcm: Float32, *, speak: bool = True) -> Answer:
        """Answer a recording, float32 [n] at 16 kHz; with `speak` False only in text."""
        answer = Answer()
        if self._listen(pcm, answer):
            self._reply(answer, speak=speak)
        return answer

    def _listen(self, pcm: Float32, answer: Answer) -> bool:
        """Feed the recording; True when a reply is due. The branch is left at the decision."""
        engine, size = self._engine, self._engine.facts.chunk_samples
        tail = 0 if self._offline else TAIL_CHUNKS
        chunks = -(-len(pcm) // size)
        padded = np.pad(pcm.astype(np.float32), (0, (chunks + tail) * size - len(pcm)))
        state = engine.new_hear_state()
        history: deque[object] = deque(maxlen=HISTORY_CHUNKS)
        start = self.branch.length
        opened = self._offline
        first = True
        voice = VoiceActivity()
        for index in range(chunks + tail):
            end = (index + 1) * size
            with _timed(answer, "hear"):
                heard = _only(engine.hear([HearStep(state, padded[index * size : end])]))
            if not opened:
                if max(heard.speech_probs) < SPEECH_PROBABILITY:
                    history.append(heard.features)
                    continue
                opened = True
                answer.onset_sample = end
                voice = VoiceActivity()
            for probability in heard.speech_probs:
                voice.count(probability)
            queue = [*history, heard.features]
            history.clear()
            for features in queue:
                with _timed(answer, "listen"):
                    result = _only(engine.listen([ListenStep(self.branch, features, first)]))  # type: ignore[arg-type]
                first = False
            answer.probs.append((end, result.probs))
            verdict = decide(result.probs, self._config, agent_silent=True)
            decision = voice.gated(verdict, needed_silence_ms(result.probs, self._config, result.words_over))
            voice.note(verdict)
            if self._offline or decision is TurnDecision.CONTINUE:
                continue
            if decision is TurnDecision.RESPOND:
                answer.decision_sample = end
                return True
            engine.branches.truncate(self.branch, start)  # ignored: the turn is forgotten (fixture quirk 17)
            opened, first = False, True
        return opened and not first

    def _reply(self, answer: Answer, *, speak: bool = True) -> None:
        engine = self._engine
        began = time.perf_counter()
        reply = engine.new_reply_state(self._sampling, offline=self._offline)
        speech = engine.new_speech_state(self._sampling)
        pieces: list[Float32] = []
        while not reply.finished:
            with _timed(answer, "reply"):
                result = _only(engine.reply([ReplyStep(self.branch, reply, max_tokens=16, spoken=bool(pieces))]))
            for segment in result.segments if speak else ():
                given, done = segment, False
                while not done:
                    with _timed(answer, "speak"):
                        spoken = _only(engine.speak([SpeakStep(speech, given)]))
                    given, done = None, spoken.segment_done  # type: ignore[assignment]
                    if len(spoken.pcm):
                        if not pieces:
                            answer.first_audio_ms = (time.perf_counter() - began) * 1000
                        pieces.append(spoken.pcm)
                answer.codec_tokens += spoken.codec_tokens
        answer.text, answer.tokens = reply.text, reply.tokens
        if pieces:
            answer.pcm = np.concatenate(pieces)


@contextmanager
def _timed(answer: Answer, stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    answer.stage_ms[stage] = answer.stage_ms.get(stage, 0.0) + (time.perf_counter() - began) * 1000
    answer.stage_calls[stage] = answer.stage_calls.get(stage, 0) + 1


def _only(results: list[R | StepFailure]) -> R:
    result = results[0]
    if isinstance(result, StepFailure):
        raise result.error
    return result
