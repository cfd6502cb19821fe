"""Quiet streams made louder for the VAD."""

import numpy as np
import pytest

from duplex.audio.gain import MOST_GAIN, TARGET_PEAK, Loudness
from duplex.audio.vad import VadModel, VadState
from duplex.train.voices import AGENT_VOICE, synthesize


def chunk(peak: float) -> np.ndarray:
    return (peak * np.sin(np.arange(2560) * 0.2)).astype(np.float32)


def test_loud_audio_stays_as_it_is() -> None:
    np.testing.assert_array_equal(Loudness().raised(chunk(0.4)), chunk(0.4))
    assert not Loudness().raised(np.zeros(2560, np.float32)).any()


@pytest.mark.parametrize(("peak", "raised"), [(0.02, TARGET_PEAK), (0.001, 0.001 * MOST_GAIN)])
def test_quiet_audio_is_raised_up_to_a_limit(peak: float, raised: float) -> None:
    louder = Loudness().raised(chunk(peak))
    assert louder.dtype == np.float32
    assert np.abs(louder).max() == pytest.approx(raised, rel=1e-3)


def test_what_was_loud_is_remembered_for_seconds() -> None:
    loudness = Loudness()
    loudness.raised(chunk(0.4))
    twin = loudness.copy()
    np.testing.assert_array_equal(loudness.raised(chunk(0.02)), chunk(0.02))
    for _ in range(200):
        loudness.raised(chunk(0.02))
    assert np.abs(loudness.raised(chunk(0.02))).max() == pytest.approx(TARGET_PEAK, rel=1e-3)
    np.testing.assert_array_equal(twin.raised(chunk(0.02)), chunk(0.02))


def test_the_vad_hears_a_voice_it_would_have_missed() -> None:
    spoken = synthesize("What is the capital of France?", AGENT_VOICE)
    faint = np.pad(spoken * np.float32(0.001 / np.abs(spoken).max()), (2560, 2560 - len(spoken) % 2560))
    model, loudness = VadModel(), Loudness()
    louder = np.concatenate([loudness.raised(faint[at : at + 2560]) for at in range(0, len(faint), 2560)])
    missed, heard = (float((model.probs([VadState()], pcm[None]) > 0.5).sum()) for pcm in (faint, louder))
    assert heard > 1.5 * missed
    assert heard > 15
