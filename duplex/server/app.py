"""The only place that wires the parts together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from duplex.core.clock import Clock, MonotonicClock
from duplex.core.config import ServerConfig
from duplex.core.errors import BranchOverflowError, ConfigError
from duplex.core.events import ErrorEvent
from duplex.core.metrics import Metrics
from duplex.engine.steps import Engine
from duplex.pool.pool import ModelPool
from duplex.protocols.native import SUBPROTOCOL, NativeProtocol
from duplex.server.access import authorized, offered_subprotocols
from duplex.server.connection import CLOSE_DRAINING, CLOSE_FAULT, Connection, Farewell, part
from duplex.server.http import Pages, refuse
from duplex.server.tls import server_context
from duplex.session.line import ConversationLine
from duplex.session.registry import SessionRegistry
from duplex.session.store import SessionStore

log = logging.getLogger(__name__)

SOCKET_PATH = "/v1/duplex"
MAX_WIRE_BYTES = 16 << 20  # above, websockets closes with 1009 without reading the message
SPARE_CONNECTIONS = 16  # connections beyond the sessions: resumes, and clients that are told why not
CLOSE_UNAUTHORIZED = 4401
TRIAL_SESSION = "trial"  # who holds a branch while the instructions are tried
LOOP_PROBE_SEC = 0.02  # a loop blocked for twice as long shows as at least this much, wherever it falls
GOODBYE_SEC = 5.0  # how long clients may take to close when the server drains


class App:
    """A running server. Use as an async context manager; `drain` ends it in good order.

    Entering it raises ConfigError for a certificate that is none and for instructions that are too long.

    `engines`: one entry a worker; workers on one device share one engine.
    """

    def __init__(self, config: ServerConfig, engines: Sequence[Engine], clock: Clock | None = None) -> None:
        self.config = config
        self.metrics = Metrics()
        self._clock = clock or MonotonicClock()
        self.pool = ModelPool(engines, max_batch=config.max_batch, metrics=self.metrics, clock=self._clock)
        self.store = SessionStore(engines[0].branches)
        self.registry = SessionRegistry(config, self.pool, self.store, self.metrics, self._clock)
        self._pages = Pages(config.web_root, self.metrics, self._not_ready)
        self._connections: set[Connection] = set()
        self._sockets = 0
        self._socket_gone = asyncio.Event()
        self._exits = contextlib.AsyncExitStack()
        self._server: Server | None = None

    async def __aenter__(self) -> App:
        context: ssl.SSLContext | None = None
        if self.config.tls or self.config.cert is not None:
            context = await asyncio.to_thread(server_context, self.config.cert, self.config.key)
        async with contextlib.AsyncExitStack() as exits:
            await exits.enter_async_context(self.pool)
            await self._try_instructions()
            exits.push_async_callback(self.registry.close_all)
            probe = asyncio.create_task(probe_loop(self._clock, self.metrics), name="loop probe")
            exits.push_async_callback(_stop, probe)
            self._server = await exits.enter_async_context(
                serve(
                    self._serve_socket,
                    self.config.host,
                    self.config.port,
                    ssl=context,
                    process_request=self._process_request,
                    select_subprotocol=_select_subprotocol,
                    compression=None,
                    max_size=MAX_WIRE_BYTES,
                    max_queue=32,
                    server_header="duplex",
                )
            )
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for connection in list(self._connections):
            connection.end(Farewell(1001, "server stops"))
        await self._exits.aclose()

    async def _try_instructions(self) -> None:
        """Begin a conversation as every session will. Raises ConfigError when the instructions leave no room for it."""
        line = ConversationLine(TRIAL_SESSION, self.pool, self.store, self._clock)
        try:
            await line.start(self.config.session.instructions)
        except BranchOverflowError as error:
            raise ConfigError(f"session.instructions are too long for model.max_length: {error}") from error
        finally:
            self.store.release_all(TRIAL_SESSION)

    @property
    def port(self) -> int:
        """The port it listens on (useful when 0 was asked for)."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def url(self) -> str:
        """Where the page is."""
        scheme = "https" if self.config.tls or self.config.cert is not None else "http"
        return f"{scheme}://{host_in_url(self.config.host)}:{self.port}/"

    async def drain(self) -> None:
        """Take no new sessions, let running replies finish, tell every client, close."""
        self.registry.draining = True
        log.info("draining", extra={"sessions": len(self.registry)})
        deadline = self._clock.now() + self.config.drain_timeout_sec
        while self.registry.busy and self._clock.now() < deadline:
            await asyncio.sleep(0.1)
        error = ErrorEvent("draining", "the server is stopping", fatal=True)
        for connection in list(self._connections):
            connection.end(Farewell(CLOSE_DRAINING, "draining", error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SEC):
                await self.settled()

    async def settled(self) -> None:
        """Wait until every connection that has ended is wholly gone."""
        while self._sockets:
            self._socket_gone.clear()
            await self._socket_gone.wait()

    # --- requests ----------------------------------------------------------------------------------------

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; let WebSockets of the right path and with the key through."""
        try:
            path = urlsplit(request.path).path
        except ValueError:
            return refuse(HTTPStatus.BAD_REQUEST, "bad_request", "this is no address")
        upgrade = "websocket" in request.headers.get("Upgrade", "").lower()
        if path != SOCKET_PATH:
            return await self._pages.answer(request.path)
        if not upgrade:
            return refuse(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", "this is a WebSocket", Upgrade="websocket")
        native = SUBPROTOCOL in offered_subprotocols(request.headers)
        if not native and not authorized(self.config.api_key, request.path, request.headers):
            self.metrics.refusals.labels("unauthorized").inc()
            return refuse(HTTPStatus.UNAUTHORIZED, "unauthorized", "an API key is needed", WWW_Authenticate="Bearer")
        if self._sockets >= self.config.max_sessions * 2 + SPARE_CONNECTIONS:
            self.metrics.refusals.labels("connections").inc()
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, "capacity", "too many connections", Retry_After="5")
        return None

    async def _serve_socket(self, socket: ServerConnection) -> None:
        self._sockets += 1
        self.metrics.connections.set(self._sockets)
        try:
            assert socket.request is not None
            if not authorized(self.config.api_key, socket.request.path, socket.request.headers):
                await self._refuse_socket(socket)
                return
            connection = Connection(socket, self.registry, self.config, self._clock)
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
        except Exception as error:
            log.exception("connection failed", extra={"cause": type(error).__name__})
            await part(socket, CLOSE_FAULT, "internal")
        finally:
            self._sockets -= 1
            self._socket_gone.set()
            self.metrics.connections.set(self._sockets)

    async def _refuse_socket(self, socket: ServerConnection) -> None:
        """Tell a browser, which sees no HTTP status, why it may not in."""
        self.metrics.refusals.labels("unauthorized").inc()
        protocol = NativeProtocol(max_message_bytes=self.config.max_message_bytes)
        words = protocol.encode(ErrorEvent("unauthorized", "an API key is needed", fatal=True))
        await part(socket, CLOSE_UNAUTHORIZED, "unauthorized", words)

    def _not_ready(self) -> str | None:
        if self.registry.draining:
            return "draining"
        return "full" if self.registry.full else None


async def probe_loop(clock: Clock, metrics: Metrics, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Measure how late the event loop wakes a task, until cancelled."""
    while True:
        due = clock.now() + LOOP_PROBE_SEC
        await sleep(LOOP_PROBE_SEC)
        metrics.loop_delay_sec.observe(max(0.0, clock.now() - due))


def host_in_url(host: str) -> str:
    """How a browser on this machine names the address listened on."""
    if host in ("0.0.0.0", "::", "127.0.0.1", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def serve_until(
    config: ServerConfig,
    engines: Sequence[Engine],
    stopped: asyncio.Event,
    announce: Callable[[App], None] = lambda app: None,
) -> None:
    """Serve until `stopped` is set, then drain."""
    async with App(config, engines) as app:
        announce(app)
        await stopped.wait()
        await app.drain()
