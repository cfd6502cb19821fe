"""What packing a checkpoint for `cpu_kernels` saves, step by step, on one thread.

    python -m duplex.model.packed_cost --checkpoint checkpoints/tiny

Between two runs of a step, memory of SPREAD_BYTES is read: a server comes back to no weights that a cache still holds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from duplex.audio.features import CHUNK_FRAMES
from duplex.core.errors import DuplexError
from duplex.model.caches import StreamCaches
from duplex.model.checkpoint import DuplexModel, load_checkpoint

ROUNDS = 40
SPREAD_BYTES = 32 << 20
CONTEXT = 200  # tokens of a conversation that has been going on
WRITTEN = 30  # symbols or positions of the segment that is spoken

Step = Callable[[], object]


def steps(model: DuplexModel) -> dict[str, Step]:
    """One step of every kind that reads the weights, each repeatable."""
    encoder, adapter, llm, decoder = model.encoder, model.adapter, model.llm, model.speech_decoder
    features = torch.randn(1, CHUNK_FRAMES, encoder.dims.bins)
    caches = [StreamCaches()]
    for _ in range(encoder.dims.left_chunks + 1):
        frames = encoder.chunk(features, caches)
    pool = llm.new_pool(1, CONTEXT + encoder.dims.chunk)
    branch = pool.acquire()
    llm.forward(pool, [branch], [torch.randn(CONTEXT, llm.hidden_size)])
    text = torch.randn(1, WRITTEN, decoder.dims.dim)

    def think(rows: int) -> None:
        llm.forward(pool, [branch], [torch.randn(rows, llm.hidden_size)])
        branch.length = CONTEXT

    cache, _ = decoder.begin(text, text)
    begun = cache.length

    def speak() -> None:
        decoder.step(0, cache)
        cache.length = begun

    return {
        "encoder, a chunk": lambda: encoder.chunk(features, caches),
        "adapter, a chunk": lambda: adapter.chunk(frames, caches),
        "LLM, a chunk": lambda: think(encoder.dims.chunk // 2),
        "LLM, a token": lambda: think(1),
        "speech decoder, a segment's beginning": lambda: decoder.begin(text, text),
        "speech decoder, a code": speak,
    }


def milliseconds(step: Step) -> float:
    """The median of some rounds."""
    elsewhere = torch.zeros(SPREAD_BYTES // 4)
    taken = []
    for _ in range(ROUNDS):
        elsewhere.sum()
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def main(arguments: list[str] | None = None) -> int:
    """Print a line a step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="packed_cost", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--llm", type=Path, default=None, help="Hugging Face folder (default: CHECKPOINT/llm)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        usual, packed = (load_checkpoint(options.checkpoint, options.llm, packed=flag) for flag in (False, True))
    except DuplexError as error:
        print(f"packed_cost: {error}", file=sys.stderr)
        return 1
    print(f"{'':38} modules ms  packed ms  ratio")
    with torch.inference_mode():
        for (name, step), other in zip(steps(usual).items(), steps(packed).values(), strict=True):
            slow, fast = milliseconds(step), milliseconds(other)
            print(f"{name:38} {slow:10.2f} {fast:10.2f} {slow / fast:6.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
