"""`bin/evaluate.py FOLDER`: run a test set against a live server, print one table, write JSON and plots."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from duplex.audio.wav import WavError
from duplex.bench.conversation import ClientOptions, ConversationError
from duplex.bench.evaluation import Evaluation, intelligibility, report, run, table
from duplex.bench.plots import draw
from duplex.bench.scoring import Outcome
from duplex.bench.testset import FOLDERS, Case, Task, check_recordings, read_cases, task_named, unannotated
from duplex.core.config import Eagerness
from duplex.core.errors import ConfigError

EXIT_FAILED = 1
EXIT_USAGE = 2
SHOWN_TROUBLES = 5


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Run a test set in Full-Duplex-Bench's folder format against a live server. "
        "`evaluate.py make FOLDER` makes a fresh one.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("folder", type=Path, help="the test set: any folders with input.wav and an annotation file")
    add("--url", default="ws://127.0.0.1:8765", help="the server (%(default)s)")
    add(
        "--task", type=_task, action="append", metavar="NAME",
        help=f"only this one of {', '.join(Task)}; may be repeated",
    )  # fmt: skip
    add("--limit", type=int, metavar="N", help="only the first N cases of each task")
    add("--parallel", type=int, default=1, metavar="N", help="conversations at a time (%(default)s)")
    add("--eagerness", choices=[e.value for e in Eagerness], help="of the server's turn taking (its default)")
    add("--out", type=Path, metavar="DIR", help="write output.wav and outcome.json of every case here")
    add("--json", type=Path, metavar="FILE", help="write all figures and outcomes")
    add("--plots", type=Path, metavar="DIR", help="write timeline.png, latency.png and det.png")
    add("--no-asr", action="store_true", help="leave out the word error of the replies")
    add("--api-key", metavar="KEY")
    add("--insecure", action="store_true", help="accept any TLS certificate")
    return options


def _task(name: str) -> Task:
    try:
        return task_named(name)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join([*Task, *FOLDERS])}") from None


def chosen(cases: Sequence[Case], tasks: Sequence[Task] | None, limit: int | None) -> list[Case]:
    """The cases of these tasks, at most `limit` of each. Raises ConfigError when none is left."""
    picked: list[Case] = []
    for task in Task:
        if tasks is None or task in tasks:
            picked += [case for case in cases if case.task is task][:limit]
    if not picked:
        raise ConfigError(f"the test set has no case of {', '.join(tasks or ())}")
    return picked


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.parallel < 1 or (options.limit is not None and options.limit < 1):
        print("evaluate: --parallel and --limit are at least 1", file=sys.stderr)
        return EXIT_USAGE
    if not options.no_asr and importlib.util.find_spec("pocketsphinx") is None:
        print("evaluate: pocketsphinx is missing: install requirements-test.txt, or say --no-asr", file=sys.stderr)
        return EXIT_USAGE
    try:
        cases = chosen(read_cases(options.folder), options.task, options.limit)
        check_recordings(cases)
    except (ConfigError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return EXIT_USAGE
    if others := unannotated(options.folder):
        print(f"evaluate: {len(others)} recordings have no annotation and are left out, {others[0]}", file=sys.stderr)
    if wrong := _unwritable(options):
        print(f"evaluate: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    client = ClientOptions(
        api_key=options.api_key,
        verify_tls=not options.insecure,
        settings={"eagerness": options.eagerness} if options.eagerness else {},
    )
    try:
        with tqdm(total=len(cases), desc="conversations", mininterval=2.0) as progress:

            def count(outcome: Outcome) -> None:
                progress.set_postfix_str(outcome.case.name, refresh=False)
                progress.update()

            held = run(options.url, cases, client, parallel=options.parallel, out=options.out, on_case=count)
            evaluation = asyncio.run(held)
    except ExceptionGroup as group:
        first = group.exceptions[0]
        if not isinstance(first, (ConversationError, WavError, OSError)):
            raise
        print(f"evaluate: {first}", file=sys.stderr)
        return EXIT_FAILED
    _finish(options, evaluation)
    troubled = [outcome for outcome in evaluation.outcomes if outcome.failed or outcome.reported]
    said = [f"{o.case.name} " + (f"failed: {o.failed}" if o.failed else f"reported {o.reported}") for o in troubled]
    for one in (said, evaluation.problems):
        for line in one[:SHOWN_TROUBLES]:
            print(f"evaluate: {line}", file=sys.stderr)
        if len(one) > SHOWN_TROUBLES:
            print(f"evaluate: and {len(one) - SHOWN_TROUBLES} more", file=sys.stderr)
    return EXIT_FAILED if troubled or evaluation.problems else 0


def _unwritable(options: argparse.Namespace) -> str:
    """What of what is to be written cannot be, so that nobody finds out when all is measured; "": nothing."""
    if options.json is not None and options.json.is_dir():
        return f"{options.json} is a folder"
    for folder in (options.out, options.plots):
        if folder is not None and folder.exists() and not folder.is_dir():
            return f"{folder} is no folder"
    return ""


def _write(options: argparse.Namespace, evaluation: Evaluation) -> None:
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"url": options.url, "test_set": options.folder.name, **report(evaluation)}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _finish(options: argparse.Namespace, evaluation: Evaluation) -> None:
    """Table, JSON and plots, each of them whatever becomes of the others."""

    def tried(step: Callable[[], object]) -> None:
        try:
            step()
        except (WavError, OSError, ValueError) as error:
            evaluation.problems.append(str(error))

    def recognise() -> None:
        evaluation.figures["intelligibility"] = intelligibility(evaluation, options.folder)

    tried(lambda: _write(options, evaluation))
    if not options.no_asr:
        tried(recognise)
        tried(lambda: _write(options, evaluation))
    print(table(evaluation.figures))
    if options.plots is not None:
        tried(lambda: draw(options.plots, evaluation.outcomes, evaluation.logs))
