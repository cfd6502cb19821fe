"""A scripted user of the native protocol: speaks recordings in real time, listens, keeps a log of everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from duplex.audio.pcm import Float32, int16_bytes
from duplex.bench.log import ConversationLog, Event, ReceivedFrame
from duplex.bench.script import Cue, Item, Typed, Utterance
from duplex.bench.speaker import VirtualSpeaker
from duplex.core.errors import DuplexError
from duplex.protocols.native import FLAG_DISCONT, FLAG_FIRST, KIND_MIC, SUBPROTOCOL, AudioHeader

FRAME_MS = 20
PLAYED_INTERVAL_SEC = 0.1
DEFAULT_INPUT_RATE = 16000  # Hz, when nothing is spoken
HANDSHAKE_SEC = 15.0
# What reading a message raises that is not as the protocol has it.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, struct.error)


class ConversationError(DuplexError):
    """A conversation that could not be held."""


class ServerMessageError(ConversationError):
    """The server sent what is no message of the native protocol."""

    def __init__(self, message: str | bytes) -> None:
        super().__init__(f"no message of the protocol: {message[:80]!r}")


class ConversationRefusedError(ConversationError):
    """The server did not let the client in. `code`: its error code, an HTTP status, or `unreachable`."""

    def __init__(self, code: str, message: str, close_code: int | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.close_code = close_code


@dataclass(frozen=True)
class ClientOptions:
    """How to connect and when to stop.

    `input_rate` None: the first recording's. `drop_at_sec`: break the TCP connection then, and resume.
    `on_ready` is told of every connection that is let in, `on_event` of every event as it happens; once `is_over` says so, the client hangs up. Without `keep_audio` the log
    holds no samples, and an answer's `audible_ms` is None.
    """

    api_key: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # the session part of hello
    input_rate: int | None = None
    output_rate: int = 24000
    tail_sec: float = 1.0
    reply_timeout_sec: float = 10.0
    limit_sec: float = 600.0
    drop_at_sec: float | None = None
    verify_tls: bool = True
    trace: bool = False
    on_event: Callable[[Event], None] = lambda event: None
    on_ready: Callable[[], None] = lambda: None
    is_over: Callable[[], bool] = lambda: False
    keep_audio: bool = True


async def converse(url: str, script: Sequence[Item], options: ClientOptions | None = None) -> ConversationLog:
    """Hold one conversation at `url` (ws:// or wss://, with or without /v1/duplex) and return its log.

    Cancelling it leaves the server as a dropped connection does. Raises ConversationRefusedError when the server
    cannot be reached or refuses the session, ServerMessageError when it sends what cannot be read; a session that the
    server ends later is in the log's `close_code`.
    """
    return await _Conversation(url, script, options or ClientOptions()).run()


def _input_rate(script: Sequence[Item], wanted: int | None) -> int:
    spoken = next((item.recording.rate for item in script if isinstance(item, Utterance)), DEFAULT_INPUT_RATE)
    return wanted or spoken


def socket_url(url: str) -> str:
    """The socket's address for a server's address."""
    scheme, _, rest = url.partition("://")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{path}" if path else f"{scheme}://{host}/v1/duplex"


def client_tls(*, verify: bool) -> ssl.SSLContext:
    """How to meet a server over TLS; without `verify` any certificate will do."""
    tls = ssl.create_default_context()
    if not verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


class _Conversation:
    def __init__(self, url: str, script: Sequence[Item], options: ClientOptions) -> None:
        self._url = socket_url(url)
        self._options = options
        self._input_rate = _input_rate(script, options.input_rate)
        self._frame_samples = self._input_rate * FRAME_MS // 1000
        self._frame_sec = self._frame_samples / self._input_rate  # a little below 20 ms at odd rates
        self._speaker = VirtualSpeaker(options.output_rate, keep=options.keep_audio)
        self._cue = Cue(script, options.reply_timeout_sec)
        self._log = ConversationLog(self._input_rate, options.output_rate)
        self._socket: ClientConnection | None = None
        self._ready: dict[str, Any] = {}
        self._began = 0.0  # loop time of the session's second 0
        self._frames = 0  # microphone frames made so far, on the session's clock
        self._pts_offset = 0  # microphone pts minus samples made; a resumed session counts from what the server has
        self._seq = 0
        self._last_agent_seq = -1
        self._discontinuity = False
        self._speech: list[tuple[int, Float32]] = []  # (first sample, audio) being spoken into the microphone
        self._turn = 0
        self._agent = "listening"
        self._reported: tuple[int, int] | None = None
        self._report_due_sec = 0.0
        self._speech_bounds: list[tuple[float, str, int]] = []  # (moment, event, item) still to come
        self._drop_at_sec = options.drop_at_sec

    async def run(self) -> ConversationLog:
        self._began = asyncio.get_running_loop().time()
        await self._connect()
        self._began = asyncio.get_running_loop().time()
        try:
            while await self._converse_until_dropped():
                await self._resume()
        finally:
            await self._hang_up()
        self._speaker.render_until(self._now())
        self._log.finish(self._speaker, self._cue.said)
        return self._log

    # --- connection --------------------------------------------------------------------------------------

    async def _connect(self, resume: dict[str, Any] | None = None) -> None:
        options = self._options
        tls = client_tls(verify=options.verify_tls) if self._url.startswith("wss:") else None
        headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        socket: ClientConnection | None = None
        let_in = False
        try:
            async with asyncio.timeout(HANDSHAKE_SEC):
                socket = self._socket = await connect(
                    self._url,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    additional_headers=headers,
                    compression=None,
                    proxy=None,
                    ssl=tls,
                )
                await self._greet(socket, resume)
            let_in = True
        except InvalidStatus as error:
            raise ConversationRefusedError(str(error.response.status_code), error.response.reason_phrase) from error
        except (OSError, TimeoutError, InvalidURI, InvalidHandshake) as error:
            raise ConversationRefusedError("unreachable", str(error) or "timeout") from error
        finally:
            if socket is not None and not let_in:
                socket.transport.abort()  # or a server that lets us in after all would hold a session for nobody

    async def _greet(self, socket: ClientConnection, resume: dict[str, Any] | None) -> None:
        hello = {
            "type": "hello",
            "v": 1,
            "features": ["trace", "metrics"] if self._options.trace else ["metrics"],
            "input": {"rate": self._input_rate, "frame_ms": FRAME_MS},
            "output": {"rate": self._options.output_rate},
            "playback": "report",
            "session": self._options.settings,
        }
        if resume is not None:
            hello["resume"] = resume
        refusal: dict[str, Any] = {}
        with contextlib.suppress(ConnectionClosed):  # refused at once; the reason waits to be read
            await socket.send(json.dumps(hello))
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    continue
                try:
                    decoded = json.loads(message)
                    kind = decoded.pop("type")
                except _UNREADABLE as error:
                    raise ServerMessageError(message) from error
                if kind == "ready":
                    self._ready = decoded
                    return
                if kind == "error":
                    self._note(kind, decoded)
                    refusal = decoded if decoded.get("fatal") else refusal
        except ConnectionClosed:
            pass
        code = refusal.get("code", "closed")
        raise ConversationRefusedError(code, refusal.get("message", ""), socket.close_code)

    async def _resume(self) -> None:
        """Comes back after a dropped connection."""
        played = {"epoch": self._speaker.heard_epoch, "pts": self._speaker.heard_pts}
        token = self._ready["resume_token"]
        await self._connect({"token": token, "last_seq": self._last_agent_seq, "played": played})
        ready = self._ready
        self._note("resumed" if ready["resumed"] else "restarted", {"session_id": ready["session_id"]})
        if ready["resumed"]:
            if ready["epoch"] != self._speaker.epoch:
                self._speaker.cut(ready["epoch"], self._now())
        else:
            self._speaker.reset(ready["epoch"], ready["pts"])
        self._pts_offset = ready["mic_pts"] - self._frames * self._frame_samples
        self._discontinuity = True

    async def _hang_up(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(json.dumps({"type": "bye", "reason": "done"}))
        await self._socket.close()
        self._log.close_code, self._log.close_reason = self._socket.close_code, self._socket.close_reason or ""

    async def _converse_until_dropped(self) -> bool:
        """Talks and listens; True when the connection was dropped on purpose and is to be taken up again."""
        assert self._socket is not None
        self._log.ready.append(self._ready)
        self._options.on_ready()
        receiving = asyncio.create_task(self._receive(self._socket))
        try:
            return await self._talk(self._socket, receiving)
        except ConnectionClosed:
            return False
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])
            if not receiving.cancelled() and (error := receiving.exception()) is not None:
                raise error

    # --- the clock ---------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _talk(self, socket: ClientConnection, receiving: asyncio.Task[None]) -> bool:
        """One round every 20 ms: play what arrived, begin what is due, send what the microphone heard."""
        while not receiving.done():
            now = self._now()
            self._speaker.render_until(now)
            idle = self._agent == "listening"
            while (due := self._cue.due(now, self._speaker.replies, self._speaker.rate, idle)) is not None:
                await self._begin(socket, *due)
            self._note_speech(now)
            if self._drop_at_sec is not None and now >= self._drop_at_sec:
                self._drop_at_sec = None
                self._note("dropped", {})
                socket.transport.abort()
                return True
            if self._finished(now):
                return False
            await self._send_microphone(socket, now)
            await self._report_played(socket, now)
            await asyncio.sleep(max(0.0, (self._frames + 1) * self._frame_sec - self._now()))
        return False

    def _finished(self, now: float) -> bool:
        if now >= self._options.limit_sec or self._options.is_over():
            return True
        since = self._cue.over_since(self._speaker.replies, self._speaker.rate, self._agent == "listening", now)
        return since is not None and now >= since + self._options.tail_sec

    async def _begin(self, socket: ClientConnection, item: Item, moment_sec: float) -> None:
        start = max(self._frames * self._frame_samples, round(moment_sec * self._input_rate))
        said = self._cue.begin(item, start / self._input_rate)
        if isinstance(item, Typed):
            await socket.send(json.dumps({"type": "say", "text": item.text, "role": item.role}))
            self._note("say", {"text": item.text, "role": item.role})
            return
        self._speech.append((start, item.recording.at_rate(self._input_rate).pcm))
        index = len(self._cue.said) - 1
        self._speech_bounds += [(said.onset_sec, "user_onset", index), (said.end_sec, "user_end", index)]

    def _note_speech(self, now: float) -> None:
        """Events at the bounds of the user's speech, as they pass."""
        passed = [bound for bound in self._speech_bounds if bound[0] <= now]
        self._speech_bounds = [bound for bound in self._speech_bounds if bound[0] > now]
        for moment, kind, index in sorted(passed):
            self._note(kind, {"item": index}, moment)

    async def _send_microphone(self, socket: ClientConnection, now: float) -> None:
        """Every frame whose last sample has been captured by now."""
        while (self._frames + 1) * self._frame_sec <= now:
            start = self._frames * self._frame_samples
            pcm = self._microphone(start)
            flags = (FLAG_FIRST if self._seq == 0 else 0) | (FLAG_DISCONT if self._discontinuity else 0)
            header = AudioHeader(KIND_MIC, flags, 0, self._seq, start + self._pts_offset)
            self._discontinuity = False
            self._seq += 1
            self._frames += 1
            if self._options.keep_audio:
                self._log.user_frames.append(pcm)
            await socket.send(header.pack() + int16_bytes(pcm))

    def _microphone(self, start: int) -> Float32:
        end = start + self._frame_samples
        mixed = np.zeros(self._frame_samples, np.float32)
        for first, pcm in self._speech:
            piece = pcm[max(0, start - first) : max(0, end - first)]
            offset = max(0, first - start)
            mixed[offset : offset + len(piece)] += piece
        self._speech = [(first, pcm) for first, pcm in self._speech if end < first + len(pcm)]
        return mixed

    async def _report_played(self, socket: ClientConnection, now: float, force: bool = False) -> None:
        position = (self._speaker.heard_epoch, self._speaker.heard_pts)
        ran_empty = not self._speaker.queued_ms
        if not force and (position == self._reported or (now < self._report_due_sec and not ran_empty)):
            return
        self._reported = position
        self._report_due_sec = now + PLAYED_INTERVAL_SEC
        epoch, pts = position
        queued_ms = round(self._speaker.queued_ms)
        report = {"type": "played", "epoch": epoch, "pts": pts, "queued_ms": queued_ms}
        await socket.send(json.dumps({**report, "underruns": self._speaker.underruns}))

    # --- what arrives ------------------------------------------------------------------------------------

    async def _receive(self, socket: ClientConnection) -> None:
        """Until the connection ends."""
        try:
            async for message in socket:
                now = self._now()
                try:
                    cut = self._take(message, now)
                except _UNREADABLE as error:
                    raise ServerMessageError(message) from error
                if cut:
                    await self._report_played(socket, now, force=True)
        except ConnectionClosed:
            pass
        if socket.close_code not in (None, 1000, 1006):
            self._note("closed", {"code": socket.close_code, "reason": socket.close_reason})

    def _take(self, message: str | bytes, now: float) -> bool:
        """One message; whether it cut the agent short."""
        if isinstance(message, bytes):
            frame = ReceivedFrame.of(message, now)
            self._log.frames.append(frame)
            self._last_agent_seq = frame.seq
            self._speaker.push(message, now, self._turn)
            return False
        decoded = json.loads(message)
        kind = decoded.pop("type")
        self._note(kind, decoded, now)
        if kind == "cut":
            self._speaker.cut(decoded["new_epoch"], now, withdrawn=not decoded["heard_text"])
        elif kind == "state":
            self._turn, self._agent = decoded["turn"], decoded["agent"]
        return bool(kind == "cut")

    def _note(self, kind: str, fields: dict[str, Any], now: float | None = None) -> None:
        event = Event(self._now() if now is None else now, kind, fields)
        self._log.add(event)
        self._options.on_event(event)
