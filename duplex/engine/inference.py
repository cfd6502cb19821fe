"""`bin/inference.py`: answer recordings without a server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from duplex.audio.pcm import resample
from duplex.audio.wav import WavError, read_wav, write_wav
from duplex.core.config import ROOT
from duplex.core.errors import DuplexError
from duplex.core.types import SamplingParams
from duplex.engine.engine import TorchEngine
from duplex.engine.offline import Answer, Conversation
from duplex.engine.trace import Trace

STAGES = ("hear", "listen", "reply", "speak")


def parser() -> argparse.ArgumentParser:
    """Command line of the inference program."""
    top = argparse.ArgumentParser(prog="inference.py", description="Answer recordings, each in a fresh conversation.")
    top.add_argument("--input", type=Path, action="append", required=True, help="a WAV file or a folder of them")
    top.add_argument("--output", type=Path, required=True, help="a WAV file; a folder where there are several inputs")
    top.add_argument("--checkpoint", "--model_path", type=Path, default=ROOT / "checkpoints" / "tiny")
    top.add_argument(
        "--llm", "--llm_path", type=Path, default=None, help="Hugging Face folder (default: CHECKPOINT/llm)"
    )
    top.add_argument("--device", default="cpu")
    top.add_argument("--instructions", default=None, help="system prompt (default: the checkpoint's)")
    top.add_argument("--greedy", action="store_true", help="take the likeliest token (the default without --top-k)")
    top.add_argument("--seed", type=int, default=None)
    top.add_argument("--temperature", type=float, default=1.0)
    top.add_argument("--top-k", "--top_k", type=int, default=1)
    top.add_argument("--top-p", "--top_p", type=float, default=1.0)
    top.add_argument("--max-text-tokens", type=int, default=128)
    top.add_argument("--max-length", type=int, default=2048, help="tokens a conversation can hold")
    top.add_argument("--offline", action="store_true", help="ignore predicted states, force the reply at the end")
    top.add_argument(
        "--trace",
        type=Path,
        default=None,
        help="write every intermediate tensor up to the reply's text here (one input)",
    )
    top.add_argument("--json", action="store_true", help="one JSON object a line")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        jobs = plan(options.input, options.output)
        if options.trace is not None and len(jobs) != 1:
            raise WavError("--trace takes one input")
        trace = Trace() if options.trace is not None else None
        engine = TorchEngine.load(
            options.checkpoint, options.llm, options.device, slots=1, max_length=options.max_length, trace=trace
        )
        for source, target in jobs:
            _answer(engine, source, target, options)
        if trace is not None:
            trace.save(options.trace)
    except (DuplexError, OSError, ValueError) as error:
        print(f"inference.py: {error}", file=sys.stderr)
        return 1
    return 0


def plan(inputs: list[Path], output: Path) -> list[tuple[Path, Path]]:
    """Which file answers which. Raises WavError when a folder holds no recording or two answers would share a name, or
    an answer that of its own recording.
    """
    sources: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(path.glob("*.wav"))
            if not found:
                raise WavError(f"{path} holds no .wav file")
            sources += found
        else:
            sources.append(path)
    if len(sources) == 1 and len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir():
        return _apart([(sources[0], output)])
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WavError(f"several inputs are called {twice[0]}: their answers would overwrite one another")
    output.mkdir(parents=True, exist_ok=True)
    return _apart([(source, output / source.name) for source in sources])


def _apart(planned: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    recordings = {source.resolve() for source, _ in planned}
    for _, target in planned:
        if target.resolve() in recordings:
            raise WavError(f"{target} is one of the recordings: its answer would overwrite it")
    return planned


def _answer(engine: TorchEngine, source: Path, target: Path, options: argparse.Namespace) -> None:
    pcm, rate = read_wav(source)
    pcm = resample(pcm, rate, engine.facts.input_sample_rate)
    sampling = SamplingParams(
        temperature=options.temperature,
        top_k=1 if options.greedy else options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        max_text_tokens=options.max_text_tokens,
    )
    with (
        torch.inference_mode(),
        Conversation(engine, role=options.instructions, sampling=sampling, offline=options.offline) as conversation,
    ):
        answer = conversation.hear(pcm)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_wav(target, answer.pcm, engine.facts.output_sample_rate)
    row = report(engine, source, target, answer, len(pcm))
    if options.json:
        print(json.dumps(row), flush=True)
        return
    print(f"{source} -> {target}\n  {answer.text or '(no reply)'}")
    for stage in STAGES:
        if stage in answer.stage_ms:
            calls = answer.stage_calls[stage]
            print(
                f"  {stage:8} {answer.stage_ms[stage]:8.1f} ms  {calls:4} steps  {answer.stage_ms[stage] / calls:6.2f} ms each"
            )
    if answer.first_audio_ms is not None:
        print(
            f"  first audio {answer.first_audio_ms:.0f} ms after the decision, real-time factor {row['real_time_factor']}"
        )


def report(engine: TorchEngine, source: Path, target: Path, answer: Answer, input_samples: int) -> dict[str, Any]:
    """The figures of one answer as plain values."""
    seconds = len(answer.pcm) / engine.facts.output_sample_rate
    heard = input_samples / engine.facts.input_sample_rate
    total = sum(answer.stage_ms.values()) / 1000
    decided = answer.decision_sample
    return {
        "input": str(source),
        "output": str(target),
        "text": answer.text,
        "input_sec": round(heard, 3),
        "output_sec": round(seconds, 3),
        "decided_at_sec": None if decided is None else round(decided / engine.facts.input_sample_rate, 3),
        "first_audio_ms": None if answer.first_audio_ms is None else round(answer.first_audio_ms, 1),
        "stage_ms": {stage: round(value, 1) for stage, value in answer.stage_ms.items()},
        "real_time_factor": round(total / max(heard + seconds, 1e-9), 4),
    }
