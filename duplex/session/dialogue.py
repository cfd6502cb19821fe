"""The vocabulary of the dialogue machine: what happens to it, and what it wants done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from duplex.core.events import AgentActivity, CutReason, UserActivity

# --- what happens ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunkHeard:
    """The VAD has judged chunk `index`: one speech probability per 32 ms, and the mean square of the samples there
    (none: not measured).
    """

    index: int
    speech: tuple[float, ...]
    powers: tuple[float, ...] = ()

    def windows(self) -> Iterator[tuple[float, float]]:
        """Speech probability and mean square of each window."""
        return zip(self.speech, self.powers or (0.0,) * len(self.speech), strict=True)


@dataclass(frozen=True, slots=True)
class ChunkJudged:
    """The state head has judged a chunk of a turn: P(continue), P(respond), P(ignore).

    `interruption`: P(the user is taking the floor from the agent); None where the checkpoint does not tell.
    `words_over`: P(the words found so far are a whole turn); None where no words are searched for.
    """

    turn: int
    probs: tuple[float, float, float]
    interruption: float | None = None
    words_over: float | None = None


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The first sample of a reply was sent."""

    generation: int


@dataclass(frozen=True, slots=True)
class ReplyAudible:
    """The user has heard something of a reply."""

    generation: int


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """A reply was heard to its end, had nothing to say, or never began."""

    generation: int


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """A model step of a reply failed: it ends where it was heard to."""

    generation: int


@dataclass(frozen=True, slots=True)
class ClientInterrupted:
    """The client wants silence."""


@dataclass(frozen=True, slots=True)
class UserTyped:
    """The user has typed a turn. `ref`: the client's name for it."""

    text: str
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class AgentTold:
    """The agent is to say exactly this."""

    text: str


@dataclass(frozen=True, slots=True)
class ListeningFailed:
    """A model step of a turn failed."""

    turn: int


Event = (
    ChunkHeard
    | ChunkJudged
    | ReplyStarted
    | ReplyAudible
    | ReplyEnded
    | ReplyFailed
    | ClientInterrupted
    | UserTyped
    | AgentTold
    | ListeningFailed
)


# --- what is to be done ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """Fork at the heard point; replay chunks `first`..`last - 1` without a verdict, then judge `last`."""

    turn: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ReopenTurn:
    """The reply ended while the turn was open, not by it: fork again behind it and replay `first`..`last` without
    a verdict; of a very long turn, what the microphone still has.
    """

    turn: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ContinueTurn:
    """Take the line back to before the withdrawn reply and feed it chunks `first`..`last`."""

    turn: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Feed:
    """Give chunk `index` to the open turn and judge it."""

    turn: int
    index: int


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """The open turn becomes the conversation; the old line is dropped."""

    turn: int


@dataclass(frozen=True, slots=True)
class DropTurn:
    """Forget the open turn. `taken`: it is the conversation already; take it back to where it began."""

    turn: int
    taken: bool


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer the open turn, which becomes the conversation if it is not yet."""

    turn: int
    generation: int
    taken: bool


@dataclass(frozen=True, slots=True)
class AnswerTyped:
    """Put a typed turn into the conversation and answer it. `ref`: the client's name for it."""

    turn: int
    generation: int
    text: str
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class SpeakText:
    """Say exactly this."""

    turn: int
    generation: int
    text: str


@dataclass(frozen=True, slots=True)
class CutReply:
    """Stop the reply of `generation`: its audio at once, its work too.

    keep_heard: the conversation goes on on this line, cut at the heard point (else the line is dropped or
    taken back by the action that follows). withdrawn: nothing of it counts as heard.
    """

    generation: int
    reason: CutReason
    keep_heard: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the client who is doing what."""

    user: UserActivity
    agent: AgentActivity
    turn: int


Action = (
    OpenTurn
    | ReopenTurn
    | ContinueTurn
    | Feed
    | TakeTurn
    | DropTurn
    | Respond
    | AnswerTyped
    | SpeakText
    | CutReply
    | Announce
)
