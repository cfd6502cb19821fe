"""Where the weights of linear layers lie: nothing but their place changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from duplex.model.layout import lay_out_for_few_rows, main, microseconds


def test_wide_layers_are_laid_out_by_input_and_compute_the_same() -> None:
    module = nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8), nn.Linear(8, 8, bias=False))
    before = copy.deepcopy(module)
    lay_out_for_few_rows(module)
    assert [layer.weight.stride() for layer in (module[0], module[2], module[3])] == [(1, 24), (24, 1), (1, 8)]
    rows = torch.randn(3, 8)
    torch.testing.assert_close(module(rows), before(rows))
    torch.testing.assert_close(module.state_dict(), before.state_dict(), rtol=0, atol=0)


def test_a_shared_weight_stays_shared() -> None:
    embedding, head = nn.Embedding(32, 8), nn.Linear(8, 32, bias=False)
    head.weight = embedding.weight
    rows = embedding(torch.tensor([5, 31])).detach().clone()
    lay_out_for_few_rows(head)
    assert embedding.weight is head.weight
    torch.testing.assert_close(embedding(torch.tensor([5, 31])), rows, rtol=0, atol=0)


def test_other_types_are_left_alone() -> None:
    half = nn.Linear(8, 24).half()
    lay_out_for_few_rows(half)
    assert half.weight.is_contiguous()


def test_the_time_of_both_layouts_is_told_for_every_shape(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duplex.model.layout.SPREAD_BYTES", 4096)
    monkeypatch.setattr("duplex.model.layout.ROUNDS", 1)
    assert microseconds(16, 8, input_major=True) > 0
    assert main(["checkpoints/tiny"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert ["1800", "256"] in [line[:2] for line in lines]
    assert all(float(figure) > 0 for line in lines for figure in line[3:])
    assert main(["checkpoints/nothing"]) == 1
    assert "there is no checkpoint folder" in capsys.readouterr().err
