"""One WebSocket connection: bytes in, bytes out, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from duplex.core.clock import Clock
from duplex.core.config import ServerConfig
from duplex.core.errors import BranchOverflowError, CapacityError
from duplex.core.events import (
    AgentAudio,
    ClientBye,
    ErrorEvent,
    Hello,
    Ready,
    Resume,
    Say,
    ServerBye,
    ServerEvent,
    Update,
)
from duplex.protocols.native import FEATURES, NativeProtocol
from duplex.session.registry import Seat, SessionRegistry

log = logging.getLogger(__name__)

CLOSE_NORMAL = 1000
CLOSE_FAULT = 1011
CLOSE_BAD_HELLO = 4400
CLOSE_IDLE = 4408
CLOSE_TAKEN_OVER = 4409
CLOSE_CAPACITY = 4429
CLOSE_DRAINING = 4503
SEND_TIMEOUT_SEC = 15.0  # a client that takes nothing for so long is too slow, or its link dead
PARTING_SEC = 4.0  # for the last words and the closing handshake


class Farewell(Exception):  # noqa: N818  (an ending, not an error)
    """The connection is to be closed; `keep` leaves the session for a resume."""

    def __init__(self, code: int, reason: str, error: ErrorEvent | None = None, *, keep: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.error = error
        self.keep = keep


class Connection:
    """Drives one native-protocol connection from upgrade to close."""

    def __init__(
        self,
        socket: ServerConnection,
        registry: SessionRegistry,
        config: ServerConfig,
        clock: Clock,
    ) -> None:
        self._socket = socket
        self._registry = registry
        self._config = config
        self._clock = clock
        self._protocol = NativeProtocol(max_message_bytes=config.max_message_bytes)
        self._ended: asyncio.Future[Farewell] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until either side ends it. Never raises for what a client does."""
        seat: Seat | None = None
        farewell = Farewell(1006, "gone", keep=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._obey())
                gone = tasks.create_task(self._notice_close())
                hello = await self._greeting()
                seat, resume = await self._sit(hello)
                await self._welcome(seat, hello, resume)
                gone.cancel()  # from here on the reader notices, in its turn
                tasks.create_task(self._read(seat))
                tasks.create_task(self._write(seat))
                tasks.create_task(self._watch(seat))
        except* Farewell as endings:
            farewell = next(e for e in _leaves(endings) if isinstance(e, Farewell))
        except* ConnectionClosed as endings:
            closed = next(e for e in _leaves(endings) if isinstance(e, ConnectionClosed))
            clean = closed.rcvd is not None and closed.rcvd.code == CLOSE_NORMAL
            if farewell.keep:  # else it said goodbye before
                farewell = Farewell(1006, "gone", keep=not clean)
        finally:
            self._ended.cancel()
            if seat is not None:
                await self._registry.leave(seat, self, mic_pts=self._protocol.mic_pts, keep=farewell.keep)
        await self._close(farewell)

    def end(self, farewell: Farewell) -> None:
        """Make the connection end, from outside."""
        if not self._ended.done():
            self._ended.set_result(farewell)

    def unseat(self) -> int:
        """Another connection has resumed the session; returns from where the microphone goes on counting."""
        self.end(Farewell(CLOSE_TAKEN_OVER, "resumed elsewhere"))
        return self._protocol.mic_pts

    async def _obey(self) -> None:
        """End the connection when told to."""
        raise await self._ended

    async def _notice_close(self) -> None:
        """End the connection when the client is gone."""
        await self._socket.wait_closed()
        raise self._gone()

    def _gone(self) -> Farewell:
        """The client has closed the connection, or lost it."""
        return Farewell(1006, "gone", keep=self._socket.close_code != CLOSE_NORMAL)

    # --- beginning ---------------------------------------------------------------------------------------

    async def _greeting(self) -> Hello:
        try:
            async with asyncio.timeout(self._config.hello_timeout_sec):
                async for message in self._socket:
                    event = self._protocol.receive(message)
                    if isinstance(event, Hello):
                        return event
                    if isinstance(event, ErrorEvent):
                        await self._tell(event)
        except TimeoutError:
            await self._tell(ErrorEvent("bad_hello", "no hello came", fatal=True, close_code=CLOSE_BAD_HELLO))
        raise Farewell(CLOSE_NORMAL, "gone before hello")

    async def _sit(self, hello: Hello) -> tuple[Seat, Resume | None]:
        """A seat, and what is to be taken up there if it is not a fresh one."""
        if self._registry.draining:
            error = ErrorEvent("draining", "the server is stopping", fatal=True, ref=hello.ref)
            raise Farewell(CLOSE_DRAINING, "draining", error)
        if hello.resume is not None:
            seat = self._registry.resume(hello, hello.resume, self)
            if seat is not None:
                return seat, hello.resume
            text = "this session cannot be resumed; here is a fresh one"
            await self._tell(ErrorEvent("resume_refused", text, ref=hello.ref))
        try:
            return await self._registry.open(hello, self), None
        except CapacityError as full:
            error = ErrorEvent("capacity", str(full), fatal=True, ref=hello.ref)
            raise Farewell(CLOSE_CAPACITY, "capacity", error) from full
        except BranchOverflowError as long:
            text = f"session.instructions: {long}"
            error = ErrorEvent("bad_hello", text, fatal=True, ref=hello.ref)
            raise Farewell(CLOSE_BAD_HELLO, "bad hello", error) from long

    async def _welcome(self, seat: Seat, hello: Hello, resume: Resume | None) -> None:
        if resume is None:
            await self._tell(self._ready(seat, resumed=False))
            return
        seat.session.adopt(hello.session, hello.ref)
        await self._tell(self._ready(seat, resumed=True))
        seat.session.resume(resume)

    def _ready(self, seat: Seat, *, resumed: bool) -> Ready:
        session = seat.session
        return Ready(
            session_id=session.id,
            resume_token=seat.token,
            resume_window_sec=self._config.resume_window_sec,
            resumed=resumed,
            input_rate=session.hello.input_rate,
            output_rate=session.hello.output_rate,
            epoch=session.playout.epoch,
            pts=session.playout.sent_pts,
            mic_pts=seat.mic_pts,
            max_lead_ms=self._config.max_lead_ms,
            features=tuple(name for name in FEATURES if name in session.hello.features),
            session=session.config,
            max_message_bytes=self._config.max_message_bytes,
            idle_timeout_sec=self._config.idle_timeout_sec,
        )

    # --- in between --------------------------------------------------------------------------------------

    async def _read(self, seat: Seat) -> None:
        async for message in self._socket:
            event = self._protocol.receive(message)
            if isinstance(event, Say | Update):
                await seat.session.room()
            if seat.sitter is not self:
                return
            seat.former_token = None  # who speaks has got `ready`, and the new token in it
            if isinstance(event, ErrorEvent):
                seat.session.outbox.put(event)
            elif isinstance(event, ClientBye):
                raise Farewell(CLOSE_NORMAL, "bye")
            elif event is not None:
                seat.session.handle(event)
        raise self._gone()

    async def _write(self, seat: Seat) -> None:
        outbox = seat.session.outbox
        while True:
            await outbox.filled()
            if seat.sitter is not self:
                return
            event = outbox.get_nowait()
            if isinstance(event, AgentAudio) and event.epoch != seat.session.playout.epoch:
                continue  # cut while it waited
            if outbox.overflowed:
                error = ErrorEvent("too_slow", "the client does not read what it is sent", fatal=True)
                raise Farewell(CLOSE_FAULT, "too slow", error)
            await self._tell(event)

    async def _watch(self, seat: Seat) -> None:
        """End the connection when it is idle for too long."""
        idle = self._config.idle_timeout_sec
        while True:
            left = seat.session.last_activity_sec + idle - self._clock.now()
            if left <= 0:
                error = ErrorEvent("idle", f"nothing was heard or said for {idle:g} s", fatal=True)
                raise Farewell(CLOSE_IDLE, "idle", error)
            await asyncio.sleep(left)

    async def _tell(self, event: ServerEvent) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SEC):
                await self._socket.send(self._protocol.encode(event))
        except TimeoutError as error:
            raise Farewell(CLOSE_FAULT, "too slow", keep=True) from error
        if isinstance(event, ErrorEvent) and event.fatal:
            raise Farewell(event.close_code or CLOSE_FAULT, event.code)

    # --- ending ------------------------------------------------------------------------------------------

    async def _close(self, farewell: Farewell) -> None:
        last: ServerEvent | None = farewell.error
        if last is None and farewell.code == CLOSE_NORMAL:
            last = ServerBye(farewell.reason)
        words = None if last is None else self._protocol.encode(last)
        code = farewell.code if farewell.code != 1006 else CLOSE_NORMAL
        await part(self._socket, code, farewell.reason, words)
        log.info("connection closed", extra={"code": farewell.code, "reason": farewell.reason})


async def part(socket: ServerConnection, code: int, reason: str, words: str | bytes | None = None) -> None:
    """Close a connection, after some last words. One whose client takes nothing is broken off: a send waits for it, and so
    do a close and a keepalive behind it.
    """

    async def say() -> None:
        with contextlib.suppress(ConnectionClosed):
            if words is not None:
                await socket.send(words)
            await socket.close(code, reason)

    # In a task of its own: once a task group has failed in a task, as one does for every farewell, a timeout there ends as
    # a cancellation in Python 3.11.2.
    saying = asyncio.create_task(say())
    await asyncio.wait([saying], timeout=PARTING_SEC)
    if not saying.done():
        socket.transport.abort()
        saying.cancel()
        await asyncio.wait([saying])
    elif error := saying.exception():
        raise error


def _leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, flat."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [error]
