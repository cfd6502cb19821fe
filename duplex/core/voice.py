"""How long somebody has spoken and been silent, told from the VAD's probabilities window by window."""

from __future__ import annotations

from dataclasses import dataclass

from duplex.core.types import TurnDecision

WINDOW_MS = 32  # one VAD window
SPEECH_PROBABILITY = 0.5
RELEASE_MARGIN = 0.15  # speech goes on until the probability falls this far below the threshold
END_SILENCE_MS = 64
HELD_CHUNKS = 4


@dataclass(slots=True)
class VoiceActivity:
    """One turn's speech and the silence since.

    held: how many verdicts in a row have been RESPOND.
    power: mean square of the samples of its speech so far, 0.0 before any was counted.
    """

    speech_ms: float = 0.0
    silence_ms: float = 0.0
    held: int = 0
    power: float = 0.0
    _windows: int = 0

    def count(self, probability: float, threshold: float = SPEECH_PROBABILITY, power: float = 0.0) -> None:
        """One window went by; `power` is the mean square of its samples."""
        if probability >= threshold - (RELEASE_MARGIN if self.silence_ms == 0 else 0.0):
            self.speech_ms += WINDOW_MS
            self.silence_ms = 0.0
            self._windows += 1
            self.power += (power - self.power) / self._windows
        else:
            self.silence_ms += WINDOW_MS

    def gated(self, decision: TurnDecision, end_silence_ms: float = END_SILENCE_MS) -> TurnDecision:
        """The decision, but CONTINUE for a RESPOND while there is no such silence yet.

        The state head sees what was said end before the last sound does, and now and then takes "six" of "sixteen"
        for all of it. What sounds on all the time is no voice: after HELD_CHUNKS verdicts the head's word counts.
        """
        if decision is TurnDecision.RESPOND and self.silence_ms < end_silence_ms and self.held < HELD_CHUNKS:
            return TurnDecision.CONTINUE
        return decision

    def note(self, decision: TurnDecision) -> None:
        """A chunk was judged, before the gate."""
        self.held = self.held + 1 if decision is TurnDecision.RESPOND else 0
