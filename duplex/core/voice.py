"""How long and how loud somebody has spoken, told from the VAD's probabilities window by window."""

from __future__ import annotations

import math
from dataclasses import dataclass

from duplex.core.types import TurnDecision

WINDOW_MS = 32  # one VAD window
CHUNK_MS = 160
SPEECH_PROBABILITY = 0.5
RELEASE_MARGIN = 0.15  # speech goes on until the probability falls this far below the threshold
END_SILENCE_MS = 64  # two windows: the gap inside a plosive is shorter
HELD_CHUNKS = 4  # verdicts, 0.64 s
SILENT_DB = -120.0  # below what 16 bit can hold


def level_db(power: float) -> float:
    """A mean square of samples in [-1, 1) as decibels of full scale."""
    return max(SILENT_DB, 10 * math.log10(power)) if power > 0 else SILENT_DB


@dataclass(slots=True)
class VoiceActivity:
    """One turn's speech and the silence since.

    held: how many verdicts in a row were RESPOND although a voice had sounded within the chunk.
    mean_power: mean square of the windows of speech; loudest_db: level of the loudest of them, SILENT_DB: none yet.
    """

    speech_ms: float = 0.0
    silence_ms: float = 0.0
    held: int = 0
    mean_power: float = 0.0
    loudest_db: float = SILENT_DB

    def count(self, probability: float, threshold: float = SPEECH_PROBABILITY, power: float = 0.0) -> None:
        """One window went by; `power` is the mean square of its samples."""
        if probability < threshold - (RELEASE_MARGIN if self.silence_ms == 0 else 0.0):
            self.silence_ms += WINDOW_MS
            return
        self.speech_ms += WINDOW_MS
        self.silence_ms = 0.0
        self.mean_power += (power - self.mean_power) * WINDOW_MS / self.speech_ms
        self.loudest_db = max(self.loudest_db, level_db(power))

    @property
    def level_db(self) -> float:
        """Level of the mean power of the windows of speech; SILENT_DB: none yet."""
        return level_db(self.mean_power)

    def gated(self, decision: TurnDecision, end_silence_ms: float = END_SILENCE_MS) -> TurnDecision:
        """The decision, but CONTINUE for a RESPOND while there is no such silence yet.

        The state head sees what was said end before the last sound does, and now and then takes "six" of "sixteen"
        for all of it. What sounds on all the time is no voice: after HELD_CHUNKS such verdicts the head's word counts.
        """
        if decision is TurnDecision.RESPOND and self.silence_ms < end_silence_ms and self.held < HELD_CHUNKS:
            return TurnDecision.CONTINUE
        return decision

    def note(self, decision: TurnDecision) -> None:
        """A chunk was judged, before the gate."""
        sounded = decision is TurnDecision.RESPOND and self.silence_ms < CHUNK_MS
        self.held = self.held + 1 if sounded else 0
