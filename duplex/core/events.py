"""What passes between a session and a wire protocol, in no protocol's words.

Client events come from the wire, server events go to it. All audio positions are samples on the clock named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from duplex.core.config import SessionConfig, SessionPatch
from duplex.core.types import TurnDecision

Float32 = npt.NDArray[np.float32]


class UserActivity(StrEnum):
    """What the user is doing, as far as the server can tell."""

    SILENT = "silent"
    SPEAKING = "speaking"
    BACKCHANNEL = "backchannel"


class AgentActivity(StrEnum):
    """What the agent is doing, as a client shows it."""

    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


class CutReason(StrEnum):
    """Why a reply was cut."""

    USER = "user"
    CLIENT = "client"
    FAILED = "failed"


class SayRole(StrEnum):
    """Whose words a typed text is."""

    USER = "user"
    AGENT = "agent"


# --- from the client -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resume:
    """The wish to take up a dropped connection: what was received and what was heard."""

    token: str
    last_seq: int
    played_epoch: int | None = None
    played_pts: int | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    """The client introduces itself. Rates in Hz; `virtual_playback`: take audio as heard in real time.

    ref: the client's name for this message, for errors about it.
    """

    input_rate: int = 16000
    output_rate: int = 24000
    virtual_playback: bool = False
    features: frozenset[str] = frozenset()
    session: SessionPatch = field(default_factory=SessionPatch)
    resume: Resume | None = None
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class MicAudio:
    """Microphone samples at the input rate. `missing`: samples lost before these."""

    pcm: Float32
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """Playback position: the user has heard everything before `pts` (agent audio clock).

    `queued_ms` is what the client holds, `output_ms` what of that is on its way through the sound device.
    """

    epoch: int
    pts: int
    queued_ms: float = 0.0
    underruns: int = 0
    output_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The client wants the agent to stop; `epoch` None means whatever is being said."""

    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """A typed turn of the user, or words to be spoken by the agent.

    ref: the client's name for this message, for errors about it.
    """

    text: str
    role: SayRole = SayRole.USER
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """New settings from the next turn on. `ref`: the client's name for this message, for errors about it."""

    patch: SessionPatch
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for the server's clock."""

    t: float | int | str | None = None


@dataclass(frozen=True, slots=True)
class ClientBye:
    """The client ends the session."""

    reason: str = ""


ClientEvent = Hello | MicAudio | Played | Interrupt | Say | Update | Ping | ClientBye


# --- to the client ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The session exists, or goes on. `mic_pts`: from where the microphone clock counts."""

    session_id: str
    resume_token: str
    resume_window_sec: float
    resumed: bool
    input_rate: int
    output_rate: int
    epoch: int
    pts: int
    mic_pts: int
    max_lead_ms: int
    features: tuple[str, ...]
    session: SessionConfig
    max_message_bytes: int
    idle_timeout_sec: float


@dataclass(frozen=True, slots=True)
class StateChanged:
    """What user and agent are doing."""

    user: UserActivity
    agent: AgentActivity
    turn: int


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """Agent speech, float32 [n] at the output rate, from sample `pts` of the agent audio clock."""

    pcm: Float32
    epoch: int
    seq: int
    pts: int
    first: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Words of the agent that begin to sound at `pts`."""

    turn: int
    delta: str
    pts: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Audio of `old_epoch` is void; the agent remembers `heard_text` of the reply."""

    old_epoch: int
    new_epoch: int
    heard_pts: int
    heard_text: str
    turn: int
    reason: CutReason


@dataclass(frozen=True, slots=True)
class TurnTrace:
    """One listening chunk: VAD and state head. `t_ms` on the session audio clock, at the chunk's end."""

    turn: int
    t_ms: int
    speech: float
    probs: tuple[float, float, float] | None = None
    decision: TurnDecision | None = None


@dataclass(frozen=True, slots=True)
class ReplyMetrics:
    """Latencies of one reply, from the user's last speech sample."""

    turn: int
    first_audio_ms: float
    decision_ms: float
    first_segment_ms: float


@dataclass(frozen=True, slots=True)
class Updated:
    """The settings now in force."""

    session: SessionConfig


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to Ping."""

    t: float | int | str | None
    server_ms: float


@dataclass(frozen=True, slots=True)
class Overload:
    """Microphone audio that was skipped."""

    skipped_ms: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the client may want to know."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Something went wrong; a fatal one is followed by a close with `close_code`."""

    code: str
    message: str
    fatal: bool = False
    ref: str | None = None
    close_code: int | None = None


@dataclass(frozen=True, slots=True)
class ServerBye:
    """The server is about to close."""

    reason: str


ServerEvent = (
    Ready
    | StateChanged
    | AgentAudio
    | TextDelta
    | Cut
    | TurnTrace
    | ReplyMetrics
    | Updated
    | Pong
    | Overload
    | Notice
    | ErrorEvent
    | ServerBye
)
