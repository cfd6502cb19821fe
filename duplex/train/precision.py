"""The precision in which a device makes matrix products quickest."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def product_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16, but float32 on a CPU without AVX-512: there every number of a product in bfloat16 is converted one by one."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.bfloat16 if wide or torch.device(device).type != "cpu" else torch.float32


def quick_products(device: str | torch.device, *, enabled: bool = True) -> AbstractContextManager[None]:
    """Where matrix products are made in `product_dtype`, if they are not anyway."""
    kind, dtype = torch.device(device).type, product_dtype(device)
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled and dtype is torch.bfloat16)
