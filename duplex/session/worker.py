"""Carrying out what the dialogue asks of a conversation's branches: one command after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from duplex.core.config import SessionConfig
from duplex.core.errors import BranchOverflowError, DuplexError
from duplex.core.events import ErrorEvent, Notice, Updated
from duplex.session import dialogue as d
from duplex.session.commands import Command, CommandQueue, EndReply, OpenAt, Restart
from duplex.session.line import ConversationLine
from duplex.session.machine import DialogueMachine
from duplex.session.microphone import Microphone
from duplex.session.speaking import Speaking

OUTGREW = Notice("conversation_reset", "the conversation outgrew its memory and starts anew")


class LineWorker:
    """Listens, opens and closes turns, and begins replies on one line.

    let: how an event gets into the dialogue. trace: told the turn, the chunk and its judgement.
    configure: makes settings hold. failed: told the stage and cause of a step that failed.
    """

    def __init__(
        self,
        line: ConversationLine,
        commands: CommandQueue,
        *,
        machine: DialogueMachine,
        microphone: Microphone,
        speaking: Speaking,
        let: Callable[[d.Event], None],
        trace: Callable[[int, int, d.ChunkJudged | None], None],
        configure: Callable[[SessionConfig], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._line = line
        self._commands = commands
        self._machine = machine
        self._microphone = microphone
        self._speaking = speaking
        self._let = let
        self._trace = trace
        self._configure = configure
        self._failed = failed
        self._tasks: asyncio.TaskGroup | None = None

    async def work(self, tasks: asyncio.TaskGroup) -> None:
        """Carry out commands until cancelled; replies run in `tasks`."""
        self._tasks = tasks
        while True:
            command = await self._commands.get()
            try:
                await self._carry_out(command)
            except DuplexError as error:
                await self._recover(command, error)
            self._commands.done()

    async def _carry_out(self, command: Command) -> None:
        match command:
            case OpenAt(d.OpenTurn(turn, first, last), keep):
                await self._fork(keep)
                await self._replay(turn, first, last)
                await self._listen(turn, last)
            case d.Feed(turn, index):
                await self._listen(turn, index)
            case d.ReopenTurn(_, first, last):
                await self._reopen(first, last)
            case d.ContinueTurn(turn, first, last):
                await self._replay(turn, first, last)
                await self._listen(turn, last)
            case d.TakeTurn():
                self._line.take_turn()
            case d.DropTurn():
                self._line.drop_turn(taken=command.taken)
            case EndReply():
                await self._end_reply(command)
            case d.Respond(turn, generation, taken):
                if not taken:
                    self._line.take_turn()
                self._begin_reply(turn, generation)
            case d.AnswerTyped():
                await self._answer_typed(command)
            case d.SpeakText(turn, generation, text):
                await self._make_room()
                self._begin_reply(turn, generation, text)
            case Restart():
                await self._restart(command)
            case _:
                raise TypeError(f"the line does not know {command!r}")

    async def _fork(self, keep: int | None) -> None:
        """Fork the conversation for a turn, at `keep` tokens; None: all of it, but for a reply that runs by now."""
        if self._line.crowded and self._speaking.idle:
            await self._make_room()
            keep = None
        await self._line.open_turn(keep if keep is not None else self._speaking.unheard_length())

    async def _reopen(self, first: int, last: int) -> None:
        """The chunks were judged and traced when they came."""
        await self._fork(None)
        for index in range(first, last + 1):
            if (features := self._microphone.features(index)) is not None:
                await self._line.listen(features)

    async def _replay(self, turn: int, first: int, end: int) -> None:
        """Chunks `first`..`end - 1` into the turn; their verdicts are ignored (fixture quirk 16)."""
        for index in range(first, end):
            await self._listen(turn, index, forced=True)

    async def _answer_typed(self, command: d.AnswerTyped) -> None:
        """A text that is too long for the conversation is refused, and leaves no trace in it."""
        anew = self._line.crowded
        try:
            if anew:
                await self._line.start(self._line.instructions, command.text)
            else:
                await self._line.put_user_text(command.text)
        except BranchOverflowError as error:
            self._speaking.outbox.put(ErrorEvent("bad_message", f"text: {error}", ref=command.ref))
            self._let(d.ReplyEnded(command.generation))
            return
        if anew:
            self._speaking.outbox.put(OUTGREW)
        self._begin_reply(command.turn, command.generation)

    async def _restart(self, command: Restart) -> None:
        try:
            await self._line.start(command.instructions)
        except BranchOverflowError as error:
            self._speaking.outbox.put(ErrorEvent("bad_message", f"session.instructions: {error}", ref=command.ref))
        finally:
            self._configure(self._machine.config.model_copy(update={"instructions": self._line.instructions}))
        self._speaking.outbox.put(Updated(self._machine.config))

    async def _make_room(self) -> None:
        """A conversation that fills its slot starts anew, and says so."""
        if self._line.crowded:
            await self._line.start(self._line.instructions)
            self._speaking.outbox.put(OUTGREW)

    async def _listen(self, turn: int, index: int, *, forced: bool = False) -> None:
        """One chunk into the turn; `forced`: its verdict is ignored, and it was traced when it came."""
        features = self._microphone.features(index)
        if features is None:
            return
        result = await self._line.listen(features)
        if result is None or forced:
            return
        judged = d.ChunkJudged(turn, result.probs, result.interruption, result.words_over)
        self._trace(turn, index, judged)
        self._let(judged)

    def _begin_reply(self, turn: int, generation: int, forced_text: str | None = None) -> None:
        self._line.mark_reply()
        if generation != self._machine.generation:
            return  # cut before it began
        assert self._tasks is not None
        self._speaking.begin(
            self._tasks,
            turn,
            generation,
            branch=self._line.committed,
            sampling=self._machine.config.sampling.params(),
            forced_text=forced_text,
        )

    async def _end_reply(self, command: EndReply) -> None:
        if command.reply is not None and command.reply.task is not None:
            await asyncio.wait([command.reply.task])
        if command.withdrawn:
            self._line.withdraw_reply()
        elif command.keep is not None:
            self._line.cut_reply(command.keep)

    async def _recover(self, command: Command, error: DuplexError) -> None:
        """A step of a turn failed: the turn is dropped; without room the conversation starts anew."""
        self._failed("listen", error)
        if self._machine.turn is not None:
            self._let(d.ListeningFailed(self._machine.turn.number))
        if isinstance(command, d.AnswerTyped | d.SpeakText | d.Respond):
            self._let(d.ReplyEnded(command.generation))
        if self._speaking.idle and isinstance(error, BranchOverflowError):
            await self._line.start(self._line.instructions)
            self._speaking.outbox.put(Notice("conversation_reset", "the conversation had to start anew"))
