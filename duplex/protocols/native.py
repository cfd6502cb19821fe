"""The native protocol, `/v1/duplex`, sans-I/O (docs/protocol.md).

Binary frames: 16-byte little-endian header (kind, flags, epoch, seq, pts) and PCM16. Text frames: JSON.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from duplex.audio.pcm import int16_bytes, int16_to_float
from duplex.core.config import SessionPatch
from duplex.core.events import (
    AgentAudio,
    ClientBye,
    ClientEvent,
    Cut,
    ErrorEvent,
    Hello,
    Interrupt,
    MicAudio,
    Notice,
    Overload,
    Ping,
    Played,
    Pong,
    Ready,
    ReplyMetrics,
    Resume,
    Say,
    ServerBye,
    ServerEvent,
    StateChanged,
    TextDelta,
    TurnTrace,
    Update,
    Updated,
)
from duplex.protocols.native_schema import (
    CLIENT_TYPES,
    MAX_ECHO_CHARS,
    MAX_TEXT_CHARS,
    ByeMessage,
    ClientMessage,
    HelloMessage,
    InterruptMessage,
    PingMessage,
    PlayedMessage,
    SayMessage,
    UpdateMessage,
    parse_message,
)

SUBPROTOCOL = "duplex.v1"
FEATURES = ("trace", "metrics")

HEADER = struct.Struct("<BBHIQ")  # kind, flags, epoch, seq, pts
KIND_MIC = 1
KIND_AGENT = 2
FLAG_FIRST = 1
FLAG_LAST = 2
FLAG_DISCONT = 4

CLOSE_BAD_HELLO = 4400
CLOSE_SIZE = 4413
MAX_FRAME_SEC = 1.0
MAX_BEFORE_HELLO = 5  # messages that are not `hello`; the fifth closes
MAX_OVERSIZED = 3  # messages over the limit; the third closes
MAX_MISPLACED = 10  # audio frames on end whose pts is not where the one before ended: the client does not count samples
_LOST_COUNT = (
    "pts has to rise by the samples of each frame, at input.rate; frames are taken as they arrive from here on"
)


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """Header of an audio frame."""

    kind: int
    flags: int
    epoch: int
    seq: int
    pts: int

    def pack(self) -> bytes:
        """16 bytes, little endian."""
        return HEADER.pack(self.kind, self.flags, self.epoch, self.seq, self.pts)

    @classmethod
    def unpack(cls, frame: bytes) -> AudioHeader:
        """The header of a frame of at least 16 bytes."""
        return cls(*HEADER.unpack_from(frame))


class NativeProtocol:
    """One connection's translation. `receive` takes a message and returns client events and error events.

    Errors are returned, never raised; those with `fatal` end the connection with `close_code`.
    """

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._greeted = False
        self._before_hello = 0
        self._oversized = 0
        self._input_rate = 16000
        self._next_pts: int | None = None
        self._frame_end: int | None = None  # pts behind the last frame that came, taken or not
        self._misplaced = 0  # frames on end that do not begin there
        self._by_arrival = False  # what pts says is not believed any more

    # --- in ----------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> ClientEvent | ErrorEvent | None:
        """One WebSocket message; None when there is nothing to do."""
        size = len(message)
        if size > self._max_message_bytes:
            self._oversized += 1
            fatal = self._oversized >= MAX_OVERSIZED
            text = f"a message of {size} bytes; at most {self._max_message_bytes} are taken"
            return ErrorEvent("too_large", text, fatal, close_code=CLOSE_SIZE if fatal else None)
        if isinstance(message, str):
            return self._receive_text(message)
        if not self._greeted:
            return self._expected_hello(None)
        return self._receive_audio(message)

    def _receive_text(self, text: str) -> ClientEvent | ErrorEvent | None:
        try:
            decoded: Any = json.loads(text)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict) or not isinstance(decoded.get("type"), str):
            error = ErrorEvent("bad_json", "a text frame must hold one JSON object with a `type`")
            return error if self._greeted else self._expected_hello(None)
        reference = decoded.get("id") if isinstance(decoded.get("id"), str) else None
        ref = reference[:MAX_ECHO_CHARS] if reference else None
        kind: str = decoded["type"]
        if not self._greeted and kind != "hello":
            return self._expected_hello(ref)
        if self._greeted and kind == "hello":
            return ErrorEvent("duplicate_hello", "hello was said already", ref=ref)
        if kind not in CLIENT_TYPES:
            return ErrorEvent("unknown_type", f"unknown message type {kind[:64]!r}", ref=ref)
        try:
            return self._event(parse_message(decoded))
        except ValidationError as error:
            text = _explain(error)
            if kind == "hello":
                return ErrorEvent("bad_hello", text, fatal=True, ref=ref, close_code=CLOSE_BAD_HELLO)
            return ErrorEvent("bad_message", text, ref=ref)

    def _expected_hello(self, ref: str | None) -> ErrorEvent:
        self._before_hello += 1
        fatal = self._before_hello >= MAX_BEFORE_HELLO
        return ErrorEvent(
            "expected_hello",
            "the first message must be `hello`",
            fatal,
            ref=ref,
            close_code=CLOSE_BAD_HELLO if fatal else None,
        )

    def _event(self, message: ClientMessage) -> ClientEvent:
        match message:
            case HelloMessage():
                self._greeted = True
                self._input_rate = message.input.rate
                resume = None
                if message.resume is not None:
                    played = message.resume.played
                    resume = Resume(
                        message.resume.token,
                        message.resume.last_seq,
                        played.epoch if played is not None else None,
                        played.pts if played is not None else None,
                    )
                return Hello(
                    input_rate=message.input.rate,
                    output_rate=message.output.rate,
                    virtual_playback=message.playback == "virtual",
                    features=frozenset(message.features) & frozenset(FEATURES),
                    session=message.session or SessionPatch(),
                    resume=resume,
                    ref=message.id,
                )
            case PlayedMessage():
                return Played(message.epoch, message.pts, message.queued_ms, message.underruns, message.output_ms)
            case InterruptMessage():
                return Interrupt(message.epoch)
            case SayMessage():
                return Say(message.text, message.role, message.id)
            case UpdateMessage():
                return Update(message.session, message.id)
            case PingMessage():
                return Ping(message.t)
            case ByeMessage():
                return ClientBye(message.reason)

    def _receive_audio(self, frame: bytes) -> MicAudio | ErrorEvent | None:
        if len(frame) < HEADER.size:
            return ErrorEvent("bad_audio", f"an audio frame of {len(frame)} bytes has no whole header (16 bytes)")
        header = AudioHeader.unpack(frame)
        if header.kind != KIND_MIC:
            return ErrorEvent("bad_audio", f"frame kind {header.kind}; clients send kind {KIND_MIC}")
        body = frame[HEADER.size :]
        if len(body) % 2:
            return ErrorEvent("bad_audio", f"{len(body)} bytes of 16-bit audio: cut inside a sample")
        samples = len(body) // 2
        if samples > MAX_FRAME_SEC * self._input_rate:
            return ErrorEvent("bad_audio", f"a frame of {samples} samples is longer than {MAX_FRAME_SEC} s")
        if self._lost_count(header, samples):
            return ErrorEvent("bad_audio", _LOST_COUNT)
        missing = 0
        skip = 0
        if not self._by_arrival and self._next_pts is not None and header.pts != self._next_pts:
            if header.pts > self._next_pts:
                missing = header.pts - self._next_pts
            elif not header.flags & FLAG_DISCONT:
                # A frame that was sent before, or overlaps one: take only what is new.
                skip = self._next_pts - header.pts
        if skip >= samples:
            if skip > MAX_FRAME_SEC * self._input_rate + samples:
                self._next_pts = header.pts + samples  # the client's clock started anew
                return MicAudio(int16_to_float(body))
            return None
        self._next_pts = self.mic_pts + samples if self._by_arrival else header.pts + samples
        return MicAudio(int16_to_float(body[2 * skip :]), missing)

    def _lost_count(self, header: AudioHeader, samples: int) -> bool:
        """Whether the client turns out, with this frame, to count something else than samples."""
        follows = header.pts == self._frame_end or bool(header.flags & FLAG_DISCONT)
        self._misplaced = 0 if follows or self._frame_end is None else self._misplaced + 1
        self._frame_end = header.pts + samples
        if self._misplaced < MAX_MISPLACED or self._by_arrival:
            return False
        self._by_arrival = True
        return True

    # --- out ---------------------------------------------------------------------------------------------

    def encode(self, event: ServerEvent) -> str | bytes:
        """A server event as a WebSocket message. JSON is ASCII, because what it repeats need not be valid Unicode."""
        if isinstance(event, AgentAudio):
            flags = (FLAG_FIRST if event.first else 0) | (FLAG_LAST if event.last else 0)
            return AudioHeader(KIND_AGENT, flags, event.epoch, event.seq, event.pts).pack() + int16_bytes(event.pcm)
        if isinstance(event, Ready):
            self._next_pts = event.mic_pts if event.resumed else None
        return json.dumps(_encoded(event), separators=(",", ":"))

    @property
    def mic_pts(self) -> int:
        """From where the microphone clock goes on counting."""
        return self._next_pts or 0


def _encoded(event: ServerEvent) -> dict[str, Any]:
    match event:
        case Ready():
            return _ready(event)
        case StateChanged(user, agent, turn):
            return {"type": "state", "user": user.value, "agent": agent.value, "turn": turn}
        case TextDelta(turn, delta, pts, final):
            return {"type": "text", "turn": turn, "delta": delta, "pts": pts, "final": final}
        case Cut():
            return {
                "type": "cut",
                "old_epoch": event.old_epoch,
                "new_epoch": event.new_epoch,
                "heard_pts": event.heard_pts,
                "heard_text": event.heard_text,
                "turn": event.turn,
                "reason": event.reason.value,
            }
        case TurnTrace(turn, t_ms, speech, probs, decision):
            return {
                "type": "turn",
                "turn": turn,
                "t_ms": t_ms,
                "speech": round(speech, 4),
                "probs": None if probs is None else [round(p, 4) for p in probs],
                "decision": None if decision is None else decision.name.lower(),
            }
        case ReplyMetrics():
            return {
                "type": "metrics",
                "turn": event.turn,
                "first_audio_ms": round(event.first_audio_ms, 1),
                "decision_ms": round(event.decision_ms, 1),
                "first_segment_ms": round(event.first_segment_ms, 1),
            }
        case Updated(session):
            return {"type": "updated", "session": session.model_dump(mode="json")}
        case Pong(t, server_ms):
            return {"type": "pong", "t": t, "server_ms": round(server_ms, 3)}
        case Overload(skipped_ms):
            return {"type": "overload", "skipped_ms": skipped_ms}
        case Notice(code, message):
            return {"type": "notice", "code": code, "message": message}
        case ErrorEvent(code, message, fatal, ref):
            return {"type": "error", "code": code, "message": message, "fatal": fatal, "ref": ref}
        case ServerBye(reason):
            return {"type": "bye", "reason": reason}
        case _:
            raise TypeError(f"no message for {type(event).__name__}")


def _ready(event: Ready) -> dict[str, Any]:
    return {
        "type": "ready",
        "v": 1,
        "session_id": event.session_id,
        "resume_token": event.resume_token,
        "resume_window_s": event.resume_window_sec,
        "resumed": event.resumed,
        "rates": {"input": event.input_rate, "output": event.output_rate},
        "epoch": event.epoch,
        "pts": event.pts,
        "mic_pts": event.mic_pts,
        "max_lead_ms": event.max_lead_ms,
        "features": list(event.features),
        "session": event.session.model_dump(mode="json"),
        "limits": {
            "max_message_bytes": event.max_message_bytes,
            "idle_timeout_s": event.idle_timeout_sec,
            "max_text_chars": MAX_TEXT_CHARS,
        },
    }


def _explain(error: ValidationError) -> str:
    """Which fields are wrong, without repeating what the user sent."""
    problems = []
    for problem in error.errors(include_input=False, include_url=False)[:5]:
        where = ".".join(str(part) for part in problem["loc"])
        problems.append(f"{where}: {problem['msg']}")
    return "; ".join(problems)
