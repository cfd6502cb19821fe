"""Recording of intermediate tensors, for debugging a new checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


class Trace:
    """Tensors by name, in the order they were computed."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {}

    def add(self, name: str, value: Tensor | int) -> None:
        """Record one more row of `name`."""
        row = torch.as_tensor(value).detach().cpu()
        self._rows.setdefault(name, []).append(row.float() if row.is_floating_point() else row)

    def tensors(self) -> dict[str, Tensor]:
        """Rows stacked on a new first axis; rows of different lengths are joined and their lengths given as
        `name_len`; a single row recorded under a name that ends in "!" stands alone.
        """
        out: dict[str, Tensor] = {}
        for name, rows in self._rows.items():
            if name.endswith("!"):
                out[name[:-1]] = rows[-1].contiguous()
            elif name.endswith("+"):
                out[name[:-1]] = torch.cat(rows).contiguous()
                out[f"{name[:-1]}_len"] = torch.tensor([len(row) for row in rows])
            else:
                out[name] = torch.stack(rows).contiguous()
        return out

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        from safetensors.torch import save_file

        save_file(self.tensors(), str(path))
