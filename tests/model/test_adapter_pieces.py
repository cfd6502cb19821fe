"""Adapter outputs read as mixtures of the LLM's embeddings."""

from __future__ import annotations

import torch

from duplex.model.adapter import Adapter, AdapterDims, as_pieces
from duplex.model.caches import StreamCaches
from duplex.model.checkpoint_config import train_config
from duplex.model.encoder import EncoderDims


def test_the_likeliest_embedding_wins_and_a_tie_is_shared():
    table, nothing = torch.eye(4) * 2, torch.zeros(1, 4)
    sure = as_pieces(torch.cat([torch.tensor([[20.0, 1.0, 0.0, 0.0]]), nothing], 1), table)
    torch.testing.assert_close(sure, table[:1], atol=1e-3, rtol=0)
    torn = as_pieces(torch.cat([torch.tensor([[20.0, 20.0, 0.0, 0.0]]), nothing], 1), table)
    torch.testing.assert_close(torn, torch.tensor([[1.0, 1.0, 0.0, 0.0]]), atol=1e-3, rtol=0)


def test_the_rest_is_added_and_half_precision_is_kept():
    torch.manual_seed(0)
    table, logits, rest = torch.randn(7, 5), torch.randn(2, 3, 7), torch.randn(2, 3, 5)
    mixed = as_pieces(torch.cat([logits, rest], 2), table)
    torch.testing.assert_close(mixed, torch.softmax(logits, -1) @ table + rest)
    half = as_pieces(torch.cat([logits, rest], 2).bfloat16(), table.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), mixed, atol=0.1, rtol=0.05)


def test_an_adapter_of_our_kind_weighs_pieces_and_adds_a_rest():
    adapter = Adapter(AdapterDims(8, 16, pieces=11))
    assert adapter(torch.randn(2, 12, 8)).shape == (2, 6, 11 + 16)
    assert adapter.rest_parts() == [adapter.rest]
    with_cues = Adapter(AdapterDims(8, 16, pieces=11, cues=4))
    read, cues = with_cues.split(with_cues(torch.randn(2, 12, 8)))
    assert (read.shape, cues.shape) == ((2, 6, 11 + 16), (2, 6, 4))
    assert with_cues.rest_parts() == [with_cues.rest, with_cues.cues]
    official = Adapter(AdapterDims(8, 16))
    assert official(torch.randn(2, 12, 8)).shape == (2, 6, 16)
    assert official.rest_parts() == []


def test_an_adapter_of_our_kind_hears_in_chunks_what_it_hears_at_once():
    torch.manual_seed(0)
    adapter, frames = Adapter(AdapterDims(8, 16, kernel=9, pieces=11)).eval(), torch.randn(1, 20, 8)
    cache = StreamCaches()
    with torch.inference_mode():
        chunks = [adapter.chunk(frames[:, at : at + 4], [cache]) for at in range(0, 20, 4)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), adapter(frames), atol=1e-5, rtol=1e-5)


def test_only_adapters_of_our_kind_name_their_pieces_and_cues():
    def listening(dims: AdapterDims) -> dict[str, object]:
        config = train_config(EncoderDims(), dims, prompts=1, states=4, chat_template="", json_cmvn=True)
        out: dict[str, object] = config["model_conf"]
        return out

    assert not {"pieces", "cues"} & listening(AdapterDims(8, 8)).keys()
    assert listening(AdapterDims(8, 8, pieces=300, cues=4))["pieces"] == 300
    assert listening(AdapterDims(8, 8, pieces=300, cues=4))["cues"] == 4
