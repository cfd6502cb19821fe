"""The reference fixture: a tiny checkpoint in the official layout and the numbers it gave."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.model.encoder import SpeechEncoder

FIXTURES = Path(__file__).parent.parent / "data" / "fixtures"
CHECKPOINT = FIXTURES / "freeze_tiny"
LLM = FIXTURES / "llm_tiny"

Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tensors are tiny: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():  # not inference_mode: it hides what composite operations do from test_slots
        yield


@pytest.fixture(scope="session", params=["packed", "modules"])
def model(request: pytest.FixtureRequest) -> DuplexModel:
    """As a CPU runs it, and as everything else does."""
    return load_checkpoint(CHECKPOINT, LLM, packed=request.param == "packed")


@pytest.fixture(scope="session")
def encoder(model: DuplexModel) -> SpeechEncoder:
    return model.encoder


@pytest.fixture(scope="session")
def listen() -> Tensors:
    return load_file(FIXTURES / "q2_listen_reply.safetensors")


@pytest.fixture(scope="session")
def full() -> Tensors:
    return load_file(FIXTURES / "q2_full_tts.safetensors")


@pytest.fixture(scope="session")
def pieces() -> Tensors:
    return load_file(FIXTURES / "q2_e2e_tts.safetensors")


@pytest.fixture(scope="session")
def units() -> Tensors:
    return load_file(FIXTURES / "units.safetensors")


@pytest.fixture(scope="session")
def meta() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / "meta.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def question() -> np.ndarray:
    """The recording, float32 in [-1, 1) at 16 kHz."""
    with wave.open(str(FIXTURES / "espeak_a.wav")) as file:
        frames = file.readframes(file.getnframes())
    return np.frombuffer(frames, dtype=np.int16).astype(np.float32) / 32768


def assert_near(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-3) -> None:
    """The fixture's suggested tolerance: rtol 1e-3 and `atol`."""
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=atol)
