"""Adapter outputs read as mixtures of the LLM's embeddings."""

from __future__ import annotations

import torch

from duplex.model.adapter import AdapterDims, as_pieces
from duplex.model.checkpoint_config import train_config
from duplex.model.encoder import EncoderDims


def test_the_nearest_embedding_wins_and_a_tie_is_shared():
    table, nothing = torch.eye(4) * 2, torch.zeros(1, 4)
    near = as_pieces(torch.cat([torch.tensor([[2.0, 0.1, 0.0, 0.0]]), nothing], 1), table, 0.1)
    torch.testing.assert_close(near, table[:1], atol=1e-3, rtol=0)
    both = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(as_pieces(torch.cat([both, nothing], 1), table, 0.1), both, atol=1e-3, rtol=0)


def test_weights_are_a_softmax_over_squared_distances_and_the_rest_is_added():
    torch.manual_seed(0)
    table, adapted, rest = torch.randn(7, 5), torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    distance = torch.cdist(adapted, table.expand(2, -1, -1)).square() / table.square().sum(-1).mean()
    expected = torch.softmax(-distance / 0.3, dim=-1) @ table + rest
    torch.testing.assert_close(as_pieces(torch.cat([adapted, rest], 2), table, 0.3), expected, atol=1e-5, rtol=1e-4)


def test_only_adapters_of_our_kind_name_a_width():
    def listening(dims: AdapterDims) -> dict[str, object]:
        config = train_config(EncoderDims(), dims, prompts=1, states=4, chat_template="", json_cmvn=True)
        out: dict[str, object] = config["model_conf"]
        return out

    assert "piece_width" not in listening(AdapterDims(8, 8))
    assert listening(AdapterDims(8, 8, piece_width=0.2))["piece_width"] == 0.2
