"""How much time the models' steps have to spare: what tells whether they bear another session."""

from __future__ import annotations

import threading
from collections import deque

from duplex.core.clock import Clock

WINDOW_SEC = 5.0
LEAST_STEPS = 50  # of a window: one session makes some 60 that listen
TIGHT_SEC = 0.03  # one that listens and ends later than so long before it is due had hardly any time to spare


class Slack:
    """The share of steps over the last seconds that came tight. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: deque[tuple[float, int, int]] = deque()  # when, steps, of which tight
        self._lock = threading.Lock()

    def add(self, steps: int, tight: int) -> None:
        """So many steps have ended, `tight` of them late or nearly so."""
        with self._lock:
            self._ended.append((self._clock.now(), steps, tight))
            self._forget()

    @property
    def tight_share(self) -> float:
        """Of the last WINDOW_SEC; 0 as long as these held few steps."""
        with self._lock:
            self._forget()
            steps = sum(steps for _, steps, _ in self._ended)
            tight = sum(tight for _, _, tight in self._ended)
        return tight / steps if steps >= LEAST_STEPS else 0.0

    def _forget(self) -> None:
        oldest = self._clock.now() - WINDOW_SEC
        while self._ended and self._ended[0][0] < oldest:
            self._ended.popleft()
