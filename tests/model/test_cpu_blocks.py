"""What packed weights compute: the numbers of the modules they were packed from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from duplex.model import cpu_kernels, cpu_llm, packed_cost
from duplex.model.adapter import Adapter, AdapterDims
from duplex.model.caches import StreamCaches
from duplex.model.checkpoint_files import on_eight_bit_grid
from duplex.model.cpu_blocks import Matrices, PackedLinear, Rows
from duplex.model.encoder import DISTANCE_POSITIONS, EncoderDims, SpeechEncoder
from duplex.model.llm import CausalLanguageModel
from duplex.model.speech_decoder import CACHE_BLOCK, SpeechDecoder, SpeechDecoderDims
from tests.model.test_llm import LLAMA, VOCABULARY, written

QWEN = {**VOCABULARY, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 6}


def whole_steps(outputs: int, inputs: int) -> torch.Tensor:
    """Rows of 8-bit steps, as a tensor stored in 8 bit is loaded."""
    steps = torch.randint(-127, 128, (outputs, inputs)).float()
    steps[:, 0] = 127
    return steps * (torch.rand(outputs, 1) + 0.1)


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (whole_steps, np.int8),
        (lambda *shape: on_eight_bit_grid(torch.randn(shape)), np.int8),
        (lambda *shape: torch.randn(shape).bfloat16().float(), np.uint16),
        (torch.randn, np.float32),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 12])
@pytest.mark.parametrize(("outputs", "inputs"), [(10, 16), (7, 5), (1, 1)])
def test_products_are_those_of_the_very_numbers(make: Any, kept: Any, rows: int, outputs: int, inputs: int) -> None:
    torch.manual_seed(rows)
    weights = [make(outputs, inputs) for _ in range(2)]
    packed, x = Matrices.pack(weights), torch.randn(rows, inputs)
    if inputs > 1:  # one number is always whole steps of itself
        assert packed.values.dtype == kept
    numbers = torch.from_numpy(packed.values)
    floats = numbers.view(torch.bfloat16).float() if kept == np.uint16 and inputs > 1 else numbers.float()
    assert torch.equal(floats * torch.from_numpy(packed.scales)[..., None], torch.stack(weights))
    torch.testing.assert_close(packed.times(x), x @ weights[0].T, rtol=1e-5, atol=1e-4)


def test_a_row_of_zeros_is_packed() -> None:
    weights = torch.cat([torch.zeros(1, 6), torch.randn(2, 6)])
    torch.testing.assert_close(Matrices.pack([weights]).times(torch.eye(6)), weights.T)


def test_the_exponential_is_the_library_s() -> None:
    x = np.linspace(-50, 88, 5001, dtype=np.float32)
    ours = np.array([cpu_kernels._exp(value) for value in x])
    np.testing.assert_allclose(ours, np.exp(x.astype(np.float64)), rtol=5e-7)
    assert 0 < cpu_kernels._exp(np.float32(-1e9)) < 1e-20
    assert np.isfinite(cpu_kernels._exp(np.float32(1e9)))


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Linear(5, 7, bias=False), nn.Conv1d(5, 8, 3, stride=2)])
def test_linear_layers_and_convolutions(layer: Any) -> None:
    x = torch.randn(2, 5, 9) if isinstance(layer, nn.Conv1d) else torch.randn(2, 3, 5)
    torch.testing.assert_close(PackedLinear(layer)(x), layer(x))


@pytest.mark.parametrize(
    ("model_type", "entries"),
    [
        ("llama", LLAMA),
        ("llama", {**LLAMA, "head_dim": 24, "num_key_value_heads": 1}),
        ("qwen2", {**QWEN, "num_key_value_heads": 3}),
        ("qwen2", {**QWEN, "num_key_value_heads": 6, "tie_word_embeddings": False, "rope_theta": 500.0}),
        ("mistral", {**LLAMA, "sliding_window": None}),
    ],
)
def test_a_ragged_batch_of_a_packed_llm(tmp_path: Path, model_type: str, entries: dict[str, Any]) -> None:
    folder = written(tmp_path, model_type, entries)
    if model_type == "qwen2":  # whose biases begin as zeros
        noisy = transformers.AutoModelForCausalLM.from_pretrained(folder)
        for name, weight in noisy.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight)
        noisy.save_pretrained(folder)
    packed, plain = (CausalLanguageModel.load(folder, packed=flag) for flag in (True, False))
    assert packed._packed is not None
    assert plain._packed is None
    outcomes = []
    for llm in (packed, plain):
        generator = torch.Generator().manual_seed(5)
        pool = llm.new_pool(3, 40)
        branches = [pool.acquire() for _ in range(3)]
        hidden = []
        for lengths in ((9, 1, 17), (1, 1, 1), (2, 5, 1)):
            rows = [torch.randn(n, llm.hidden_size, generator=generator) for n in lengths]
            hidden += llm.forward(pool, branches, rows)
        outcomes.append((torch.cat(hidden), llm.logits(torch.cat(hidden)[None]), pool.k, pool.v))
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-4)


def test_the_table_of_angles_grows_with_the_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path, "llama", LLAMA)
    plain = CausalLanguageModel.load(folder, packed=False)
    monkeypatch.setattr(cpu_llm, "ANGLES_BLOCK", 8)
    packed = CausalLanguageModel.load(folder)
    given = torch.randn(50, 64)
    hidden = []
    for llm in (packed, plain):
        pool = llm.new_pool(1, 50)
        hidden.append(llm.forward(pool, [pool.acquire()], [given])[0])
    torch.testing.assert_close(*hidden, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model_type", "entries"),
    [
        ("gpt2", {**VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}),
        ("llama", {**LLAMA, "attention_bias": True}),  # its output projection has a bias as well
        ("llama", {**LLAMA, "hidden_act": "gelu"}),
        ("qwen3", {**LLAMA, "head_dim": 16}),  # norms of queries and keys
        ("granite", {**LLAMA, "residual_multiplier": 0.5}),  # Llama's parts, otherwise put together
    ],
)
def test_other_models_run_by_their_own_modules(tmp_path: Path, model_type: str, entries: dict[str, Any]) -> None:
    assert CausalLanguageModel.load(written(tmp_path, model_type, entries))._packed is None


def test_a_large_model_is_not_held_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cpu_llm, "LARGEST", 1000)
    with caplog.at_level(logging.DEBUG):
        assert CausalLanguageModel.load(written(tmp_path, "llama", LLAMA))._packed is None
    assert [record.__dict__["cause"] for record in caplog.records if "own modules" in record.message] == [
        "too large to be packed"
    ]


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("prefix", [0, 4])
def test_the_speech_decoder(placed: bool, prefix: int) -> None:
    torch.manual_seed(2)
    decoder = SpeechDecoder(SpeechDecoderDims(dim=24, heads=3, feed_forward=40, blocks=4, codes=20)).eval()
    text, rows = torch.randn(1, 5, 24), torch.randn(1, prefix, 24) if prefix else None
    places = torch.rand(5).cumsum(0) * 3 if placed else None
    runs = []
    for packed in (False, True):
        if packed:
            decoder.pack()
        cache, out = decoder.begin(text, rows, places)
        logits = [decoder.step(token % 24, cache) for token in range(CACHE_BLOCK + 9)]
        runs.append((out, torch.stack(logits), cache.k[..., : cache.length, :], cache.v[..., : cache.length, :]))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


def test_the_encoder_and_adapter_over_streams_of_different_ages() -> None:
    torch.manual_seed(3)
    dims = EncoderDims(
        dim=24, heads=2, feed_forward=40, blocks=3, left_chunks=3, position_kind=DISTANCE_POSITIONS
    )  # fmt: skip
    encoder = SpeechEncoder(dims).eval()
    adapter = Adapter(AdapterDims(24, 16, pieces=30, cues=4)).eval()
    for module in (encoder, adapter):
        for weight in module.parameters():
            nn.init.normal_(weight, std=0.2)
    chunks = torch.randn(8, 3, 19, 80)
    runs = []
    for packed in (False, True):
        if packed:
            encoder.pack()
            adapter.pack()
        caches = [StreamCaches() for _ in range(3)]
        outs = []
        for time, chunk in enumerate(chunks):
            alive = [0, 1, 2] if time > 1 else [0, 2][: time + 1]
            of = [caches[row] for row in alive]
            frames = encoder.chunk(chunk[alive], of)
            outs += [frames, adapter.chunk(frames, of)]
        kept = [(cache.encoder_k, cache.encoder_v, cache.adapter, cache.pe_index) for cache in caches]
        runs.append((outs, kept))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-4)


def test_rows_of_a_batch() -> None:
    rows = Rows.causal([(4, 2, 3), (1, 0, 1)])
    assert (rows.slots.tolist(), rows.places.tolist(), rows.seen.tolist()) == ([4, 4, 4, 1], [2, 3, 4, 0], [3, 4, 5, 1])
    rows = Rows.mutual(2, 3)
    assert (rows.slots.tolist(), rows.places.tolist(), rows.seen.tolist()) == ([0] * 3, [2, 3, 4], [5] * 3)


def test_kernels_compile_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", refuse)
    assert cpu_kernels.kernel(lambda x: x + 1)(1) == 2


def test_what_packing_saves_is_told_step_by_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_cost, "ROUNDS", 2)
    monkeypatch.setattr(packed_cost, "SPREAD_BYTES", 4096)
    assert packed_cost.main(["--checkpoint", "checkpoints/tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 6
    assert all(float(figure) > 0 for line in lines for figure in line.split()[-3:])
    assert packed_cost.main(["--checkpoint", "checkpoints/nothing"]) == 1
    assert "there is no checkpoint folder" in capsys.readouterr().err
