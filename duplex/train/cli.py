"""`bin/train.py`: run stages, or evaluate a checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from duplex.core.errors import ConfigError, DuplexError
from duplex.train.corpus import load_corpus
from duplex.train.pipeline import STAGES, Pipeline
from duplex.train.presets import PRESETS, preset_for, shortened, with_larger_batches
from duplex.train.scenarios import load_pools
from duplex.train.side_by_side import MOST_AT_A_TIME, run_all
from duplex.train.voices import TRAIN_VOICES, SynthesisError, voices_of

LENGTH_FILE = "length"  # of the folder of a run: share of its preset's length, size of its batches, and whose schedule


def parser() -> argparse.ArgumentParser:
    """Command line of the training program."""
    top = argparse.ArgumentParser(prog="train.py", description=__doc__)
    top.add_argument("stage", choices=["all", *STAGES, "evaluate"], help="a stage, all of them, or evaluate")
    top.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    top.add_argument("--work", type=Path, default=Path("runs"), help="corpora, logs, intermediate weights")
    top.add_argument("--out", type=Path, help="the checkpoint (checkpoints/mine; evaluate: checkpoints/tiny)")
    top.add_argument("--start-from", type=Path, metavar="CHECKPOINT", help="begin with these weights, not random ones")
    top.add_argument(
        "--engines", nargs="+", choices=sorted({voice.engine for voice in TRAIN_VOICES}),
        help="speech engines the users' voices come from (the preset's)",
    )  # fmt: skip
    top.add_argument(
        "--length", type=float, default=1.0, metavar="SHARE",
        help="share of the preset's hours, steps and turns to run, to try everything in minutes",
    )  # fmt: skip
    top.add_argument(
        "--batches", type=int, default=1, metavar="N",
        help="times as large batches in as many times fewer steps",
    )  # fmt: skip
    top.add_argument("--seed", type=int, default=1)
    top.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu",
        help="where to train; for a GPU, preset tiny has a schedule of its own",
    )  # fmt: skip
    top.add_argument("--threads", type=_count, default=0, help="torch threads (0: its own choice)")
    top.add_argument("--workers", type=_count, default=0, help="processes that make data (0: none beside the training)")
    top.add_argument(
        "--jobs", type=int, choices=range(1, MOST_AT_A_TIME + 1), default=1,
        help="stages of `all` at a time, as far as they don't wait for each other",
    )  # fmt: skip
    top.add_argument("--count", type=int, default=300, help="questions of an evaluation")
    top.add_argument("--json", type=Path, default=None, help="where an evaluation writes its figures")
    return top


def _count(text: str) -> int:
    if (count := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"at least 0, not {count}")
    return count


def claim_folder(
    work: Path,
    share: float,
    batches: int = 1,
    *,
    for_gpu: bool = False,
    preset: str = "tiny",
    seed: int = 1,
    start_from: Path | None = None,
) -> None:
    """Note in `work` how long its trainings are, how large their batches, whether by a GPU's schedule, and what else
    tells them from others. Raises ConfigError if they are others.
    """
    others = "" if preset == "tiny" else f", preset {preset}"
    others += "" if seed == 1 else f", seed {seed}"
    others += "" if start_from is None else f", from {start_from.resolve()}"
    asked = f"{share}" if batches == 1 else f"{share}, batches times {batches}"
    asked += (", for a GPU" if for_gpu else "") + others
    note = work / LENGTH_FILE
    trained = any(work.glob("*/state.pt"))
    kept = note.read_text().strip() if note.exists() else f"1.0{others}" if trained else asked
    if kept != asked:
        raise ConfigError(
            f"{work} holds trainings of length {kept}: give those of length {asked} a folder of their own"
        )
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{asked}\n")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    evaluating = options.stage == "evaluate"
    options.out = options.out or Path("checkpoints/tiny" if evaluating else "checkpoints/mine")
    try:
        _check_device(options.device)
        if evaluating:
            return _evaluate(options)
        preset = preset_for(options.preset, options.device)
        for_gpu = preset is not PRESETS[options.preset]
        if options.engines:
            preset = replace(preset, voices=voices_of(*options.engines))
        preset = with_larger_batches(shortened(preset, options.length), options.batches)
        pipeline = Pipeline(
            preset, options.work, options.out, options.seed, options.device, options.start_from, options.workers
        )
        claim_folder(
            options.work, options.length, options.batches, for_gpu=for_gpu, preset=options.preset, seed=options.seed,
            start_from=options.start_from,
        )  # fmt: skip
        began = time.monotonic()
        if options.stage == "all" and options.jobs > 1:
            run_all(pipeline, options.jobs, options.threads)
        else:
            for stage in STAGES if options.stage == "all" else [options.stage]:
                pipeline.run(stage)
        if options.stage == "all":
            print(f"all stages: done in {time.monotonic() - began:.0f} s")
    except (DuplexError, OSError, SynthesisError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


def _check_device(device: str) -> None:
    """Raises ConfigError where nothing can be computed on it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from error


def _evaluate(options: argparse.Namespace) -> int:
    from duplex.engine.engine import TorchEngine
    from duplex.train.evaluate import evaluate

    if find_spec("pocketsphinx") is None:
        raise ConfigError("evaluate needs pocketsphinx: pip install -r requirements-test.txt")
    engine = TorchEngine.load(options.out, None, options.device, slots=4, max_length=1024)
    pipeline = Pipeline(PRESETS[options.preset], options.work, options.out, options.seed, options.device)
    folders = pipeline.evaluation_data()
    out = options.json or options.out / "evaluation.json"
    known, new = (load_corpus(folders[name]) for name in ("unseen_voices", "asr_test"))
    timed = load_pools(
        *(folders[name] for name in ("unseen_voices", "split_turns_test", "backchannels_test", "noise_test"))
    )
    figures = evaluate(engine, known, new, timed, options.count, options.seed, out)
    for key, value in figures.items():
        if key != "wrong_examples":
            print(f"{key:32} {value}")
    return 0
