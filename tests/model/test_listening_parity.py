"""From samples to turn decisions, against the reference's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from duplex.audio import features
from duplex.audio.features import CHUNK_SAMPLES, FbankStream, fbank_chunks
from duplex.model.adapter import Adapter, AdapterDims
from duplex.model.caches import StreamCaches
from duplex.model.checkpoint import DuplexModel
from duplex.model.encoder import EncoderDims, SpeechEncoder
from tests.model.conftest import Tensors, assert_near


def listened(model: DuplexModel, fbank: torch.Tensor, caches: StreamCaches) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoder and adapter outputs of every chunk."""
    encoded, adapted = [], []
    for chunk in fbank:
        encoded.append(model.encoder.chunk(chunk[None], [caches]))
        adapted.append(model.adapter.chunk(encoded[-1], [caches]))
    return torch.cat(encoded), torch.cat(adapted)


def utterance(fbank: torch.Tensor) -> torch.Tensor:
    """Chunks [n, 19, 80] as one utterance [1, 3 + 16 n, 80]."""
    return torch.cat([fbank[0, :3], fbank[:, 3:].flatten(0, 1)])[None]


def test_fbank(question: np.ndarray, listen: Tensors, units: Tensors) -> None:
    whole = fbank_chunks(question)
    assert_near(whole, listen["fbank"], atol=7e-3)  # near-silent frames, see the fixture's tolerances
    stream = FbankStream()
    padded = np.pad(question, (0, len(whole) * CHUNK_SAMPLES - len(question)))
    chunks = torch.stack([stream.push(chunk) for chunk in padded.reshape(-1, CHUNK_SAMPLES)])
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-5)
    assert_near(whole[8], units["vad.feature"], atol=7e-3)
    assert_near(whole[2:8], units["vad.first_pack"], atol=7e-3)  # the six chunks before the onset (quirk 15)


def test_fbank_constants(units: Tensors) -> None:
    assert_near(features._mel_banks(torch.device("cpu")).T[:, :256], units["fbank.mel_banks"])
    assert_near(features._povey_window(torch.device("cpu")), units["fbank.povey_window"])


def test_encoder_and_adapter_by_chunk(model: DuplexModel, listen: Tensors) -> None:
    caches = StreamCaches()
    shapes, positions = [], []
    for index, chunk in enumerate(listen["fbank"]):
        encoded = model.encoder.chunk(chunk[None], [caches])
        assert_near(encoded[0], listen["enc"][index])
        assert_near(model.adapter.chunk(encoded, [caches])[0], listen["adapter"][index])
        shapes.append([list(k.shape) for k in caches.encoder_k])
        positions.append(caches.pe_index)
    assert shapes == listen["enc_cache_shape"].tolist()
    assert positions == listen["pe_index_out"].tolist()
    assert [list(entry.shape) for entry in caches.adapter] == listen["adapter_cache_shape"][-1].tolist()
    assert_near(caches.adapter[0], listen["adapter_cache_final.0"])
    for block in range(2):
        assert_near(caches.encoder_k[block], listen[f"enc_cache_final.{block}.k"])
        assert_near(caches.encoder_v[block], listen[f"enc_cache_final.{block}.v"])


def test_encoder_whole(encoder: SpeechEncoder, listen: Tensors) -> None:
    whole = encoder(utterance(listen["fbank"]), shifted_positions=False)[0]
    assert_near(whole, listen["enc_whole"])
    difference = (whole.unflatten(0, (-1, 4)) - listen["enc"]).abs().amax(dim=(1, 2))
    assert_near(difference, listen["enc_whole_vs_chunk_absdiff"])


def test_encoder_positions_wrap(encoder: SpeechEncoder, listen: Tensors, units: Tensors, meta: dict[str, Any]) -> None:
    wrap = meta["units"]["pe_wrap"]
    assert encoder.dims.wrap == wrap["max_len"]
    caches = StreamCaches(pe_index=wrap["start"])
    for index, (before, after) in enumerate(units["pe_wrap.pe_in_out"].tolist()):
        assert caches.pe_index % encoder.dims.wrap == before % encoder.dims.wrap
        assert_near(encoder.chunk(listen["fbank"][index : index + 1], [caches])[0], units["pe_wrap.enc"][index])
        assert caches.pe_index == after


def test_encoder_and_adapter_by_chunk_equal_whole(model: DuplexModel, listen: Tensors) -> None:
    encoded, adapted = listened(model, listen["fbank"], StreamCaches())
    whole = model.encoder(utterance(listen["fbank"]))
    torch.testing.assert_close(whole[0], encoded.flatten(0, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.adapter(whole)[0], adapted.flatten(0, 1), rtol=0, atol=1e-5)


def test_streams_of_different_ages_share_a_batch(model: DuplexModel, listen: Tensors) -> None:
    old, young = StreamCaches(), StreamCaches()
    listened(model, listen["fbank"][:20], old)
    alone = [model.encoder.chunk(listen["fbank"][20:21], [old.copy()])]
    alone.append(model.encoder.chunk(listen["fbank"][:1], [young.copy()]))
    together = model.encoder.chunk(listen["fbank"][[20, 0]], [old, young])
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    adapted = model.adapter.chunk(together, [old, young])
    assert adapted.shape == (2, 2, 64)
    assert (old.pe_index, young.pe_index) == (84, 4)


@pytest.mark.parametrize("positions", ["rel-enc", "rel-distance"])
def test_wide_encoder_of_other_left_context_by_chunk_equals_whole(positions: str) -> None:
    torch.manual_seed(5)
    dims = EncoderDims(dim=24, heads=3, feed_forward=40, blocks=2, chunk=4, left_chunks=3, position_kind=positions)
    encoder = SpeechEncoder(dims).eval()
    features = torch.randn(9, 19, 80)
    features[1:, :3] = features[:-1, -3:]
    caches = StreamCaches()
    chunks = torch.cat([encoder.chunk(chunk[None], [caches]) for chunk in features])
    whole = encoder(utterance(features))[0]
    torch.testing.assert_close(chunks.flatten(0, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", range(5))
def test_adapter_kinds(case: int, units: Tensors, meta: dict[str, Any]) -> None:
    stated = meta["units"]["adapter_cases"][case]
    dims = AdapterDims(
        stated["enc_out_dim"],
        stated["llm_embed_dim"],
        stated["kernel_size"],
        stated["norm"],
        stated["activation_func"],
    )
    assert dims.convolutions == stated["cnn_num"]
    adapter = Adapter(dims).eval()
    prefix = f"adapter.{case}.w."
    weights = {name.removeprefix(prefix): t for name, t in units.items() if name.startswith(prefix)}
    lacking, unexpected = adapter.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in lacking)
    frames = units[f"adapter.{case}.in"][None]
    assert_near(adapter(frames)[0], units[f"adapter.{case}.whole_out"])
    caches = StreamCaches()
    chunks = torch.cat([adapter.chunk(chunk, [caches]) for chunk in frames.split(4, dim=1)], dim=1)
    assert_near(chunks[0], units[f"adapter.{case}.chunk_out"])
    torch.testing.assert_close(chunks, adapter(frames), rtol=0, atol=1e-5)
    for entry, cached in enumerate(caches.adapter):
        assert_near(cached, units[f"adapter.{case}.cache_final.{entry}"])
    assert len(caches.adapter) == stated["cnn_num"]


def test_hidden_states_and_turn_probabilities(model: DuplexModel, listen: Tensors) -> None:
    llm, chat = model.llm, model.chat
    pool = llm.new_pool(slots=1, max_length=256)
    branch = pool.acquire()
    system = chat.system()
    assert system == listen["system_token_ids"].tolist()
    hidden = llm.forward(pool, [branch], [llm.embed(system)])[0]
    assert_near(hidden, listen["system_llm_out"])
    assert_near(model.state_head(hidden[-1]), listen["system_state_logits"])
    assert list(chat.prefix) == listen["prefix_token_ids"].tolist()
    assert list(chat.suffix) == listen["suffix_token_ids"].tolist()
    assert_near(model.prompt_embeddings, listen["prompt_embeds"])

    opening = torch.cat([llm.embed(chat.prefix), model.prompt_embeddings])
    _, adapted = listened(model, listen["fbank"], StreamCaches())
    probs = []
    for index, rows in enumerate(adapted):
        given = torch.cat([opening, rows]) if index == 0 else rows
        last = llm.forward(pool, [branch], [given])[0][-1]
        assert_near(last, listen["listen_llm_out_last"][index])
        logits = model.state_head(last)
        assert_near(logits, listen["state_logits"][index])
        probs.append(torch.softmax(logits[:3], dim=-1))
        assert branch.length == listen["kv_len"][index]
    assert_near(torch.stack(probs), listen["state_prob"])
    decided = [4 if p[1] > 0.5 else 2 for p in probs]
    decided = [3 if p[2] > 0.5 else d for p, d in zip(probs, decided, strict=True)]
    assert decided == listen["stat_out"].tolist()
    assert set(decided) == {2, 3, 4}
