"""The messages of the native protocol as a client may send them (docs/protocol.md)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from duplex.audio.pcm import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from duplex.core.config import SessionPatch
from duplex.core.events import SayRole

MAX_TEXT_CHARS = 2000
MAX_PTS = (1 << 63) - 1
MAX_COUNT = (1 << 32) - 1
MAX_ECHO_CHARS = 64  # of what is sent back as it came
MAX_QUEUED_MS = 3_600_000.0  # an hour: more than any client holds, little enough to be counted
INPUT_RATE = 16000  # Hz, unless `hello` says otherwise
OUTPUT_RATE = 24000


def _whole_position(value: object) -> object:
    """What a client has computed from latencies may lie before the beginning or between two samples."""
    if isinstance(value, float) and math.isfinite(value):
        value = round(value)
    return max(0, value) if isinstance(value, int) else value


_Position = Annotated[int, BeforeValidator(_whole_position), Field(le=MAX_PTS)]
_EchoedInt = Annotated[int, Field(ge=-MAX_PTS, le=MAX_PTS)]
_EchoedText = Annotated[str, Field(max_length=MAX_ECHO_CHARS)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    id: str | None = Field(default=None, max_length=MAX_ECHO_CHARS)


class InputFormat(BaseModel):
    """The microphone's audio. `frame_ms` is what the client intends, for information."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rate: int = Field(default=INPUT_RATE, ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)
    frame_ms: float | None = Field(default=None, gt=0, le=1000)


class OutputFormat(BaseModel):
    """The agent's audio."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rate: int = Field(default=OUTPUT_RATE, ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)


class PlayedPosition(BaseModel):
    """How far playback has come."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    epoch: int = Field(ge=0, le=65535)
    pts: _Position


class ResumeRequest(BaseModel):
    """The wish to take up a dropped connection."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    token: str = Field(max_length=200)
    last_seq: int = Field(default=-1, ge=-1, le=(1 << 32) - 1)
    played: PlayedPosition | None = None


class HelloMessage(_Message):
    """First message of a client."""

    type: Literal["hello"]
    v: Literal[1] = 1
    features: list[str] = Field(default_factory=list, max_length=64)
    input: InputFormat = InputFormat()
    output: OutputFormat = OutputFormat()
    playback: Literal["report", "virtual"] = "report"
    session: SessionPatch | None = None
    resume: ResumeRequest | None = None


class PlayedMessage(_Message):
    """Playback report."""

    type: Literal["played"]
    epoch: int = Field(ge=0, le=65535)
    pts: _Position
    queued_ms: float = Field(default=0.0, ge=0, le=MAX_QUEUED_MS)
    underruns: int = Field(default=0, ge=0, le=MAX_COUNT)
    output_ms: float = Field(default=0.0, ge=0, le=MAX_QUEUED_MS)


class InterruptMessage(_Message):
    """Stop talking."""

    type: Literal["interrupt"]
    epoch: int | None = Field(default=None, ge=0, le=65535)


class SayMessage(_Message):
    """Typed turn, or words for the agent."""

    type: Literal["say"]
    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)
    role: SayRole = SayRole.USER


class UpdateMessage(_Message):
    """Change settings."""

    type: Literal["update"]
    session: SessionPatch


class PingMessage(_Message):
    """Clock question."""

    type: Literal["ping"]
    t: float | _EchoedInt | _EchoedText | None = None


class ByeMessage(_Message):
    """End of the session."""

    type: Literal["bye"]
    reason: str = Field(default="", max_length=200)


ClientMessage = HelloMessage | PlayedMessage | InterruptMessage | SayMessage | UpdateMessage | PingMessage | ByeMessage
CLIENT_TYPES = frozenset({"hello", "played", "interrupt", "say", "update", "ping", "bye"})
_adapter: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse_message(message: dict[str, Any]) -> ClientMessage:
    """A decoded JSON object as a message. Raises pydantic.ValidationError."""
    return _adapter.validate_python(message)
