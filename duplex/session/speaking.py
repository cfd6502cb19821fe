"""The agent's side of a session: the reply that is being made and heard, its pace, and how it is cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from duplex.core.clock import Clock
from duplex.core.errors import DuplexError
from duplex.core.events import AgentAudio, Cut, CutReason, Hello, ReplyMetrics
from duplex.core.metrics import Metrics
from duplex.core.types import SamplingParams
from duplex.model.caches import Branch
from duplex.pool.pool import ModelPool, StepWithdrawnError
from duplex.session import dialogue as d
from duplex.session.commands import EndReply
from duplex.session.outbox import Outbox
from duplex.session.playout import Heard, Playout
from duplex.session.reply import MAX_AHEAD_SEC, Reply

log = logging.getLogger(__name__)

NOTHING_HEARD = Heard(0, "")


class Speaking:
    """Runs at most one reply, paces its audio into the outbox, and tells the dialogue what was heard of it.

    `let`: where dialogue events go. `failed`: told of a reply whose step failed. asked_sec: when the user had said,
    or typed, what is answered now; decided_sec: when that was decided. Both are the session's to set.
    active_sec: when there last was a reply. last_cut: what the client was last told of a cut.
    """

    def __init__(
        self,
        session_id: str,
        hello: Hello,
        *,
        pool: ModelPool,
        clock: Clock,
        metrics: Metrics,
        max_lead_ms: int,
        let: Callable[[d.Event], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._id = session_id
        self._hello = hello
        self._pool = pool
        self._clock = clock
        self._metrics = metrics
        self._let = let
        self._failed = failed
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self.outbox = Outbox(self._woken.set)
        self.playout = Playout(
            output_rate=hello.output_rate,
            codec_rate=pool.engine.facts.output_sample_rate,
            max_lead_ms=max_lead_ms,
            virtual=hello.virtual_playback,
        )
        self.asked_sec = self.decided_sec = self.active_sec = clock.now()
        self.last_cut: Cut | None = None
        self._reply: Reply | None = None
        self._began = self._audible = False
        self._onset_sec = clock.now()
        self._onset_heard = NOTHING_HEARD  # of the reply that ran when the open turn began

    @property
    def idle(self) -> bool:
        """Whether nothing is being made or heard."""
        return self._reply is None

    def wake(self) -> None:
        """Something changed for the playout: a report, a resumed connection."""
        self._woken.set()

    def begin(
        self,
        tasks: asyncio.TaskGroup,
        turn: int,
        generation: int,
        *,
        branch: Branch,
        sampling: SamplingParams,
        forced_text: str | None,
    ) -> None:
        """Start a reply on `branch`; its work is a task of `tasks`."""
        self.hush(CutReason.USER if forced_text is None else CutReason.CLIENT)
        self.playout.begin(turn, generation)
        self._began = self._audible = False
        self._reply = reply = Reply(
            turn=turn,
            generation=generation,
            session_id=self._id,
            branch=branch,
            sampling=sampling,
            forced_text=forced_text,
            pool=self._pool,
            playout=self.playout,
            clock=self._clock,
            audio_added=self._woken.set,
            room=self._room_ahead,
        )
        reply.task = tasks.create_task(self._run(reply), name=f"{self._id} reply {turn}")
        self._woken.set()  # it may have to wait until the end of the one before has been heard

    def note_onset(self, onset_sec: float) -> None:
        """The user began to speak: what was heard until now is what stays of a reply that this turn interrupts."""
        self._onset_sec = onset_sec
        self._onset_heard = NOTHING_HEARD if self._reply is None else self.playout.heard(self._clock.now())

    def heard_length(self) -> int | None:
        """Where the running reply is cut if the user takes over now; None: there is none."""
        if self._reply is None:
            return None
        return self._reply.heard_length(self.playout.heard(self._clock.now()).tokens)

    def unheard_length(self) -> int | None:
        """Where the running reply is cut if nothing of it counts as heard; None: there is none."""
        return None if self._reply is None else self._reply.heard_length(NOTHING_HEARD.tokens)

    def cut(self, action: d.CutReply, generation: int) -> EndReply:
        """Silence at once: void what was not heard, stop the work; what is left is the line's to do.

        `generation`: the dialogue's newest; steps of older ones are withdrawn.
        """
        now = self._clock.now()
        reply, self._reply = self._reply, None
        heard = NOTHING_HEARD
        if not action.withdrawn:
            heard = self.playout.heard(now) if action.keep_heard else self._onset_heard
        told = self.playout.started() or action.reason is CutReason.CLIENT  # who asks for silence waits for an answer
        if reply is not None and reply.generation == action.generation and told:
            self._void(reply.turn, heard.text, action.reason)
            if not action.withdrawn and not action.keep_heard:
                self._metrics.cut_sec.observe(max(0.0, now - self._onset_sec))
        else:
            self.playout.forget()
        self._pool.withdraw_older(self._id, generation)
        if reply is not None and reply.task is not None:
            reply.task.cancel()
        self._moved.set()
        keep = reply.heard_length(heard.tokens) if reply is not None and action.keep_heard else None
        return EndReply(reply, keep, action.withdrawn)

    def hush(self, reason: CutReason) -> None:
        """Stop a reply that is over and being sent again, to a client that had lost it; it is remembered whole."""
        if (repeated := self.playout.repeated()) is not None:
            self._void(*repeated, reason)

    def _void(self, turn: int, heard_text: str, reason: CutReason) -> None:
        position = self.playout.heard_pts(self._clock.now())
        old, new = self.playout.cut()
        self.outbox.drop_audio()
        self.last_cut = Cut(old, new, position, heard_text, turn, reason)
        self.outbox.put(self.last_cut)
        log.info("cut", extra={"session": self._id, "turn": turn, "reason": reason.value})

    async def play(self) -> None:
        """Pace audio into the outbox until cancelled."""
        while True:
            now = self._clock.now()
            if self.outbox.audio_room:
                for event in self.playout.due(now):
                    self.outbox.put(event)
                    if isinstance(event, AgentAudio) and not self._began and self.playout.started():
                        self._note_first_audio(now)
            self.note_hearing(now)
            self._moved.set()
            self._woken.clear()
            try:
                async with asyncio.timeout(self.playout.wait_sec(now)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def note_hearing(self, now: float) -> None:
        """Tell the dialogue when a reply is first heard, and when it has been heard to its end."""
        reply = self._reply
        if reply is None:
            return
        self.active_sec = now
        if not self._audible and self.playout.audible(now):
            self._audible = True
            self._let(d.ReplyAudible(reply.generation))
        if self.playout.over(now) and reply.task is not None and reply.task.done():
            self._reply = None
            self.playout.forget()
            self._let(d.ReplyEnded(reply.generation))

    async def _run(self, reply: Reply) -> None:
        try:
            await reply.run()
        except* StepWithdrawnError:
            pass  # cut in the meantime
        except* DuplexError as errors:
            self._failed("reply", errors.exceptions[0])
            self._let(d.ReplyFailed(reply.generation))
        self.playout.finish(reply.generation)
        self._woken.set()

    async def _room_ahead(self) -> None:
        """Wait while more audio is made than is heard."""
        while self.playout.ahead_sec(self._clock.now()) > MAX_AHEAD_SEC:
            self._moved.clear()
            await self._moved.wait()

    def _note_first_audio(self, now: float) -> None:
        reply = self._reply
        if reply is None:
            return
        self._began = True
        since = self.asked_sec
        self._metrics.first_audio_sec.observe(max(0.0, now - since))
        self._let(d.ReplyStarted(reply.generation))
        milliseconds = round((now - since) * 1000)
        log.info("reply started", extra={"session": self._id, "turn": reply.turn, "ms": milliseconds})
        if "metrics" in self._hello.features:
            first_segment = reply.first_segment_sec if reply.first_segment_sec is not None else now
            self.outbox.put(
                ReplyMetrics(
                    reply.turn,
                    first_audio_ms=(now - since) * 1000,
                    decision_ms=(self.decided_sec - since) * 1000,
                    first_segment_ms=(first_segment - since) * 1000,
                )
            )
