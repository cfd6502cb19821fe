"""What a session has yet to do to its line: commands in order, one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from duplex.session import dialogue as d
from duplex.session.reply import Reply

LINE_BACKLOG = 24  # commands the line may be behind before who would add to it waits


@dataclass(frozen=True, slots=True)
class EndReply:
    """Wait until a cut reply's work has stopped, then cut the line at `keep` positions, or take the turn back."""

    reply: Reply | None
    keep: int | None
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """A new conversation, because the instructions are to change. `ref`: the name of the message that asked for it."""

    instructions: str
    ref: str | None


@dataclass(frozen=True, slots=True)
class OpenAt:
    """OpenTurn with the heard length at the moment of onset (None: nothing was being said)."""

    action: d.OpenTurn
    keep: int | None


Command = d.Action | EndReply | Restart | OpenAt


class CommandQueue:
    """Commands of one line. `put` never waits; who listens to the microphone or reads what the client types waits
    for `room`, so that the queue stays bounded.
    """

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._came = asyncio.Event()
        self._moved = asyncio.Event()

    def put(self, command: Command) -> None:
        """Add a command."""
        self._commands.append(command)
        self._came.set()

    async def get(self) -> Command:
        """The next command; `done` says that it was carried out."""
        while not self._commands:
            self._came.clear()
            await self._came.wait()
        return self._commands.popleft()

    def done(self) -> None:
        """A command was carried out."""
        self._moved.set()

    async def room(self) -> None:
        """Wait while the line is too far behind."""
        while len(self._commands) > LINE_BACKLOG:
            self._moved.clear()
            await self._moved.wait()
