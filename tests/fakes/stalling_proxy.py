"""A network that goes dead without a word."""

from __future__ import annotations

import asyncio
import contextlib

CLOSE_TIMEOUT_SEC = 10.0


class StallingProxy:
    """Relays TCP connections from a free port of loopback to `port`.

    After `stall`, connections that are open carry nothing more until `release`; new ones are not concerned.
    `connections`: how many there were. Use as an async context manager.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target = port
        self._flowing = _set()
        self._stalled: list[asyncio.Event] = []
        self._relays: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> StallingProxy:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.release()
        self._server.close()
        await self._server.wait_closed()
        if self._relays:
            await asyncio.wait(self._relays, timeout=CLOSE_TIMEOUT_SEC)

    def stall(self) -> None:
        """The connections that are open go dead."""
        self._flowing.clear()
        self._stalled.append(self._flowing)
        self._flowing = _set()

    def release(self) -> None:
        """What was held back arrives."""
        for flowing in self._stalled:
            flowing.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        self.connections += 1
        flowing = self._flowing
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pump(reader, far_writer, flowing), _pump(far_reader, writer, flowing))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            await flowing.wait()
            writer.write(piece)
            await writer.drain()
    await flowing.wait()
    writer.close()


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
