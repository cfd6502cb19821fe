"""Silero VAD: our batched network against the packaged one, and its state handling."""

import numpy as np
import pytest
import torch

from duplex.audio.vad import VadModel, VadState, shipped_weights


def burst(samples: int = 5 * 2560) -> np.ndarray:
    """Something voice-like in the middle of silence: a glottal pulse train through two resonances."""
    time = np.arange(samples) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 25))
    envelope = ((time > 0.2) & (time < 0.6)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    return (0.2 * voice * envelope).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> VadModel:
    return VadModel()


@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_probabilities_equal_the_packaged_model(model: VadModel) -> None:
    packaged = torch.jit.load(str(shipped_weights()), map_location="cpu")
    pcm = burst()
    expected = torch.cat([packaged(torch.tensor(pcm[i : i + 512]), 16_000)[0] for i in range(0, len(pcm), 512)])
    torch.testing.assert_close(model.probs([VadState()], pcm[None])[0], expected.detach(), rtol=1e-3, atol=1e-3)


def test_chunked_and_batched_equal_whole(model: VadModel) -> None:
    loud, quiet = burst(), burst() * 0.01
    whole = model.probs([VadState()], loud[None])[0]
    states = [VadState(), VadState()]
    chunks = [model.probs(states, np.stack([quiet, loud])[:, i : i + 2560]) for i in range(0, len(loud), 2560)]
    torch.testing.assert_close(torch.cat(chunks, dim=1)[1], whole, rtol=1e-4, atol=1e-5)


def test_copied_state_goes_its_own_way(model: VadModel) -> None:
    pcm = burst()
    state = VadState()
    model.probs([state], pcm[None, :5120])
    twin = state.copy()
    expected = model.probs([state], pcm[None, 5120:7680])
    torch.testing.assert_close(model.probs([twin], pcm[None, 5120:7680]), expected)
    state.reset()
    torch.testing.assert_close(model.probs([state], pcm[None, :512]), model.probs([VadState()], pcm[None, :512]))


def test_audio_that_is_not_whole_windows_is_refused(model: VadModel) -> None:
    with pytest.raises(ValueError, match="512"):
        model.probs([VadState()], np.zeros((1, 500), np.float32))
