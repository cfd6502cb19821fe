"""What a reply token costs as the conversation grows: `python -m duplex.model.context_cost --checkpoint DIR`.

A step must not copy the context, so the cost at 1000 tokens should be close to that at 100.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from duplex.core.errors import DuplexError
from duplex.core.types import SamplingParams
from duplex.model.caches import Branch, BranchPool
from duplex.model.llm import CausalLanguageModel
from duplex.model.sampling import TextSampler

CONTEXTS = (100, 500, 1000)  # tokens
WARM_UP = 10  # rounds that do not count


def measure(
    llm: CausalLanguageModel,
    contexts: Sequence[int] = CONTEXTS,
    repetitions: int = 200,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median milliseconds of one reply token (embedding, LLM, logits, sampling) behind each context.

    The contexts take turns, so that whatever else the machine does falls on all of them.
    """
    sampler = TextSampler(SamplingParams(top_k=1))
    with torch.inference_mode():
        pool = llm.new_pool(len(contexts), max(contexts) + 1)
        branches = [_filled(llm, pool, length) for length in contexts]
        spent: list[list[float]] = [[] for _ in contexts]
        for _ in range(WARM_UP + repetitions):
            for row, branch in zip(spent, branches, strict=True):
                start = clock()
                hidden = llm.forward(pool, [branch], [llm.embed([0])])[0]
                sampler.sample(llm.logits(hidden[-1]))  # reading the token waits for the device
                row.append(clock() - start)
                pool.truncate(branch, branch.length - 1)
    return [statistics.median(row[WARM_UP:]) * 1000 for row in spent]


def _filled(llm: CausalLanguageModel, pool: BranchPool, length: int) -> Branch:
    branch = pool.acquire()
    llm.forward(pool, [branch], [torch.randn(length, llm.hidden_size, device=llm.device)])
    return branch


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one line a context, and the ratio of the longest to the shortest."""
    parser = argparse.ArgumentParser(description="Cost of a reply token at growing contexts.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--llm", type=Path, help="language model folder (default: llm inside the checkpoint)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=200)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    dtype = torch.float32 if torch.device(options.device).type == "cpu" else torch.bfloat16
    try:
        llm = CausalLanguageModel.load(options.llm or options.checkpoint / "llm", device=options.device, dtype=dtype)
    except DuplexError as error:
        parser.exit(1, f"{error}\n")
    medians = measure(llm, repetitions=options.repetitions)
    for context, median in zip(CONTEXTS, medians, strict=True):
        print(f"reply token at context {context:5d}: {median:8.3f} ms")
    print(f"ratio {CONTEXTS[-1]} / {CONTEXTS[0]}: {medians[-1] / medians[0]:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
