"""One caller: the tasks that carry out what the dialogue machine decides."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import numpy as np
import numpy.typing as npt

from duplex.core.clock import Clock
from duplex.core.config import SessionConfig
from duplex.core.errors import BranchOverflowError, DuplexError
from duplex.core.events import (
    AgentAudio,
    ClientEvent,
    Cut,
    ErrorEvent,
    Hello,
    Interrupt,
    MicAudio,
    Notice,
    Overload,
    Ping,
    Played,
    Pong,
    ReplyMetrics,
    Resume,
    Say,
    SayRole,
    StateChanged,
    TurnTrace,
    Update,
    Updated,
)
from duplex.core.metrics import Metrics
from duplex.pool.pool import ModelPool, StepWithdrawnError
from duplex.session import dialogue as d
from duplex.session.line import ConversationLine
from duplex.session.machine import DialogueMachine, decide
from duplex.session.microphone import Microphone
from duplex.session.outbox import Outbox
from duplex.session.playout import Heard, Playout
from duplex.session.reply import MAX_AHEAD_SEC, Reply
from duplex.session.store import SessionStore

Float32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

LINE_BACKLOG = 24  # commands the line may be behind before listening waits


class _EndReply:
    """Line command: wait until a cut reply's work has stopped, then cut the line."""

    def __init__(self, reply: Reply | None, keep: int | None, withdrawn: bool) -> None:
        self.reply = reply
        self.keep = keep
        self.withdrawn = withdrawn


class _Restart:
    """Line command: a new conversation, because the instructions changed."""


class _OpenAt:
    """Line command: OpenTurn with the heard length at the moment of onset (None: everything)."""

    def __init__(self, action: d.OpenTurn, keep: int | None) -> None:
        self.action = action
        self.keep = keep


_Command = d.Action | _EndReply | _Restart | _OpenAt


class Session:
    """One conversation: `run` works until cancelled, `handle` takes client events, `outbox` holds answers.

    Tasks: hear (microphone to VAD to machine), line (branches: listening, turns, replies one after another),
    playout (audio to the outbox), and one task a reply. All live in the TaskGroup of `run`.
    """

    def __init__(
        self,
        session_id: str,
        config: SessionConfig,
        hello: Hello,
        *,
        pool: ModelPool,
        store: SessionStore,
        clock: Clock,
        metrics: Metrics,
        max_lead_ms: int,
    ) -> None:
        facts = pool.engine.facts
        self.id = session_id
        self.config = config
        self.hello = hello
        self.failed = False
        self.last_activity_sec = clock.now()
        self._pool = pool
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._machine = DialogueMachine(config)
        self._line = ConversationLine(session_id, pool, store, clock)
        self._microphone = Microphone(session_id, hello.input_rate, pool, clock)
        self.playout = Playout(
            output_rate=hello.output_rate,
            codec_rate=facts.output_sample_rate,
            max_lead_ms=max_lead_ms,
            virtual=hello.virtual_playback,
        )
        self._commands: deque[_Command] = deque()
        self._reply: Reply | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._command_came = asyncio.Event()
        self._line_moved = asyncio.Event()
        self._playout_woken = asyncio.Event()
        self._playout_moved = asyncio.Event()
        self.outbox = Outbox(self._playout_woken.set)
        self._asked_sec = clock.now()  # when the user had said, or typed, what is answered now
        self._onset_sec = clock.now()
        self._decided_sec = clock.now()
        self._onset_heard = Heard(0, "")  # of the reply that ran when the open turn began
        self._reply_began = False

    # --- what the connection calls -----------------------------------------------------------------------

    def handle(self, event: ClientEvent) -> None:
        """Take what the client sent. Never waits."""
        match event:
            case MicAudio(pcm, missing):
                self._microphone.push(pcm, missing)
                return
            case Played():
                self.playout.report(self._clock.now(), event.epoch, event.pts)
                self._playout_woken.set()
                return
            case Ping(t):
                self.outbox.put(Pong(t, self._clock.now() * 1000))
                return
            case Interrupt(epoch):
                if epoch is None or epoch == self.playout.epoch:
                    self._let(d.ClientInterrupted())
            case Say(text, role):
                self._let(d.UserTyped(text) if role is SayRole.USER else d.AgentTold(text))
            case Update(patch):
                self._update(self.config.patched(patch))
            case _:
                pass
        self.last_activity_sec = self._clock.now()

    def pause(self) -> None:
        """The connection is gone; the session stays and speaks to nobody."""
        self.playout.pause(self._clock.now())
        self.outbox.drop_playout()

    def resume(self, resume: Resume) -> None:
        """The client is back: what it lacks is sent again, then the reply goes on."""
        self.outbox.drop_playout()
        played = resume.played_pts if resume.played_epoch in (None, self.playout.epoch) else None
        for event in self.playout.resume(self._clock.now(), resume.last_seq, played):
            self.outbox.put(event)
        self.last_activity_sec = self._clock.now()
        self._playout_woken.set()

    @property
    def busy(self) -> bool:
        """Whether a reply is being made or heard, or a turn is open."""
        return self._machine.reply is not None or self._machine.turn is not None

    async def run(self) -> None:
        """Hold the conversation until cancelled; give every slot back in the end.

        A fault ends the session with a fatal error event; it never reaches another session.
        """
        try:
            await self._line.start(self.config.instructions)
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._hear(), name=f"{self.id} hear")
                tasks.create_task(self._carry_out_commands(), name=f"{self.id} line")
                tasks.create_task(self._play(), name=f"{self.id} playout")
        except Exception as error:
            self.failed = True
            log.exception("session failed", extra={"session": self.id, "cause": type(error).__name__})
            self.outbox.put(ErrorEvent("internal", "a fault of the server", fatal=True, close_code=1011))
        finally:
            self._store.release_all(self.id)

    # --- hearing -----------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        while True:
            try:
                heard = await self._microphone.hear(self._turn_is_open, self.config.vad_threshold)
            except DuplexError as error:
                self._tell_failure("hear", error)
                continue
            self._tell_overload()
            self._note_hearing(self._clock.now())
            self._let(d.ChunkHeard(self._microphone.index, heard.speech_probs))
            if self._turn_is_open():
                self.last_activity_sec = self._clock.now()
            else:
                self._trace(self._machine.turn_number, self._microphone.index, None)
            while len(self._commands) > LINE_BACKLOG:
                self._line_moved.clear()
                await self._line_moved.wait()

    def _turn_is_open(self) -> bool:
        return self._machine.turn is not None

    def _tell_overload(self) -> None:
        if skipped_ms := self._microphone.take_skipped_ms():
            self._metrics.skipped_audio_sec.inc(skipped_ms / 1000)
            self.outbox.put(Overload(skipped_ms))

    def _trace(self, turn: int, index: int, probs: tuple[float, float, float] | None) -> None:
        if "trace" in self.hello.features:
            decision = None if probs is None else decide(probs, self.config)
            t_ms = self._microphone.end_ms(index)
            self.outbox.put(TurnTrace(turn, t_ms, self._microphone.speech_level, probs, decision))

    # --- deciding ----------------------------------------------------------------------------------------

    def _let(self, event: d.Event) -> None:
        """Let something happen in the dialogue: what must be at once is done here, the rest is queued."""
        for action in self._machine.handle(event):
            match action:
                case d.Announce(user, agent, turn):
                    self.outbox.put(StateChanged(user, agent, turn))
                case d.CutReply():
                    self._cut(action)
                case d.OpenTurn():
                    self._note_onset()
                    self._command(_OpenAt(action, self._heard_length()))
                case d.Respond():
                    self._decided_sec = self._clock.now()
                    self._asked_sec = self._microphone.last_speech_sec
                    self._metrics.turns.labels("answered").inc()
                    self._command(action)
                case d.DropTurn():
                    self._metrics.turns.labels("ignored").inc()
                    self._command(action)
                case d.AnswerTyped() | d.SpeakText():
                    self._decided_sec = self._asked_sec = self._clock.now()
                    self._command(action)
                case _:
                    self._command(action)

    def _note_onset(self) -> None:
        speech_ms = self._machine.turn.speech_ms if self._machine.turn is not None else 0.0
        self._onset_sec = self._microphone.last_speech_sec - speech_ms / 1000
        self._onset_heard = Heard(0, "") if self._reply is None else self.playout.heard(self._clock.now())

    def _heard_length(self) -> int | None:
        """Where the running reply is cut if the user takes over now; None: there is none."""
        if self._reply is None:
            return None
        return self._reply.heard_length(self.playout.heard(self._clock.now()).tokens)

    def _cut(self, action: d.CutReply) -> None:
        """Silence at once: void what was not heard, stop the work, leave the branch to the line."""
        now = self._clock.now()
        reply, self._reply = self._reply, None
        heard = Heard(0, "")
        if not action.withdrawn:
            heard = self.playout.heard(now) if action.keep_heard else self._onset_heard
        if reply is not None and reply.generation == action.generation and self.playout.started():
            position = self.playout.heard_pts(now)
            old, new = self.playout.cut()
            self.outbox.drop_audio()
            self.outbox.put(Cut(old, new, position, heard.text, reply.turn, action.reason))
            if not action.withdrawn and not action.keep_heard:
                self._metrics.cut_sec.observe(max(0.0, now - self._onset_sec))
            log.info("cut", extra={"session": self.id, "turn": reply.turn, "reason": action.reason.value})
        else:
            self.playout.forget()
        self._pool.withdraw_older(self.id, self._machine.generation)
        if reply is not None and reply.task is not None:
            reply.task.cancel()
        keep = reply.heard_length(heard.tokens) if reply is not None and action.keep_heard else None
        self._command(_EndReply(reply, keep, action.withdrawn))
        self._playout_moved.set()

    def _update(self, config: SessionConfig) -> None:
        restart = config.instructions != self.config.instructions
        self.config = self._machine.config = config
        if restart:
            self._let(d.ClientInterrupted())
            if self._machine.turn is not None:
                self._let(d.ListeningFailed(self._machine.turn.number))
            self._command(_Restart())
        self.outbox.put(Updated(config))

    # --- the line ----------------------------------------------------------------------------------------

    def _command(self, command: _Command) -> None:
        self._commands.append(command)
        self._command_came.set()

    async def _carry_out_commands(self) -> None:
        while True:
            while not self._commands:
                self._command_came.clear()
                await self._command_came.wait()
            command = self._commands.popleft()
            try:
                await self._carry_out(command)
            except DuplexError as error:
                await self._recover(command, error)
            self._line_moved.set()

    async def _carry_out(self, command: _Command) -> None:
        match command:
            case _OpenAt():
                await self._open_turn(command)
            case d.Feed(turn, index):
                await self._listen(turn, index)
            case d.ContinueTurn(turn, first, last):
                for index in range(first, last):
                    await self._listen(turn, index, forced=True)
                await self._listen(turn, last)
            case d.TakeTurn():
                self._line.take_turn()
            case d.DropTurn():
                self._line.drop_turn(taken=command.taken)
            case _EndReply():
                await self._end_reply(command)
            case d.Respond(turn, generation, taken):
                if not taken:
                    self._line.take_turn()
                self._begin_reply(turn, generation)
            case d.AnswerTyped(turn, generation, text):
                await self._make_room()
                await self._line.prefill("user", text)
                self._begin_reply(turn, generation)
            case d.SpeakText(turn, generation, text):
                await self._make_room()
                self._begin_reply(turn, generation, text)
            case _Restart():
                await self._line.start(self.config.instructions)
            case _:
                raise TypeError(f"the line does not know {command!r}")

    async def _open_turn(self, command: _OpenAt) -> None:
        action = command.action
        if self._line.crowded and self._reply is None:
            await self._make_room()
            command.keep = None
        await self._line.open_turn(command.keep)
        for index in range(action.first, action.last):
            await self._listen(action.turn, index, forced=True)
        await self._listen(action.turn, action.last)

    async def _make_room(self) -> None:
        """A conversation that fills its slot starts anew, and says so."""
        if self._line.crowded:
            await self._line.start(self.config.instructions)
            self.outbox.put(Notice("conversation_reset", "the conversation outgrew its memory and starts anew"))

    async def _listen(self, turn: int, index: int, *, forced: bool = False) -> None:
        """One chunk into the turn; `forced`: its verdict is ignored (fixture quirk 16)."""
        features = self._microphone.features(index)
        if features is None:
            return
        result = await self._line.listen(features)
        if result is None:
            return
        self._trace(turn, index, result.probs)
        if not forced:
            self._let(d.ChunkJudged(turn, result.probs))

    def _begin_reply(self, turn: int, generation: int, forced_text: str | None = None) -> None:
        self._line.mark_reply()
        if generation != self._machine.generation:
            return  # cut before it began
        assert self._tasks is not None
        self.playout.begin(turn, generation)
        self._reply_began = False
        self._reply = reply = Reply(
            turn=turn,
            generation=generation,
            session_id=self.id,
            branch=self._line.committed,
            sampling=self.config.sampling.params(),
            forced_text=forced_text,
            pool=self._pool,
            playout=self.playout,
            clock=self._clock,
            audio_added=self._playout_woken.set,
            room=self._room_ahead,
        )
        reply.task = self._tasks.create_task(self._run_reply(reply), name=f"{self.id} reply {turn}")

    async def _run_reply(self, reply: Reply) -> None:
        try:
            await reply.run()
        except* StepWithdrawnError:
            pass  # cut in the meantime
        except* DuplexError as errors:
            self._tell_failure("reply", errors.exceptions[0])
        self.playout.finish(reply.generation)
        self._playout_woken.set()

    async def _end_reply(self, command: _EndReply) -> None:
        if command.reply is not None and command.reply.task is not None:
            await asyncio.wait([command.reply.task])
        if command.withdrawn:
            self._line.withdraw_reply()
        elif command.keep is not None:
            self._line.cut_reply(command.keep)

    async def _recover(self, command: _Command, error: DuplexError) -> None:
        """A step of a turn failed: the turn is dropped; without room the conversation starts anew."""
        self._tell_failure("listen", error)
        if self._machine.turn is not None:
            self._let(d.ListeningFailed(self._machine.turn.number))
        if isinstance(command, d.AnswerTyped | d.SpeakText | d.Respond):
            self._let(d.ReplyEnded(command.generation))
        if self._reply is None and isinstance(error, BranchOverflowError):
            await self._line.start(self.config.instructions)
            self.outbox.put(Notice("conversation_reset", "the conversation had to start anew"))

    def _tell_failure(self, stage: str, error: BaseException) -> None:
        cause = type(error.__cause__ or error).__name__
        log.warning("step failed", extra={"session": self.id, "stage": stage, "cause": cause})
        self.outbox.put(ErrorEvent("step_failed", f"a {stage} step of this turn failed ({cause})"))

    # --- speaking ----------------------------------------------------------------------------------------

    async def _room_ahead(self) -> None:
        """Wait while more audio is made than is heard."""
        while self.playout.ahead_sec(self._clock.now()) > MAX_AHEAD_SEC:
            self._playout_moved.clear()
            await self._playout_moved.wait()

    async def _play(self) -> None:
        while True:
            now = self._clock.now()
            if self.outbox.audio_room:
                for event in self.playout.due(now):
                    self.outbox.put(event)
                    if isinstance(event, AgentAudio) and not self._reply_began:
                        self._note_first_audio(now)
            self._note_hearing(now)
            self._playout_moved.set()
            self._playout_woken.clear()
            try:
                async with asyncio.timeout(self.playout.wait_sec(now)):
                    await self._playout_woken.wait()
            except TimeoutError:
                continue

    def _note_first_audio(self, now: float) -> None:
        reply = self._reply
        if reply is None:
            return
        self._reply_began = True
        self._metrics.first_audio_sec.observe(max(0.0, now - self._asked_sec))
        self._let(d.ReplyStarted(reply.generation))
        log.info(
            "reply started",
            extra={"session": self.id, "turn": reply.turn, "ms": round((now - self._asked_sec) * 1000)},
        )
        if "metrics" in self.hello.features:
            first_segment = reply.first_segment_sec if reply.first_segment_sec is not None else now
            since = self._asked_sec
            self.outbox.put(
                ReplyMetrics(
                    reply.turn,
                    first_audio_ms=(now - since) * 1000,
                    decision_ms=(self._decided_sec - since) * 1000,
                    first_segment_ms=(first_segment - since) * 1000,
                )
            )

    def _note_hearing(self, now: float) -> None:
        reply = self._reply
        if reply is None:
            return
        self.last_activity_sec = now
        running = self._machine.reply
        if running is not None and not running.audible and self.playout.audible(now):
            self._let(d.ReplyAudible(reply.generation))
        if self.playout.over(now) and reply.task is not None and reply.task.done():
            self._reply = None
            self.playout.forget()
            self._let(d.ReplyEnded(reply.generation))
