"""The session's ear: chunks of microphone audio through the VAD and the front end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from duplex.core.clock import Clock
from duplex.core.voice import WINDOW_MS
from duplex.engine.steps import HearResult, HearStep
from duplex.pool.pool import ModelPool, StepFailedError
from duplex.pool.queue import StepKind
from duplex.session.intake import Intake

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]

HISTORY_CHUNKS = 64  # kept for replay; the line may lag this far behind


class Microphone:
    """Hears one session's audio, chunk by chunk.

    index: number of the chunk heard last. powers: mean square of its samples, one per VAD window.
    last_speech_sec: when the user's last speech sample arrived, as the VAD sees it.
    """

    def __init__(self, session_id: str, input_rate: int, pool: ModelPool, clock: Clock) -> None:
        facts = pool.engine.facts
        self.index = -1
        self.powers: tuple[float, ...] = ()
        self.last_speech_sec = clock.now()
        self._session_id = session_id
        self._pool = pool
        self._clock = clock
        self._rate = facts.input_sample_rate
        self._chunk_samples = facts.chunk_samples
        self._intake = Intake(input_rate, facts.input_sample_rate, facts.chunk_samples)
        self._state = pool.engine.new_hear_state()
        self._heard: dict[int, HearResult] = {}
        self._ends: dict[int, int] = {}  # of the same chunks, in samples
        self._audio_came = asyncio.Event()

    def push(self, pcm: Float32, missing: int) -> None:
        """Audio at the input rate came; `missing` samples were lost before it."""
        self._intake.push(pcm, missing, self._clock.now())
        self._audio_came.set()

    def take_skipped_ms(self) -> int:
        """Milliseconds of audio skipped since this was last asked, because it came too fast."""
        skipped, self._intake.skipped_samples = self._intake.skipped_samples, 0
        return skipped * 1000 // self._rate

    def features(self, index: int) -> torch.Tensor | None:
        """Features [19, 80] of a chunk, None when it is long past."""
        heard = self._heard.get(index)
        return None if heard is None else heard.features

    def speech_level(self, index: int) -> float:
        """Highest speech probability in a chunk, 0 when it is long past."""
        heard = self._heard.get(index)
        return 0.0 if heard is None else max(heard.speech_probs, default=0.0)

    def end_ms(self, index: int) -> int:
        """Where a chunk ends on the session's audio clock, skipped audio counted where it is not long past."""
        return self._ends.get(index, (index + 1) * self._chunk_samples) * 1000 // self._rate

    async def hear(self, turn_open: Callable[[], bool], threshold: float) -> HearResult:
        """The next chunk; silence when a turn is open and the client has gone mute.

        Raises StepFailedError, after which hearing starts afresh.
        """
        pcm = await self._next_chunk(turn_open)
        end = self._intake.passed_samples
        arrived = self._clock.now()
        try:
            heard = await self._pool.submit(
                StepKind.HEAR,
                HearStep(self._state, pcm),
                deadline=arrived + self._chunk_samples / self._rate,
                session_id=self._session_id,
            )
        except StepFailedError:
            self._state = self._pool.engine.new_hear_state()
            raise
        self.index += 1
        self._heard[self.index], self._ends[self.index] = heard, end
        for kept in (self._heard, self._ends):
            kept.pop(self.index - HISTORY_CHUNKS, None)
        windows = len(heard.speech_probs)
        self.powers = tuple(np.square(pcm).reshape(windows, -1).mean(axis=1).tolist()) if windows else ()
        for window, probability in enumerate(heard.speech_probs):
            if probability >= threshold:
                self.last_speech_sec = arrived - (windows - 1 - window) * WINDOW_MS / 1000
        return heard

    async def _next_chunk(self, turn_open: Callable[[], bool]) -> Float32:
        while (pcm := self._intake.take()) is None:
            due = self._intake.silence_due_sec() if turn_open() else None
            wait = None if due is None else max(0.0, due - self._clock.now())
            self._audio_came.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._audio_came.wait()
            except TimeoutError:
                self._intake.fill_silence()
        return pcm
