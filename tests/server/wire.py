"""A client of the native protocol, for tests on real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from duplex.audio.pcm import int16_bytes
from duplex.protocols.native import KIND_MIC, AudioHeader

CHUNK_SEC = 0.16


class Client:
    """Speaks chunks of 160 ms at 16 kHz and keeps everything it was sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.audio: list[tuple[AudioHeader, bytes]] = []
        self.log: list[str] = []  # order of arrival: types, and "audio:<epoch>"
        self._seq = 0
        self._pts = 0

    async def hello(self, **fields: Any) -> dict[str, Any]:
        message = {"type": "hello", "playback": "virtual", "features": ["trace", "metrics"], **fields}
        await self.send(message)
        return await self.until("ready")

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def speak(self, pcm: np.ndarray) -> None:
        """Send samples as one frame a chunk, as fast as the socket takes them."""
        for start in range(0, len(pcm), 2560):
            piece = pcm[start : start + 2560]
            header = AudioHeader(KIND_MIC, 0, 0, self._seq, self._pts)
            await self.socket.send(header.pack() + int16_bytes(piece))
            self._seq += 1
            self._pts += len(piece)

    async def receive(self) -> str:
        """One message; returns what it was."""
        message = await asyncio.wait_for(self.socket.recv(), 10)
        if isinstance(message, bytes):
            header = AudioHeader.unpack(message)
            self.audio.append((header, message[16:]))
            what = f"audio:{header.epoch}"
        else:
            event = json.loads(message)
            self.events.append(event)
            what = event["type"]
        self.log.append(what)
        return what

    async def until(self, wanted: str, **fields: Any) -> dict[str, Any]:
        """Receive until an event of a type with these fields comes."""
        while True:
            if await self.receive() == wanted:
                event = self.events[-1]
                if all(event[key] == value for key, value in fields.items()):
                    return event

    async def until_audio(self, epoch: int = 0) -> AudioHeader:
        while await self.receive() != f"audio:{epoch}":
            pass
        return self.audio[-1][0]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


class connected:  # noqa: N801
    """`async with connected(port) as client`."""

    def __init__(self, port: int, **options: Any) -> None:
        options.setdefault("subprotocols", ["duplex.v1"])
        self._context = connect(f"ws://127.0.0.1:{port}/v1/duplex", compression=None, max_size=None, **options)

    async def __aenter__(self) -> Client:
        return Client(await self._context.__aenter__())

    async def __aexit__(self, *exc: object) -> None:
        await self._context.__aexit__(*exc)
