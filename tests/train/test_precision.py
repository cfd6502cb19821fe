"""The precision that training multiplies matrices in, by what the CPU is quick at."""

from pathlib import Path

import pytest
import torch

from duplex.train.loop import LoopOptions, train
from duplex.train.precision import product_dtype, quick_products


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ("AVX512", torch.bfloat16),
        ("AVX512_VNNI", torch.bfloat16),
        ("AVX2", torch.float32),
        ("DEFAULT", torch.float32),
    ],
)
def test_a_cpu_without_avx512_is_trained_on_in_float32(
    capability: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    products: list[torch.dtype] = []

    def loss_of(_: object) -> dict[str, torch.Tensor]:
        products.append((out := layers(torch.eye(4))).dtype)
        return {"loss": out.float().square().mean()}

    options = LoopOptions(steps=2, learning_rate=0.01, warmup=1, matrix_rate=0.02)
    train("t", layers, iter(lambda: 0, 1), loss_of, tmp_path, options)
    assert products == [dtype, dtype]
    assert all(p.dtype is torch.float32 and p.isfinite().all() for p in layers.parameters())
    with quick_products("cpu"):
        assert (torch.eye(2) @ torch.eye(2)).dtype is dtype
    with quick_products("cpu", enabled=False):
        assert (torch.eye(2) @ torch.eye(2)).dtype is torch.float32
    assert product_dtype("cpu") is dtype
    assert product_dtype("cuda") is torch.bfloat16
