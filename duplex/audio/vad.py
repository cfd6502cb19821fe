"""Voice activity: Silero VAD 6 over many sessions at once, the state of each held outside the model.

The network is the 16 kHz one of the package `silero-vad`: an STFT written as a convolution, four
convolutions, one LSTM cell, a sigmoid. Only its TorchScript weights are read (the safetensors file
beside them is of an older training); the wrapper, which keeps the state of one stream inside the model,
is not used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Float32 = npt.NDArray[np.float32]

WINDOW_SAMPLES = 512  # 32 ms at 16 kHz
CONTEXT_SAMPLES = 64  # of the window before, put in front
_HIDDEN = 128
_STFT_STRIDE = 128
_STFT_PAD = 64  # reflected at the end
_STFT_BINS = 129
_SCRIPT_PREFIX = "_model."  # the 16 kHz network; the 8 kHz one is `_model_8k`
_SCRIPT_NAMES = {
    "stft": "stft.forward_basis_buffer",
    **{
        f"conv{layer + 1}.{part}": f"encoder.{layer}.reparam_conv.{part}"
        for layer in range(4)
        for part in ("weight", "bias")
    },
    **{f"lstm.{part}": f"decoder.rnn.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    "output.weight": "decoder.decoder.2.weight",
    "output.bias": "decoder.decoder.2.bias",
}


@dataclass
class VadState:
    """What the VAD carries between windows of one session: LSTM state [2, 128] and audio context [64]."""

    lstm: torch.Tensor = field(default_factory=lambda: torch.zeros(2, _HIDDEN))
    context: torch.Tensor = field(default_factory=lambda: torch.zeros(CONTEXT_SAMPLES))

    def reset(self) -> None:
        """Start over, as a new stream."""
        self.lstm = torch.zeros(2, _HIDDEN)
        self.context = torch.zeros(CONTEXT_SAMPLES)

    def copy(self) -> VadState:
        """An independent state at the same place (tensors are replaced, never written)."""
        return VadState(self.lstm, self.context)


def shipped_weights() -> Path:
    """The weights file inside the installed `silero-vad` package, found without importing it
    (importing changes torch's thread count for the whole process).
    """
    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package silero-vad is not installed")
    return Path(package.origin).parent / "data" / "silero_vad.jit"


class VadModel:
    """Silero VAD, stateless: states go in with the audio. Safe to call from several threads."""

    def __init__(self, weights: Path | None = None) -> None:
        with warnings.catch_warnings():
            # TorchScript is deprecated, but it is the only form in which these weights are shipped.
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(str(weights or shipped_weights()), map_location="cpu")  # type: ignore[no-untyped-call]
        tensors = dict(script.named_parameters()) | dict(script.named_buffers())
        self._weights = {
            name: tensors[f"{_SCRIPT_PREFIX}{path}"].detach().clone() for name, path in _SCRIPT_NAMES.items()
        }

    @torch.inference_mode()
    def probs(self, states: Sequence[VadState], pcm: Float32 | torch.Tensor) -> torch.Tensor:
        """Speech probability of every 32 ms window; updates `states`.

        `pcm` float32 [batch, windows * 512] at 16 kHz in [-1, 1); returns float32 [batch, windows].
        """
        samples = torch.as_tensor(pcm, dtype=torch.float32)
        if samples.dim() != 2 or len(samples) != len(states) or samples.shape[1] % WINDOW_SAMPLES:
            raise ValueError(f"expected pcm [{len(states)}, k * {WINDOW_SAMPLES}], got {list(samples.shape)}")
        windows = samples.shape[1] // WINDOW_SAMPLES
        samples = torch.cat([torch.stack([state.context for state in states]), samples], dim=1)
        framed = samples.unfold(1, CONTEXT_SAMPLES + WINDOW_SAMPLES, WINDOW_SAMPLES)
        encoded = self._encode(framed.reshape(-1, framed.shape[-1])).view(len(states), windows, _HIDDEN)
        hidden, cell = torch.stack([state.lstm for state in states], dim=1)
        outputs = []
        for window in range(windows):
            hidden, cell = self._lstm_step(encoded[:, window], hidden, cell)
            outputs.append(hidden)
        for row, state in enumerate(states):
            state.lstm = torch.stack([hidden[row], cell[row]])
            state.context = samples[row, -CONTEXT_SAMPLES:].clone()
        logits = F.relu(torch.stack(outputs, dim=1)) @ self._weights["output.weight"].view(_HIDDEN)
        return torch.sigmoid(logits + self._weights["output.bias"])

    def _encode(self, windows: torch.Tensor) -> torch.Tensor:
        """[n, 576] samples to [n, 128]."""
        weights = self._weights
        x = F.pad(windows[:, None], (0, _STFT_PAD), "reflect")
        x = F.conv1d(x, weights["stft"], stride=_STFT_STRIDE)
        x = (x[:, :_STFT_BINS].square() + x[:, _STFT_BINS:].square()).sqrt()
        for layer, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = F.relu(F.conv1d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], stride, padding=1))
        return x.squeeze(-1)

    def _lstm_step(
        self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights = self._weights
        gates = F.linear(x, weights["lstm.weight_ih"], weights["lstm.bias_ih"])
        gates = gates + F.linear(hidden, weights["lstm.weight_hh"], weights["lstm.bias_hh"])
        keep_in, forget, candidate, out = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(keep_in) * torch.tanh(candidate)
        return torch.sigmoid(out) * torch.tanh(cell), cell
