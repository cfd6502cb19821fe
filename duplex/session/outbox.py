"""What a session has to tell its client, until the connection takes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from duplex.core.events import AgentAudio, ServerEvent, TextDelta, TurnTrace

MAX_EVENTS = 1024
MAX_AUDIO_FRAMES = 25  # 1 s at 40 ms a frame


class Outbox:
    """Bounded queue of server events for one reader, who awaits `filled` and takes with `get_nowait`.

    Full of events: traces are dropped first, then `overflowed` is set and the client counts as too slow.
    Audio is bounded by its own count; the playout waits until `room_made` is called.
    """

    def __init__(self, room_made: Callable[[], None] = lambda: None) -> None:
        self._room_made = room_made
        self._events: deque[ServerEvent] = deque()
        self._audio = 0
        self._came = asyncio.Event()
        self.overflowed = False

    def put(self, event: ServerEvent) -> None:
        """Add an event; never waits."""
        if len(self._events) >= MAX_EVENTS:
            if isinstance(event, TurnTrace):
                return
            self.overflowed = True
            self._events.popleft()
        if isinstance(event, AgentAudio):
            self._audio += 1
        self._events.append(event)
        self._came.set()

    @property
    def audio_room(self) -> bool:
        """Whether another audio frame may be added."""
        return self._audio < MAX_AUDIO_FRAMES

    def drop_audio(self) -> None:
        """Remove every audio frame: it was cut."""
        self._events = deque(event for event in self._events if not isinstance(event, AgentAudio))
        self._audio = 0

    def drop_playout(self) -> None:
        """Remove audio and the words that go with it: the connection is gone, the playout sends them again."""
        self.drop_audio()
        self._events = deque(event for event in self._events if not isinstance(event, TextDelta))

    def holds(self, event: ServerEvent) -> bool:
        """Whether an event still waits for the connection."""
        return any(waiting is event for waiting in self._events)

    async def filled(self) -> None:
        """Wait until there is an event."""
        while not self._events:
            self._came.clear()
            await self._came.wait()

    def get_nowait(self) -> ServerEvent:
        """The next event, in order. Raises IndexError when there is none."""
        event = self._events.popleft()
        if isinstance(event, AgentAudio):
            if not self.audio_room:
                self._room_made()
            self._audio -= 1
        return event

    def __len__(self) -> int:
        return len(self._events)
