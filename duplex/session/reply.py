"""One reply: text is written, segments of it are spoken, both at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from duplex.core.clock import Clock
from duplex.core.errors import BranchOverflowError
from duplex.core.types import SamplingParams
from duplex.engine.steps import ReplyStep, SpeakStep
from duplex.model.caches import Branch
from duplex.model.segmenter import Segment
from duplex.pool.pool import ModelPool
from duplex.pool.queue import StepKind
from duplex.session.playout import Playout

TOKENS_A_STEP = 8
SEGMENT_BOUND = 4  # segments written and not yet spoken; the writer waits
MAX_AHEAD_SEC = 3.0  # audio spoken and not yet heard; the speaker waits
FIRST_AUDIO_DUE_SEC = 0.1


class Reply:
    """Writes and speaks one reply into the playout. Steps of its branch are awaited one by one."""

    def __init__(
        self,
        *,
        turn: int,
        generation: int,
        session_id: str,
        branch: Branch,
        sampling: SamplingParams,
        forced_text: str | None,
        pool: ModelPool,
        playout: Playout,
        clock: Clock,
        audio_added: Callable[[], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self.turn = turn
        self.generation = generation
        self.first_segment_sec: float | None = None
        self.task: asyncio.Task[None] | None = None
        self._session_id = session_id
        self._branch = branch
        self._before = branch.length
        self._pool = pool
        self._playout = playout
        self._clock = clock
        self._audio_added = audio_added
        self._room = room
        self._text = pool.engine.new_reply_state(sampling, forced_text)
        self._speech = pool.engine.new_speech_state(sampling)
        self._written = False
        self._spoken = False
        self._segments: asyncio.Queue[Segment | None] = asyncio.Queue(SEGMENT_BOUND)

    def heard_length(self, tokens: int) -> int:
        """Length of the branch that ends with the reply's first `tokens` text tokens."""
        if not self._written:
            return self._before
        return min(self._text.start_length + tokens, self._branch.length)

    async def run(self) -> None:
        """Write and speak until done. Raises what a failed step raises."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write())
            tasks.create_task(self._speak())

    async def _write(self) -> None:
        finished = False
        while not finished:
            step = ReplyStep(self._branch, self._text, TOKENS_A_STEP, spoken=self._spoken)
            try:
                result = await self._pool.submit(
                    StepKind.REPLY,
                    step,
                    deadline=self._due_sec(),
                    session_id=self._session_id,
                    generation=self.generation,
                )
            except BranchOverflowError:
                if not self._written:
                    raise  # nobody may wait for an answer that has no room
                break  # the slot is full: the reply ends here, the session starts anew at the next turn
            self._written = True
            for segment in result.segments:
                if self.first_segment_sec is None:
                    self.first_segment_sec = self._clock.now()
                await self._segments.put(segment)
            finished = result.finished
        await self._segments.put(None)

    async def _speak(self) -> None:
        while (segment := await self._segments.get()) is not None:
            self._playout.add_text(self.generation, segment)
            fresh: Segment | None = segment
            done = False
            while not done:
                await self._room()
                result = await self._pool.submit(
                    StepKind.SPEAK,
                    SpeakStep(self._speech, fresh),
                    deadline=self._due_sec(),
                    session_id=self._session_id,
                    generation=self.generation,
                )
                fresh = None
                done = result.segment_done
                if self._playout.push(self.generation, result.pcm, result.spans) and len(result.pcm):
                    self._spoken = True
                    self._audio_added()

    def _due_sec(self) -> float:
        """When the user's ear runs dry."""
        now = self._clock.now()
        return now + max(FIRST_AUDIO_DUE_SEC, self._playout.ahead_sec(now))
