"""The speech engines, run for real."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from duplex.train.voices import (
    AGENT_VOICE,
    HELDOUT_VOICES,
    OTHER_SYNTHESIZER_VOICES,
    SAMPLE_RATE,
    TRAIN_VOICES,
    SilentSpeechError,
    SynthesisError,
    Voice,
    sample_voice,
    synthesize,
)

TEXT = "what is the capital of france"


@pytest.mark.parametrize("voice", [AGENT_VOICE, HELDOUT_VOICES[1], OTHER_SYNTHESIZER_VOICES[0]], ids=str)
def test_every_engine_speaks_and_keeps_the_speed(voice: Voice) -> None:
    normal, fast = (synthesize(TEXT, replace(voice, speed=speed)) for speed in (1.0, 1.25))
    assert 1.0 < len(normal) / SAMPLE_RATE < 4.0
    assert 0.7 < len(fast) / len(normal) < 0.9
    assert normal.dtype == np.float32
    assert 0.05 < np.abs(normal).max() <= 1.0


def test_the_tract_moves_the_sound_and_not_the_length() -> None:
    normal, short = (synthesize(TEXT, replace(AGENT_VOICE, tract=tract)) for tract in (1.0, 1.2))
    assert len(short) == pytest.approx(len(normal), rel=0.1)

    def centroid(pcm: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(pcm)) ** 2
        return float((power * np.arange(len(power))).sum() / power.sum() / len(pcm))

    assert centroid(short) > 1.1 * centroid(normal)


def test_voices_for_evaluation_are_not_trained_on() -> None:
    trained = {(voice.engine, voice.name) for voice in TRAIN_VOICES}
    for voice in (*HELDOUT_VOICES, *OTHER_SYNTHESIZER_VOICES):
        assert (voice.engine, voice.name) not in trained
    assert not {voice.engine for voice in OTHER_SYNTHESIZER_VOICES} & {voice.engine for voice in TRAIN_VOICES}


def test_voices_are_varied_within_their_engine() -> None:
    rng = random.Random(0)
    spoken = [sample_voice(rng, OTHER_SYNTHESIZER_VOICES) for _ in range(20)]
    assert {voice.name for voice in spoken} == {voice.name for voice in OTHER_SYNTHESIZER_VOICES}
    assert all(0.8 <= voice.speed <= 1.25 for voice in spoken)


def test_what_cannot_be_spoken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SilentSpeechError, match="no speech"):
        synthesize(" ", HELDOUT_VOICES[1])
    with pytest.raises(SynthesisError, match="no_such_voice"):
        synthesize(TEXT, Voice("festival", "no_such_voice"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SynthesisError, match="install the package festival"):
        synthesize(TEXT, OTHER_SYNTHESIZER_VOICES[0])
