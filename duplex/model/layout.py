"""How the matrices of linear layers lie in memory.

Streaming multiplies one to four rows at a time, which is little but reading weights. MKL reads a matrix that has at
least as many outputs as inputs up to twice as fast when the weights of one input lie side by side instead of those of
one output; where inputs outnumber outputs it is the other way round.

    python -m duplex.model.layout checkpoints/tiny

prints for every shape of a checkpoint how long a layer takes in both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.core.errors import DuplexError

ROWS = 2
SPREAD_BYTES = 64 << 20  # of weights that are gone through, more than a cache holds
ROUNDS = 5


def lay_out_for_few_rows(module: nn.Module) -> None:
    """Give the float32 matrices of a module's linear layers the layout in which a CPU reads them fastest. Values, shapes
    and whatever shares a weight stay as they are.
    """
    for layer in module.modules():
        if not isinstance(layer, nn.Linear) or layer.out_features < layer.in_features:
            continue
        if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
            layer.weight.data = by_input(layer.weight.data)


def by_input(weight: Tensor) -> Tensor:
    """The same matrix [outputs, inputs] with the weights of one input side by side."""
    return weight.t().contiguous().t()


def microseconds(outputs: int, inputs: int, *, input_major: bool) -> float:
    """How long a layer takes for ROWS rows, the best of some rounds over more weights than a cache holds."""
    count = max(2, SPREAD_BYTES // (4 * outputs * inputs))
    weights = [torch.randn(outputs, inputs) for _ in range(count)]
    if input_major:
        weights = [by_input(weight) for weight in weights]
    rows, best = torch.randn(1, ROWS, inputs), float("inf")
    with torch.inference_mode():
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for weight in weights:
                F.linear(rows, weight)
            best = min(best, (time.perf_counter() - began) / count)
    return best * 1e6


def main(arguments: list[str] | None = None) -> int:
    """Print a line a shape; returns the exit code."""
    from duplex.model.checkpoint import load_checkpoint

    parser = argparse.ArgumentParser(prog="layout", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    options = parser.parse_args(arguments)
    try:
        model = load_checkpoint(options.checkpoint, None)
    except DuplexError as error:
        print(f"layout: {error}", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    modules = (model.encoder, model.adapter, model.llm.model, model.speech_decoder, model.codec)
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
    shapes = Counter((layer.out_features, layer.in_features) for layer in layers)
    print("outputs inputs layers   us by output   us by input")
    for (outputs, inputs), count in sorted(shapes.items()):
        usual, other = (microseconds(outputs, inputs, input_major=flag) for flag in (False, True))
        print(f"{outputs:7} {inputs:6} {count:6} {usual:14.1f} {other:13.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
