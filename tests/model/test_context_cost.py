"""The context-cost benchmark runs, takes turns and reports what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from duplex.model import context_cost
from duplex.model.llm import CausalLanguageModel

LLM = Path(__file__).parent.parent / "data" / "fixtures" / "llm_tiny"


def test_medians_of_interleaved_repetitions() -> None:
    ticks = iter(range(10**6))
    costs = context_cost.measure(
        CausalLanguageModel.load(LLM), contexts=(5, 30), repetitions=3, clock=lambda: float(next(ticks))
    )
    assert costs == [1000.0, 1000.0]  # the clock is read once before and once behind each token


def test_prints_each_context_and_the_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "llm").symlink_to(LLM)
    assert context_cost.main(["--checkpoint", str(tmp_path), "--repetitions", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "reply token at context   100",
        "reply token at context   500",
        "reply token at context  1000",
        "ratio 1000 / 100",
    ]
    assert float(lines[-1].split(":")[1]) > 0


def test_a_missing_model_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        context_cost.main(["--checkpoint", str(tmp_path)])
    assert "config.json" in capsys.readouterr().err
