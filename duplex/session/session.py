"""One caller: the tasks that carry out what the dialogue machine decides."""

from __future__ import annotations

import asyncio
import logging

from duplex.core.clock import Clock
from duplex.core.config import SessionConfig, SessionPatch
from duplex.core.errors import BranchOverflowError, DuplexError
from duplex.core.events import (
    ClientEvent,
    CutReason,
    ErrorEvent,
    Hello,
    Interrupt,
    MicAudio,
    Overload,
    Ping,
    Played,
    Pong,
    Resume,
    Say,
    SayRole,
    StateChanged,
    TurnTrace,
    Update,
    Updated,
)
from duplex.core.metrics import Metrics
from duplex.pool.pool import ModelPool
from duplex.session import dialogue as d
from duplex.session.commands import CommandQueue, OpenAt, Restart
from duplex.session.line import ConversationLine
from duplex.session.machine import DialogueMachine
from duplex.session.microphone import Microphone
from duplex.session.speaking import Speaking
from duplex.session.store import SessionStore
from duplex.session.worker import LineWorker

log = logging.getLogger(__name__)


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
        self.id = session_id
        self.config = config
        self.hello = hello
        self.failed = False
        self._touched_sec = clock.now()
        self._begun = asyncio.Event()
        self._underruns = 0  # that the client has counted
        self._refusal: BranchOverflowError | None = None
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._machine = DialogueMachine(config, pool.engine.facts.tells_interruptions)
        self._line = ConversationLine(session_id, pool, store, clock)
        self._microphone = Microphone(session_id, hello.input_rate, pool, clock)
        self._commands = CommandQueue()
        self._speaking = Speaking(
            session_id,
            hello,
            pool=pool,
            clock=clock,
            metrics=metrics,
            max_lead_ms=max_lead_ms,
            let=self._let,
            failed=self._tell_failure,
        )
        self.outbox = self._speaking.outbox
        self.playout = self._speaking.playout
        self._worker = LineWorker(
            self._line,
            self._commands,
            machine=self._machine,
            microphone=self._microphone,
            speaking=self._speaking,
            let=self._let,
            trace=self._trace,
            configure=self._configure,
            failed=self._tell_failure,
        )

    # --- what the connection calls -----------------------------------------------------------------------

    async def begun(self) -> None:
        """Wait until the conversation has begun. Raises BranchOverflowError when the instructions are too long."""
        await self._begun.wait()
        if self._refusal is not None:
            raise self._refusal

    async def room(self) -> None:
        """Wait while the line is too far behind; to be awaited before a Say or Update is handled."""
        await self._commands.room()

    def handle(self, event: ClientEvent) -> None:
        """Take what the client sent. Never waits."""
        match event:
            case MicAudio(pcm, missing):
                self._microphone.push(pcm, missing)
                return
            case Played():
                self.playout.report(self._clock.now(), event.epoch, event.pts, event.queued_ms, event.output_ms)
                self._measure_playback(event)
                self._speaking.wake()
                return
            case Ping(t):
                self.outbox.put(Pong(t, self._clock.now() * 1000))
                return
            case Interrupt(epoch):
                if epoch is None or epoch == self.playout.epoch:
                    self._let(d.ClientInterrupted())
                    self._speaking.hush(CutReason.CLIENT)
            case Say(text, role, ref):
                self._let(d.UserTyped(text, ref) if role is SayRole.USER else d.AgentTold(text))
            case Update():
                self._update(event)
            case _:
                pass
        self._touched_sec = self._clock.now()

    def _measure_playback(self, played: Played) -> None:
        """A client counts its underruns from 0; a lower count is a new client's."""
        before = self._underruns if played.underruns >= self._underruns else 0
        self._metrics.underruns.inc(played.underruns - before)
        self._underruns = played.underruns
        self._metrics.queued_sec.observe(played.queued_ms / 1000)

    def pause(self) -> None:
        """The connection is gone; the session stays and speaks to nobody."""
        self.playout.pause(self._clock.now())
        self.outbox.drop_playout()

    def adopt(self, patch: SessionPatch, ref: str | None) -> None:
        """Make the settings of a client that comes back hold, like an update where they differ."""
        if self.config.patched(patch) != self.config:
            self._update(Update(patch, ref))

    def resume(self, resume: Resume) -> None:
        """The client is back: what it lacks is sent again, then the reply goes on.

        What was written into the dead connection is gone: a cut that it does not know of is told again, and who is
        doing what.
        """
        self.outbox.drop_playout()
        cut = self._speaking.last_cut
        if cut is not None and resume.played_epoch not in (None, cut.new_epoch) and not self.outbox.holds(cut):
            self.outbox.put(cut)
        state = self._machine.announced
        self.outbox.put(StateChanged(state.user, state.agent, state.turn))
        self.playout.resume(self._clock.now(), resume.last_seq, resume.played_epoch, resume.played_pts)
        self._touched_sec = self._clock.now()
        self._speaking.wake()

    @property
    def last_activity_sec(self) -> float:
        """When the client last asked for something, the user last spoke or the agent was last heard."""
        return max(self._touched_sec, self._speaking.active_sec)

    @property
    def busy(self) -> bool:
        """Whether a reply is being made or heard, or a turn is open."""
        return self._machine.reply is not None or self._machine.turn is not None

    async def run(self) -> None:
        """Hold the conversation until cancelled; give every slot back in the end.

        A fault ends the session with a fatal error event; it never reaches another session.
        """
        try:
            if not await self._begin():
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(), name=f"{self.id} hear")
                tasks.create_task(self._worker.work(tasks), name=f"{self.id} line")
                tasks.create_task(self._speaking.play(), name=f"{self.id} playout")
        except Exception as error:
            self.failed = True
            log.exception("session failed", extra={"session": self.id, "cause": type(error).__name__})
            self.outbox.put(ErrorEvent("internal", "a fault of the server", fatal=True, close_code=1011))
        finally:
            self._begun.set()
            self._store.release_all(self.id)

    async def _begin(self) -> bool:
        try:
            await self._line.start(self.config.instructions)
        except BranchOverflowError as error:
            self._refusal = error
            return False
        self._begun.set()
        return True

    # --- hearing -----------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        while True:
            try:
                heard = await self._microphone.hear(self._turn_is_open, self.config.vad_threshold)
            except DuplexError as error:
                self._tell_failure("hear", error)
                continue
            self._tell_overload()
            self._speaking.note_hearing(self._clock.now())
            self._let(d.ChunkHeard(self._microphone.index, heard.speech_probs, self._microphone.powers))
            if self._turn_is_open():
                self._touched_sec = self._clock.now()
            else:
                self._trace(self._machine.turn_number, self._microphone.index, None)
            await self._commands.room()

    def _turn_is_open(self) -> bool:
        return self._machine.turn is not None

    def _tell_overload(self) -> None:
        if skipped_ms := self._microphone.take_skipped_ms():
            self._metrics.skipped_audio_sec.inc(skipped_ms / 1000)
            self.outbox.put(Overload(skipped_ms))

    def _trace(self, turn: int, index: int, judged: d.ChunkJudged | None) -> None:
        if "trace" in self.hello.features:
            probs = None if judged is None else judged.probs
            decision = None if judged is None else self._machine.verdict(judged.probs, judged.words_over)
            t_ms = self._microphone.end_ms(index)
            self.outbox.put(TurnTrace(turn, t_ms, self._microphone.speech_level(index), probs, decision))

    # --- deciding ----------------------------------------------------------------------------------------

    def _let(self, event: d.Event) -> None:
        """Let something happen in the dialogue: what must be at once is done here, the rest is queued."""
        for action in self._machine.handle(event):
            match action:
                case d.Announce(user, agent, turn):
                    self.outbox.put(StateChanged(user, agent, turn))
                case d.CutReply():
                    self._commands.put(self._speaking.cut(action, self._machine.generation))
                case d.OpenTurn():
                    self._note_onset()
                    self._commands.put(OpenAt(action, self._speaking.heard_length()))
                case d.Respond():
                    self._speaking.decided_sec = self._clock.now()
                    self._speaking.asked_sec = self._microphone.last_speech_sec
                    self._metrics.turns.labels("answered").inc()
                    self._commands.put(action)
                case d.DropTurn():
                    self._metrics.turns.labels("ignored").inc()
                    self._commands.put(action)
                case d.AnswerTyped() | d.SpeakText():
                    self._speaking.decided_sec = self._speaking.asked_sec = self._clock.now()
                    self._commands.put(action)
                case _:
                    self._commands.put(action)

    def _note_onset(self) -> None:
        speech_ms = self._machine.turn.voice.speech_ms if self._machine.turn is not None else 0.0
        self._speaking.note_onset(self._microphone.last_speech_sec - speech_ms / 1000)

    def _update(self, update: Update) -> None:
        """Settings hold at once; new instructions when the line gets there, and are answered then."""
        before = self.config.instructions
        self._configure(self.config.patched(update.patch))
        if self.config.instructions == before:
            self.outbox.put(Updated(self.config))
            return
        self._let(d.ClientInterrupted())
        if self._machine.turn is not None:
            self._let(d.ListeningFailed(self._machine.turn.number))
        self._commands.put(Restart(self.config.instructions, update.ref))

    def _configure(self, config: SessionConfig) -> None:
        self.config = self._machine.config = config

    def _tell_failure(self, stage: str, error: BaseException) -> None:
        cause = type(error.__cause__ or error).__name__
        log.warning("step failed", extra={"session": self.id, "stage": stage, "cause": cause})
        message = f"a {stage} step of this turn failed ({cause})"
        if isinstance(error, BranchOverflowError):
            message = "the turn is longer than the model's memory has room for"
        self.outbox.put(ErrorEvent("step_failed", message))
