"""All sessions of a server: admission, resume tokens, the grace period after a dropped connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from typing import Protocol

from duplex.audio.pcm import costly_filters, prepare_filters
from duplex.core.clock import Clock
from duplex.core.config import ServerConfig
from duplex.core.errors import CapacityError
from duplex.core.events import Hello, Resume
from duplex.core.metrics import Metrics
from duplex.pool.pool import ModelPool
from duplex.session.session import Session
from duplex.session.store import SessionStore

log = logging.getLogger(__name__)


class Sitter(Protocol):
    """Who sits at a seat: a connection."""

    def unseat(self) -> int:
        """Another one has sat down here: end, and touch the session no more.

        Returns from where the microphone goes on counting.
        """


@dataclass(eq=False)
class Seat:
    """A session and who sits at it, None while it waits for a resume. Only the sitter may take from the outbox.

    former_token: what the sitter came with; it stays good until the new one has certainly arrived.
    """

    session: Session
    token: str
    task: asyncio.Task[None]
    sitter: Sitter | None
    mic_pts: int = 0
    detached_sec: float = 0.0
    expiry: asyncio.TimerHandle | None = field(default=None, repr=False)
    former_token: str | None = field(default=None, repr=False)


class SessionRegistry:
    """Opens, resumes and closes sessions: at most `max_sessions`, and as many as the models bear. Sessions without a
    connection give way first.
    """

    def __init__(
        self, config: ServerConfig, pool: ModelPool, store: SessionStore, metrics: Metrics, clock: Clock
    ) -> None:
        self._config = config
        self._pool = pool
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._seats: dict[str, Seat] = {}  # by token
        self._closing: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def full(self) -> bool:
        """Whether a new session would be refused."""
        return self._why_full() is not None

    def _why_full(self) -> str | None:
        taken = sum(seat.sitter is not None for seat in self._seats.values())
        if taken >= self._config.max_sessions:
            return f"all {self._config.max_sessions} sessions are taken"
        if taken and (share := self._pool.tight_share) > self._config.max_tight_share:
            return f"the models bear no session beside the {taken} of now: {share:.0%} of what they hear or say comes late or nearly so"
        return None

    @property
    def busy(self) -> bool:
        """Whether any session with a connection is in the middle of something."""
        return any(seat.sitter is not None and seat.session.busy for seat in self._seats.values())

    async def open(self, hello: Hello, sitter: Sitter) -> Seat:
        """A new session. Raises CapacityError when all are taken by live connections or the models bear no more,
        BranchOverflowError when the instructions are too long.
        """
        await self._prepare_filters(hello)
        while (why := self._why_full()) is None and len(self._seats) >= self._config.max_sessions:
            waiting = [seat for seat in self._seats.values() if seat.sitter is None]
            await self.close(min(waiting, key=lambda seat: seat.detached_sec))
        if why is not None:
            self._metrics.refusals.labels("capacity").inc()
            raise CapacityError(why)
        session = Session(
            f"s-{secrets.token_hex(4)}",
            self._config.session.patched(hello.session),
            hello,
            pool=self._pool,
            store=self._store,
            clock=self._clock,
            metrics=self._metrics,
            max_lead_ms=self._config.max_lead_ms,
        )
        task = asyncio.create_task(session.run(), name=f"{session.id} run")
        seat = Seat(session, secrets.token_urlsafe(24), task, sitter)
        self._seats[seat.token] = seat
        self._metrics.sessions.set(len(self._seats))
        try:
            await session.begun()
        except BaseException:
            await self.close(seat)
            raise
        log.info("session opened", extra={"session": session.id})
        return seat

    def resume(self, hello: Hello, resume: Resume, sitter: Sitter) -> Seat | None:
        """The session of a resume token, with a new token, if it still lives and the audio formats agree.

        Who sits there is unseated; the session is paused until its `resume` is called.
        """
        seat = self._seat_of(resume.token)
        if seat is None or seat.task.done():
            return None
        old = seat.session.hello
        if (old.input_rate, old.output_rate) != (hello.input_rate, hello.output_rate):
            return None
        if seat.sitter is not None:
            seat.mic_pts = seat.sitter.unseat()
            seat.session.pause()
        if seat.expiry is not None:
            seat.expiry.cancel()
        del self._seats[seat.token]
        seat.former_token, seat.token = resume.token, secrets.token_urlsafe(24)
        self._seats[seat.token] = seat
        seat.sitter = sitter
        log.info("session resumed", extra={"session": seat.session.id})
        return seat

    async def leave(self, seat: Seat, sitter: Sitter, *, mic_pts: int, keep: bool) -> None:
        """The connection is gone; `keep` (it said no goodbye) keeps the session for the grace period.

        mic_pts: from where the microphone goes on counting. Nothing happens when another one has sat down.
        """
        if seat.sitter is not sitter:
            return
        seat.mic_pts = mic_pts
        if keep and not seat.session.failed and not self.draining:
            self._detach(seat)
        else:
            await self.close(seat)

    async def _prepare_filters(self, hello: Hello) -> None:
        facts = self._pool.engine.facts
        for rates in ((hello.input_rate, facts.input_sample_rate), (facts.output_sample_rate, hello.output_rate)):
            if costly_filters(*rates):
                await asyncio.to_thread(prepare_filters, *rates)

    def _seat_of(self, token: str) -> Seat | None:
        former = (seat for seat in self._seats.values() if seat.former_token == token)
        return self._seats.get(token) or next(former, None)

    def _detach(self, seat: Seat) -> None:
        seat.sitter = None
        seat.detached_sec = self._clock.now()
        seat.session.pause()
        window = self._config.resume_window_sec
        seat.expiry = asyncio.get_running_loop().call_later(window, self._expire, seat)

    async def close(self, seat: Seat) -> None:
        """End a session and give everything back. Harmless when it ended before."""
        self._seats.pop(seat.token, None)
        self._metrics.sessions.set(len(self._seats))
        if seat.expiry is not None:
            seat.expiry.cancel()
        seat.task.cancel()
        await asyncio.wait([seat.task])
        log.info("session closed", extra={"session": seat.session.id})

    async def close_all(self) -> None:
        """End every session."""
        await asyncio.gather(*(self.close(seat) for seat in list(self._seats.values())))
        if self._closing:
            await asyncio.wait(self._closing)

    def _expire(self, seat: Seat) -> None:
        del self._seats[seat.token]  # at once: nobody may resume what is about to be cancelled
        task = asyncio.get_running_loop().create_task(self.close(seat))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
