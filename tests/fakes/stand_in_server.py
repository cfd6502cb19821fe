"""A stand-in for the server: speaks docs/protocol.md, answers every burst of sound with a tone and captions.

It lets the page and the terminal client be developed and tested without models. Speech is loudness here, and
the decision to answer is a pause. Run it to look at the page: `python -m tests.fakes.stand_in_server`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import mimetypes
import secrets
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

HEADER = struct.Struct("<BBHIQ")
MIC, AGENT = 1, 2
FIRST, LAST = 1, 2
MAX_LEAD_MS = 400
FRAME_MS = 20
LOUD_RMS = 0.01  # of full scale; above it a frame counts as speech
SECURITY_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:"
REPLY = "I heard you clearly, and this is my answer, spoken word by word so that you may interrupt it."


@dataclass(frozen=True)
class Behaviour:
    """What a stand-in does; times in milliseconds of microphone audio."""

    reply: str = REPLY
    word_ms: int = 180
    end_silence_ms: int = 400
    cut_after_ms: int = 200
    thinking_ms: int = 100
    refuse: str | None = None  # "capacity" or "draining"
    seats: int | None = None  # conversations that it holds; others are refused for "capacity"
    api_key: str | None = None
    resume_window_s: float = 30.0


@dataclass(frozen=True)
class MicFrame:
    """What arrived of one microphone frame."""

    flags: int
    seq: int
    pts: int
    samples: int
    rms: float


@dataclass
class Conversation:
    """One session; it outlives its connections."""

    behaviour: Behaviour
    input_rate: int
    output_rate: int
    virtual: bool
    settings: dict[str, Any]
    session_id: str = field(default_factory=lambda: f"s-{secrets.token_hex(2)}")
    token: str = ""
    connection: ServerConnection | None = None
    epoch: int = 0
    seq: int = 0
    sent_pts: int = 0
    played_pts: int = 0
    mic_pts: int = 0
    turn: int = 0
    reply_turn: int = 0
    agent: str = "listening"
    user: str = "silent"
    loud_ms: float = 0.0  # of the current burst
    quiet_ms: float = 0.0  # since it
    trace_ms: float = 0.0
    heard_ms: float = 0.0
    sent_frames: list[tuple[int, int, bytes]] = field(default_factory=list)  # (seq, pts, frame) of this epoch
    words: list[tuple[int, str]] = field(default_factory=list)  # (pts, word) of the running reply
    deltas: list[dict[str, Any]] = field(default_factory=list)  # `text` messages of it sent so far
    speaking: asyncio.Task[None] | None = None
    received: list[dict[str, Any]] = field(default_factory=list)
    mic_frames: list[MicFrame] = field(default_factory=list)

    async def send(self, **message: Any) -> None:
        if self.connection is not None:
            with contextlib.suppress(ConnectionClosed):
                await self.connection.send(json.dumps(message))

    async def set_state(self, user: str | None = None, agent: str | None = None) -> None:
        before = (self.user, self.agent)
        self.user, self.agent = user or self.user, agent or self.agent
        if (self.user, self.agent) != before:
            await self.send(type="state", user=self.user, agent=self.agent, turn=self.turn)

    async def hear(self, frame: bytes) -> None:
        _, flags, _, seq, pts = HEADER.unpack_from(frame)
        pcm = np.frombuffer(frame, "<i2", offset=HEADER.size).astype(np.float32) / 32768
        rms = float(np.sqrt(np.mean(pcm**2))) if len(pcm) else 0.0
        self.mic_frames.append(MicFrame(flags, seq, pts, len(pcm), rms))
        self.mic_pts = pts + len(pcm)
        frame_ms = 1000 * len(pcm) / self.input_rate
        self.heard_ms += frame_ms
        loud = rms > LOUD_RMS
        await self.trace(frame_ms, loud)
        if loud:
            self.loud_ms, self.quiet_ms = self.loud_ms + frame_ms, 0.0
        elif self.loud_ms:
            self.quiet_ms += frame_ms
        if self.loud_ms >= 60 and loud and self.user != "speaking":
            self.turn += 1
            await self.set_state(user="speaking")
        if self.loud_ms >= self.behaviour.cut_after_ms and self.agent != "listening":
            await self.cut("user")
        if self.loud_ms and self.quiet_ms >= self.behaviour.end_silence_ms:
            await self.end_of_burst()

    async def end_of_burst(self) -> None:
        long_enough = self.loud_ms >= self.behaviour.cut_after_ms
        self.loud_ms = self.quiet_ms = 0.0
        if self.agent != "listening":
            await self.set_state(user="backchannel")
        if long_enough and self.agent == "listening":
            await self.set_state(user="silent", agent="thinking")
            self.answer(self.behaviour.reply)
        await self.set_state(user="silent")

    async def trace(self, frame_ms: float, loud: bool) -> None:
        self.trace_ms += frame_ms
        if self.trace_ms < 160:
            return
        self.trace_ms -= 160
        respond = 0.04 + 0.9 * min(1.0, self.quiet_ms / self.behaviour.end_silence_ms) ** 2
        decision = "respond" if respond > 0.5 and self.agent == "listening" else "continue"
        opened = self.loud_ms > 0
        await self.send(
            type="turn",
            turn=self.turn,
            t_ms=round(self.heard_ms),
            speech=0.93 if loud else 0.05,
            probs=[round(0.97 - respond, 3), round(respond, 3), 0.03] if opened else None,
            decision=decision if opened else None,
        )

    def answer(self, text: str) -> None:
        self.reply_turn = self.turn
        self.speaking = asyncio.create_task(self.speak(text, self.turn))

    async def speak(self, text: str, turn: int) -> None:
        await asyncio.sleep(self.behaviour.thinking_ms / 1000)
        await self.set_state(agent="speaking")
        first_audio_ms = self.behaviour.end_silence_ms + self.behaviour.thinking_ms
        await self.send(type="metrics", turn=turn, first_audio_ms=first_audio_ms, decision_ms=400, first_segment_ms=450)
        words = text.split(" ")
        word_samples = self.behaviour.word_ms * self.output_rate // 1000
        audio = tone(len(words) * word_samples, self.output_rate, word_samples)
        start_pts = self.sent_pts
        self.words = [(start_pts + i * word_samples, word) for i, word in enumerate(words)]
        self.deltas = []
        pending = list(self.words)
        step = FRAME_MS * self.output_rate // 1000
        started = asyncio.get_running_loop().time()
        for offset in range(0, len(audio), step):
            await self.wait_for_room(started, start_pts)
            while pending and pending[0][0] <= start_pts + offset:
                pts, word = pending.pop(0)
                delta = {"type": "text", "turn": turn, "delta": word + " " * bool(pending), "pts": pts, "final": False}
                self.deltas.append(delta)
                await self.send(**delta)
            await self.send_audio(audio[offset : offset + step], FIRST if offset == 0 else 0)
        await self.send_audio(audio[:0], LAST)
        await self.send(type="text", turn=turn, delta="", pts=self.sent_pts, final=True)
        while self.lead_ms(started, start_pts) > 0:
            await asyncio.sleep(0.01)
        self.words = []
        await self.set_state(agent="listening")

    async def send_audio(self, pcm: np.ndarray, flags: int) -> None:
        frame = HEADER.pack(AGENT, flags, self.epoch, self.seq, self.sent_pts) + pcm.tobytes()
        self.sent_frames.append((self.seq, self.sent_pts, frame))
        self.seq += 1
        self.sent_pts += len(pcm)
        if self.connection is not None:
            with contextlib.suppress(ConnectionClosed):
                await self.connection.send(frame)

    def lead_ms(self, started: float, start_pts: int) -> float:
        played = self.played_pts
        if self.virtual:
            elapsed = asyncio.get_running_loop().time() - started
            self.played_pts = played = min(self.sent_pts, start_pts + round(elapsed * self.output_rate))
        return 1000 * (self.sent_pts - played) / self.output_rate

    async def wait_for_room(self, started: float, start_pts: int) -> None:
        while self.connection is None or self.lead_ms(started, start_pts) > MAX_LEAD_MS - FRAME_MS:
            await asyncio.sleep(0.005)

    async def cut(self, reason: str) -> None:
        if self.speaking is None or self.speaking.done():
            return
        self.speaking.cancel()
        old, self.epoch = self.epoch, (self.epoch + 1) & 0xFFFF
        self.sent_frames.clear()
        heard = " ".join(word for pts, word in self.words if pts < self.played_pts)
        self.words, self.deltas = [], []
        await self.send(
            type="cut",
            old_epoch=old,
            new_epoch=self.epoch,
            heard_pts=self.played_pts,
            heard_text=heard,
            turn=self.reply_turn,
            reason=reason,
        )
        await self.set_state(agent="listening")

    async def control(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "played":
            self.played_pts = max(self.played_pts, message["pts"])
        elif kind == "ping":
            await self.send(type="pong", t=message["t"], server_ms=0)
        elif kind == "interrupt":
            if message.get("epoch", self.epoch) == self.epoch:
                await self.cut("client")
        elif kind == "say":
            await self.cut("user")
            self.turn += 1
            await self.set_state(agent="thinking")
            self.answer(f"You typed: {message['text']}")
        elif kind == "update":
            self.settings |= message["session"]
            await self.send(type="updated", session=self.settings)
        else:
            await self.send(type="error", code="unknown_type", message=f"{kind!r}", fatal=False, ref=None)


def tone(samples: int, rate: int, word_samples: int) -> np.ndarray:
    """int16 [samples]: a gliding tone with one swell a word, loud enough to be heard and measured."""
    t = np.arange(samples) / rate
    swell = np.sin(np.pi * (np.arange(samples) % word_samples) / word_samples) ** 2
    melody = 220 * (1 + 0.2 * np.sin(2 * math.pi * 0.7 * t))
    return (0.3 * 32767 * swell * np.sin(2 * math.pi * np.cumsum(melody) / rate)).astype("<i2")


class StandInServer:
    """The stand-in on a free port of localhost; `sessions` holds every conversation there was."""

    def __init__(self, behaviour: Behaviour | None = None, web_root: Path | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.web_root = web_root
        self.folders: dict[str, Path] = {}  # further URL prefixes to serve
        self.sessions: list[Conversation] = []
        self.tokens: dict[str, Conversation] = {}
        self.server: Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port."""
        self.server = await serve(
            self.handle,
            host,
            port,
            process_request=self.http,
            select_subprotocol=lambda _, offered: "duplex.v1" if "duplex.v1" in offered else None,
            compression=None,
            max_size=16 * 2**20,
        )
        return int(self.server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        for session in self.sessions:
            if session.speaking is not None:
                session.speaking.cancel()
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    def drop_connections(self) -> None:
        """Breaks every connection without a closing handshake."""
        for session in self.sessions:
            if session.connection is not None:
                session.connection.transport.abort()

    def http(self, _connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/v1/duplex":
            return None
        if path == "/readyz":
            return answer(503 if self.behaviour.refuse else 200, "text/plain", (self.behaviour.refuse or "ok").encode())
        file = self.find_file(path)
        if file is None:
            return answer(404, "text/plain", b"not found")
        return answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def find_file(self, path: str) -> Path | None:
        for prefix, folder in {**self.folders, "/": self.web_root}.items():
            if folder is not None and path.startswith(prefix):
                file = folder / (path[len(prefix) :] or "index.html")
                return file if file.is_file() else None
        return None

    async def handle(self, connection: ServerConnection) -> None:
        session = await self.greet(connection)
        if session is None:
            return
        try:
            async for message in connection:
                if isinstance(message, bytes):
                    await session.hear(message)
                    continue
                control = json.loads(message)
                session.received.append(control)
                if control["type"] == "bye":
                    break
                await session.control(control)
        except ConnectionClosed:
            pass
        finally:
            if session.connection is connection:
                session.connection = None

    async def greet(self, connection: ServerConnection) -> Conversation | None:
        """The hello and its answer; None when the client was refused."""
        if not self.authorized(connection):
            await refuse(connection, "unauthorized", 4401)
            return None
        hello = json.loads(await connection.recv())
        seats = self.behaviour.seats
        taken = sum(session.connection is not None for session in self.sessions)
        reason = "capacity" if seats is not None and taken >= seats else self.behaviour.refuse
        if reason is not None:
            await refuse(connection, reason, {"capacity": 4429, "draining": 4503}[reason])
            return None
        resume = hello.get("resume")
        session = self.tokens.pop(resume["token"], None) if resume else None
        resumed = session is not None
        if resume and not resumed:
            await connection.send(
                json.dumps(
                    {"type": "error", "code": "resume_refused", "message": "unknown", "fatal": False, "ref": None}
                )
            )
        if session is None:
            session = Conversation(
                self.behaviour,
                hello.get("input", {}).get("rate", 16000),
                hello.get("output", {}).get("rate", 24000),
                hello.get("playback") == "virtual",
                {
                    "instructions": "You are a stand-in.",
                    "eagerness": "medium",
                    "sampling": {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
                }
                | hello.get("session", {}),
            )
            self.sessions.append(session)
        session.received.append(hello)
        await self.attach(session, connection, resume if resumed else None)
        return session

    def authorized(self, connection: ServerConnection) -> bool:
        key = self.behaviour.api_key
        assert connection.request is not None
        headers = connection.request.headers
        offered = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
        return key is None or f"token.{key}" in offered or headers.get("Authorization") == f"Bearer {key}"

    async def attach(self, session: Conversation, connection: ServerConnection, resume: dict[str, Any] | None) -> None:
        session.token = secrets.token_urlsafe(9)
        self.tokens[session.token] = session
        ready = {
            "type": "ready",
            "v": 1,
            "session_id": session.session_id,
            "resume_token": session.token,
            "resume_window_s": self.behaviour.resume_window_s,
            "resumed": resume is not None,
            "rates": {"input": session.input_rate, "output": session.output_rate},
            "epoch": session.epoch,
            "pts": session.sent_pts,
            "mic_pts": session.mic_pts,
            "max_lead_ms": MAX_LEAD_MS,
            "features": ["trace", "metrics"],
            "session": session.settings,
            "limits": {"max_message_bytes": 2**20, "idle_timeout_s": 300, "max_text_chars": 2000},
        }
        await connection.send(json.dumps(ready))
        if resume is not None:
            for delta in session.deltas:
                if delta["pts"] >= resume["played"]["pts"]:
                    await connection.send(json.dumps(delta))
            for seq, pts, frame in session.sent_frames:
                if seq > resume["last_seq"] and pts >= resume["played"]["pts"]:
                    await connection.send(frame)
        session.connection = connection


async def refuse(connection: ServerConnection, code: str, close_code: int) -> None:
    await connection.send(json.dumps({"type": "error", "code": code, "message": code, "fatal": True, "ref": None}))
    await connection.close(close_code, code)


def answer(status: int, content_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": SECURITY_POLICY,
            "Connection": "close",
        }
    )
    return Response(status, "", headers, body)


class StandInThread:
    """The stand-in on a thread of its own, for tests that are not coroutines."""

    def __init__(self, server: StandInServer) -> None:
        self.server = server
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> StandInThread:
        self.thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def drop_connections(self) -> None:
        self.loop.call_soon_threadsafe(self.server.drop_connections)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--refuse", choices=["capacity", "draining"])
    parser.add_argument("--api-key")
    options = parser.parse_args()
    web_root = Path(__file__).parents[2] / "web"

    async def run() -> None:
        server = StandInServer(Behaviour(refuse=options.refuse, api_key=options.api_key), web_root)
        print(f"http://127.0.0.1:{await server.start(port=options.port)}/")
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    main()
