"""What a session remembers, on virtual time: no sockets, no threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from duplex.core.clock import VirtualClock
from duplex.core.config import SessionConfig
from duplex.core.events import (
    AgentActivity,
    AgentAudio,
    Cut,
    CutReason,
    ErrorEvent,
    Hello,
    Interrupt,
    MicAudio,
    Notice,
    Played,
    Resume,
    Say,
    SayRole,
    ServerEvent,
    StateChanged,
    TextDelta,
    TurnTrace,
    UserActivity,
)
from duplex.core.metrics import Metrics
from duplex.core.types import TurnDecision
from duplex.pool.pool import StepFailedError
from duplex.pool.queue import StepKind
from duplex.session.reply import MAX_AHEAD_SEC
from duplex.session.session import Session
from duplex.session.store import SessionStore
from tests.fakes.engine import ASK, SILENCE, SPEECH, FakeEngine, chunks
from tests.fakes.pool import InlinePool

E = TypeVar("E", bound=ServerEvent)
PATIENCE_SEC = 10.0  # real time: what has not come by then never comes


class Call:
    """A session that runs, and what a client does with it.

    memories: the conversation before each reply. traces: all that were received. playing: what is received is heard at once, else not at all.
    """

    def __init__(self, max_length: int = 512) -> None:
        self.memories: list[list[float]] = []
        self.traces: list[TurnTrace] = []
        self.engine = FakeEngine(reply_text=self._answer, max_length=max_length)
        self.pool = InlinePool(self.engine)
        self.metrics = Metrics()
        self.clock = VirtualClock()
        self.session = Session(
            "s",
            SessionConfig(instructions="Be brief."),
            Hello(features=frozenset({"trace"})),
            pool=self.pool,
            store=SessionStore(self.engine.branches),
            clock=self.clock,
            metrics=self.metrics,
            max_lead_ms=400,
        )
        self.playing = False
        self._chunk = 0
        self._received = Played(0, 0)

    def _answer(self, memory: list[float]) -> str:
        self.memories.append(memory)
        return "one two three four five six seven eight"

    async def hear(self, *levels: float) -> None:
        """Chunks are spoken, heard and judged, one after another."""
        for level in levels:
            self.speak(level)
            await self.until(TurnTrace, t_ms=160 * self._chunk)

    def speak(self, level: float) -> None:
        self._chunk += 1
        self.session.handle(MicAudio(chunks(level)))

    def play(self) -> None:
        """What was received is heard, and from now on everything."""
        self.playing = True
        self.session.handle(self._received)

    async def until(self, kind: type[E], **fields: Any) -> E:
        """The next event of a kind with these fields."""
        while True:
            async with asyncio.timeout(PATIENCE_SEC):
                await self.session.outbox.filled()
            event = self.session.outbox.get_nowait()
            if isinstance(event, AgentAudio):
                self._received = Played(event.epoch, event.pts + len(event.pcm))
                if self.playing:
                    self.session.handle(self._received)
            if isinstance(event, TurnTrace):
                self.traces.append(event)
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                return event


def words(memory: list[float]) -> list[float]:
    """The words of the agent's replies in a memory."""
    return [token for token in memory if token >= 100]


@asynccontextmanager
async def running(call: Call) -> AsyncIterator[Call]:
    task = asyncio.create_task(call.session.run())
    yield call
    task.cancel()
    await asyncio.wait([task])
    assert call.engine.branches.free_slots == call.engine.branches.slots


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    async with running(Call()) as call:
        yield call


async def test_a_reply_heard_to_its_end_is_remembered_although_the_user_spoke_over_it(call: Call) -> None:
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    await call.until(AgentAudio)
    call.play()
    await call.until(TextDelta, turn=1)
    call.playing = False
    await call.hear(SPEECH)
    call.play()
    await call.until(StateChanged, agent="listening", turn=2)
    await call.hear(ASK, SILENCE)
    await call.until(TextDelta, turn=2)
    memory = call.memories[1]
    assert words(memory) == [100.0 + word for word in range(8)]
    turn = memory[len(memory) - memory[::-1].index(2.0) :]  # behind its opening
    assert [round(token - 10, 1) for token in turn[::2]] == [SPEECH, ASK, SILENCE]


async def test_who_speaks_before_a_typed_turns_answer_has_heard_nothing_of_it(call: Call) -> None:
    typed, replied = asyncio.Event(), asyncio.Event()
    await call.hear(SILENCE)
    call.pool.before = {StepKind.PREFILL: typed.wait, StepKind.STORE: replied.wait}
    call.pool.after = {StepKind.REPLY: replied.set}
    call.session.handle(Say("What time is it?"))
    call.speak(SPEECH)
    await call.until(StateChanged, user="speaking", agent="thinking")
    typed.set()  # the reply begins, and writes before the turn is forked
    await call.until(TurnTrace, t_ms=320)
    await call.hear(ASK, SILENCE)
    await call.until(TextDelta, turn=2)
    assert 4.0 in call.memories[1]
    assert words(call.memories[1]) == []


async def test_of_a_reply_whose_voice_fails_only_the_heard_is_remembered(call: Call) -> None:
    steps, heard = iter(range(6)), asyncio.Event()

    async def voice() -> None:
        if next(steps) == 5:
            await heard.wait()
            raise StepFailedError("no voice")

    call.pool.before = {StepKind.SPEAK: voice}
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    call.playing = True
    await call.until(AgentAudio, pts=4800)  # the third word begins
    call.playing = False
    heard.set()
    await call.until(ErrorEvent, code="step_failed")
    cut = await call.until(Cut)
    assert (cut.turn, cut.heard_text.strip(), cut.reason) == (1, "one two", CutReason.FAILED)
    await call.until(StateChanged, agent="listening")
    call.pool.before = {}
    await call.hear(SPEECH, ASK, SILENCE)
    await call.until(TextDelta, turn=2)
    assert words(call.memories[1]) == [100.0, 101.0]


async def test_what_was_heard_of_a_reply_the_client_stops_is_remembered_although_the_user_had_begun_to_speak(
    call: Call,
) -> None:
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    await call.until(AgentAudio, pts=4800)  # the third word begins
    call.session.handle(Played(0, 2400))
    await call.hear(SPEECH)
    call.session.handle(Played(0, 4800))
    call.session.handle(Interrupt(0))
    cut = await call.until(Cut)
    assert (cut.turn, cut.heard_text.strip(), cut.reason) == (1, "one two", CutReason.CLIENT)
    await call.hear(ASK, SILENCE)
    await call.until(TextDelta, turn=2)
    assert words(call.memories[1]) == [100.0, 101.0]


async def test_a_reply_does_not_wait_for_a_report_that_never_comes(call: Call) -> None:
    """The client says late, and then no more, how far behind the reply before it is."""
    call.engine.samples_per_token = 24_000
    await call.hear(SILENCE)
    call.session.handle(Say("one", SayRole.USER))
    await call.until(AgentAudio)
    ended = asyncio.create_task(call.until(StateChanged, agent="listening"))
    while not ended.done():  # without a report it is taken to play in real time
        call.clock.advance(0.2)
        call.session.handle(Played(7, 0))  # of no epoch: only wakes
        await asyncio.sleep(0.002)
    await ended
    sent = call.session.playout.sent_pts
    call.session.handle(Played(0, 24_000))
    await asyncio.sleep(0.05)
    assert call.session.playout.heard_pts(call.clock.now()) < sent - MAX_AHEAD_SEC * 24_000
    call.session.handle(Say("two", SayRole.USER))
    await call.until(StateChanged, agent="thinking")
    await asyncio.sleep(0.05)
    call.clock.advance(20.0)
    await call.until(AgentAudio, first=True)


async def test_a_turn_that_outgrows_the_memory_ends_with_the_reason() -> None:
    async with running(Call(max_length=64)) as call:
        await call.hear(*[SPEECH] * 29)
        call.speak(SPEECH)
        error = await call.until(ErrorEvent, code="step_failed")
        assert error.message == "the turn is longer than the model's memory has room for"
        await call.until(Notice, code="conversation_reset")
        await call.hear(SILENCE, SPEECH, ASK, SILENCE)
        await call.until(TextDelta, turn=2)


async def test_a_typed_turn_that_is_refused_leaves_no_trace_in_a_conversation_that_is_nearly_full() -> None:
    async with running(Call(max_length=80)) as call:
        call.playing = True
        for turn in range(1, 6):
            call.session.handle(Say("Hello."))
            await call.until(StateChanged, agent="listening", turn=turn)
        before = call.engine.contents(call.session._line.committed)
        call.session.handle(Say("a " * 90, ref="s1"))
        assert (await call.until(ErrorEvent, code="bad_message")).ref == "s1"
        await call.until(StateChanged, agent="listening", turn=6)
        assert call.engine.contents(call.session._line.committed) == before
        call.session.handle(Say("Hello."))
        await call.until(Notice, code="conversation_reset")
        await call.until(TextDelta, turn=7)
        assert call.memories[-1] == [1.0] * 3 + [4.0] * 3


async def test_dictated_words_that_were_heard_are_remembered_although_the_user_had_begun_to_speak(call: Call) -> None:
    await call.hear(SILENCE, SPEECH)
    call.session.handle(Say("this is being said to you", SayRole.AGENT))
    call.playing = True
    await call.until(AgentAudio, pts=4800)
    call.playing = False
    await call.hear(SPEECH, ASK, SILENCE)
    cut = await call.until(Cut)
    assert (cut.turn, cut.heard_text.strip()) == (2, "this is")
    await call.until(TextDelta, turn=3)
    assert words(call.memories[0]) == [100.0, 101.0]
    assert call.memories[0].count(2.0) == 3  # one turn of the user, the one that was begun anew


async def test_who_comes_back_is_told_how_things_stand(call: Call) -> None:
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    await call.until(AgentAudio, pts=4800)
    call.session.handle(Played(0, 4800))
    call.session.handle(Interrupt(0))
    cut = await call.until(Cut)
    await call.until(StateChanged, agent="listening")  # these went into a dead connection
    for epoch, cuts in ((0, [cut]), (1, []), (None, [])):
        call.session.pause()
        call.session.resume(Resume("t", -1, epoch, 4800))
        told = [call.session.outbox.get_nowait() for _ in range(len(call.session.outbox))]
        assert [event for event in told if isinstance(event, Cut)] == cuts
        assert told[-1] == StateChanged(UserActivity.SILENT, AgentActivity.LISTENING, 1)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Interrupt(0), CutReason.CLIENT),
        (Say("And now?"), CutReason.USER),
        (Say("Listen.", SayRole.AGENT), CutReason.CLIENT),
    ],
)
async def test_a_reply_that_was_lost_and_comes_again_can_be_stopped(
    call: Call, event: Interrupt | Say, reason: CutReason
) -> None:
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    await call.until(AgentAudio, pts=4800)
    call.session.handle(Played(0, 4800))
    while call.session.busy:  # the link is dead, and nobody knows
        call.clock.advance(0.5)
        call.session._speaking.wake()
        await asyncio.sleep(0)
    call.session.pause()
    call.session.resume(Resume("t", 5, 0, 4800))
    await call.until(AgentAudio, pts=6 * 960)
    call.session.handle(event)
    cut = await call.until(Cut)
    assert (cut.turn, cut.heard_text.split()[-1], cut.reason, cut.new_epoch) == (1, "eight", reason, 1)


async def test_a_cut_that_waits_for_the_client_is_told_once(call: Call) -> None:
    await call.hear(SILENCE, SPEECH, ASK, SILENCE)
    await call.until(AgentAudio, pts=4800)
    call.session.pause()
    call.session.handle(Interrupt(0))
    call.session.resume(Resume("t", -1, 0, 4800))
    told = [call.session.outbox.get_nowait() for _ in range(len(call.session.outbox))]
    assert sum(isinstance(event, Cut) for event in told) == 1


async def test_every_chunk_is_traced_once_and_as_it_was(call: Call) -> None:
    levels = (SILENCE, SILENCE, SPEECH, ASK, SILENCE)
    for level in levels:
        call.speak(level)
    await call.until(StateChanged, agent="thinking")
    traces = sorted(call.traces, key=lambda trace: trace.t_ms)
    assert [trace.t_ms for trace in traces] == [160, 320, 480, 640, 800]
    assert [trace.speech for trace in traces] == [0.9 if level else 0.01 for level in levels]
    assert [trace.probs is None for trace in traces] == [True, True, False, False, False]


async def test_words_that_are_no_whole_turn_make_it_wait_and_the_trace_says_so(call: Call) -> None:
    call.engine.words_over = 0.0  # with a head that is sure, but not that sure
    for level in (SILENCE, SPEECH, ASK, SILENCE, SILENCE):
        call.speak(level)
    await call.until(TurnTrace, t_ms=800)
    decided = [trace.decision for trace in sorted(call.traces, key=lambda trace: trace.t_ms) if trace.probs]
    assert decided == [TurnDecision.CONTINUE] * 4
    for _ in range(4):
        call.speak(SILENCE)
    await call.until(StateChanged, agent="thinking")


def test_what_clients_count_of_underruns_is_measured() -> None:
    call = Call()
    for underruns in (0, 2, 3, 1):  # the last is a new client's
        call.session.handle(Played(0, 0, 40.0, underruns))
    exposed = call.metrics.exposition().decode()
    assert "duplex_underruns_total 4.0" in exposed
    assert "duplex_client_queued_seconds_count 4.0" in exposed
