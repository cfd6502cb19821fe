"""`bin/bench.py`: calls join a live server one after the other until all are there or it refuses one; what each of them
waits for its answers, by how many calls there were.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from duplex.audio.wav import WavError
from duplex.bench.conversation import ClientOptions, ConversationError, ConversationRefusedError, converse
from duplex.bench.log import ConversationLog
from duplex.bench.plots import draw_load
from duplex.bench.recordings import Recording, check_rate
from duplex.bench.scrape import Samples, scrape
from duplex.bench.script import AfterReply, At, Utterance
from duplex.core.errors import ConfigError

EXIT_FAILED = 1
EXIT_USAGE = 2
FIRST_AT_SEC = 0.5  # of a call: its first question
NORMAL_CLOSURE = 1000
ROWS = 8  # of the table, at most
LOOK_SEC = 0.1  # how often the client looks at how late itself is


@dataclass(frozen=True)
class Plan:
    """How many calls join, one every `every_sec`; how long all stay once the last has joined or one was refused; and how
    long each keeps quiet between an answer and its next question.
    """

    calls: int
    every_sec: float
    hold_sec: float
    pause_sec: float

    @property
    def longest_sec(self) -> float:
        """How long the first call lasts at most."""
        return self.calls * self.every_sec + self.hold_sec


@dataclass(frozen=True)
class Waited:
    """One question: when its last sample was spoken, in seconds since the first call, how many calls there were then, and
    how long after it the answer began; None: it never came.
    """

    at_sec: float
    calls: int
    latency_sec: float | None


@dataclass
class Load:
    """What came of all calls. `refused`: what the first call that was not let in was told, "" where all were.

    `late_ms`: how late the client itself was, many times a second; what it measures is no better than that.
    """

    joined_sec: list[float] = field(default_factory=list)
    logs: list[ConversationLog] = field(default_factory=list)  # of the calls in the order in which they joined
    refused: str = ""
    ended_sec: float = 0.0
    late_ms: list[float] = field(default_factory=list)

    def waited(self, reply_timeout_sec: float) -> list[Waited]:
        """Every question, in order of time, but those whose answer may still have been to come when the call ended."""
        found = []
        for joined, log in zip(self.joined_sec, self.logs, strict=True):
            for answer in log.answers():
                at = joined + log.said[answer.item].end_sec
                latency = None if answer.first_sample_ms is None else answer.first_sample_ms / 1000
                if latency is not None or at + reply_timeout_sec <= self.ended_sec:
                    calls = sum(other <= at for other in self.joined_sec)
                    found.append(Waited(at, calls, latency))
        return sorted(found, key=lambda one: one.at_sec)


async def load(
    url: str,
    questions: Sequence[Recording],
    plan: Plan,
    options: ClientOptions,
    on_call: Callable[[], None] = lambda: None,
) -> Load:
    """Hold the calls. The first one not let in ends the joining, not the others' calls.

    Raises ConversationRefusedError when it is the very first, ServerMessageError, OSError.
    """
    clock = asyncio.get_running_loop().time
    began, over = clock(), asyncio.Event()
    came = Load()
    options = replace(options, keep_audio=False, is_over=over.is_set, limit_sec=plan.longest_sec + options.limit_sec)

    async def call(number: int, settled: asyncio.Event) -> ConversationLog | None:
        """One call; None: it was not let in."""

        def joined() -> None:
            if not settled.is_set():  # and not again by a connection that is resumed
                came.joined_sec.append(clock() - began)
                on_call()
                settled.set()

        first = number % len(questions)
        rounds = itertools.chain(questions[first:], itertools.cycle(questions))
        often = 2 + int(plan.longest_sec / (FIRST_AT_SEC + plan.pause_sec))
        script = [
            Utterance(question, AfterReply(plan.pause_sec) if index else At(FIRST_AT_SEC))
            for index, question in enumerate(itertools.islice(rounds, often))
        ]
        try:
            return await converse(url, script, replace(options, on_ready=joined))
        except ConversationRefusedError as error:
            if number == 0:
                raise
            came.refused = came.refused or str(error)
            settled.set()
            return None

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch_lateness(came.late_ms))
        calls = []
        for number in range(plan.calls):
            settled = asyncio.Event()
            calls.append(group.create_task(call(number, settled)))
            await settled.wait()
            if came.refused:
                break
            await asyncio.sleep(max(0.0, began + (number + 1) * plan.every_sec - clock()))
        await asyncio.sleep(plan.hold_sec)
        came.ended_sec = clock() - began
        over.set()
        logs = [await one for one in calls]
        watching.cancel()
    came.logs = [log for log in logs if log is not None]
    return came


async def _watch_lateness(late_ms: list[float]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + LOOK_SEC
        await asyncio.sleep(LOOK_SEC)
        late_ms.append(1000 * (clock() - due))


def rows_of(waited: Sequence[Waited]) -> list[dict[str, Any]]:
    """The questions by how many calls there were, in up to ROWS groups: counts and waiting times."""
    if not waited:
        return []
    most = max(one.calls for one in waited)
    width = -(-most // ROWS)
    rows = []
    for first in range(1, most + 1, width):
        group = [one for one in waited if first <= one.calls < first + width]
        if not group:
            continue
        latencies = [one.latency_sec for one in group if one.latency_sec is not None]
        rows.append(
            {
                "calls": [first, min(first + width - 1, most)],
                "questions": len(group),
                "unanswered": len(group) - len(latencies),
                "latency_sec_p50": _percentile(latencies, 50),
                "latency_sec_p95": _percentile(latencies, 95),
            }
        )
    return rows


def report(came: Load, reply_timeout_sec: float, before: Samples | None, after: Samples | None) -> dict[str, Any]:
    """All figures, for JSON and `table`."""
    return {
        "calls_let_in": len(came.joined_sec),
        "refused": came.refused or None,
        "calls_broken": sum(log.close_code != NORMAL_CLOSURE for log in came.logs),
        "underruns": sum(log.underruns for log in came.logs),
        "skipped_ms": sum(event.fields["skipped_ms"] for log in came.logs for event in log.of_type("overload")),
        "late_steps": _late_steps(before, after),
        "client_late_ms_p95": _percentile(came.late_ms, 95),
        "rows": rows_of(came.waited(reply_timeout_sec)),
    }


def _late_steps(before: Samples | None, after: Samples | None) -> dict[str, float]:
    """Of every kind of step the share that ended after it was due, meanwhile, by the server's own count."""
    if before is None or after is None:
        return {}

    def meanwhile(name: str, kind: str) -> float:
        return after.get((name, kind), 0.0) - before.get((name, kind), 0.0)

    done = {kind: meanwhile(name, kind) for name, kind in after if name == "duplex_batch_size_sum"}
    return {
        kind: round(meanwhile("duplex_deadline_misses_total", kind) / steps, 4)
        for kind, steps in sorted(done.items())
        if steps
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as lines."""
    lines = [f"{'calls':>9}{'questions':>11}{'unanswered':>12}{'latency p50':>13}{'p95':>9}"]
    for row in figures["rows"]:
        first, last = row["calls"]
        calls = f"{first}" if first == last else f"{first}-{last}"
        p50, p95 = (_seconds(row[name]) for name in ("latency_sec_p50", "latency_sec_p95"))
        lines.append(f"{calls:>9}{row['questions']:>11}{row['unanswered']:>12}{p50:>13}{p95:>9}")
    late = "  ".join(f"{kind} {share:.1%}" for kind, share in figures["late_steps"].items()) or "–"
    lines += ["", f"{'calls let in':<20}{figures['calls_let_in']}"]
    lines += [f"{'refused':<20}{figures['refused']}"] if figures["refused"] else []
    lines += [f"{name.replace('_', ' '):<20}{figures[name]}" for name in ("calls_broken", "underruns", "skipped_ms")]
    lines += [f"{'late steps':<20}{late}", f"{'client late, p95':<20}{figures['client_late_ms_p95'] or 0:.0f} ms"]
    return "\n".join(lines)


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="bench.py",
        description="Let calls join a server one after the other, and measure how soon each is answered. Every call asks "
        "the recordings in turn, over and over.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("questions", type=Path, nargs="+", metavar="WAV", help="what is asked: 8 to 48 kHz, PCM or float")
    add("--url", default="ws://127.0.0.1:8765", help="the server (%(default)s)")
    add("--calls", type=int, default=20, metavar="N", help="join, unless one is refused (%(default)s)")
    add("--every", type=float, default=1.0, metavar="SEC", help="one joins (%(default)s)")
    add("--hold", type=float, default=20.0, metavar="SEC", help="all stay on then (%(default)s)")
    add("--pause", type=float, default=4.0, metavar="SEC", help="from an answer to the next question (%(default)s)")
    add("--reply-timeout", type=float, default=10.0, metavar="SEC", help="how long to wait for one (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all figures and every question's")
    add("--plot", type=Path, metavar="PNG", help="draw the latency over the calls")
    add("--api-key", metavar="KEY")
    add("--insecure", action="store_true", help="accept any TLS certificate")
    return options


def _wrong(options: argparse.Namespace) -> str | None:
    if options.calls < 1:
        return "--calls is at least 1"
    for name in ("every", "hold", "pause", "reply_timeout"):
        if not 0 <= getattr(options, name) < float("inf"):
            return f"--{name.replace('_', '-')} is a number of seconds"
    return None


def _read(paths: Sequence[Path]) -> list[Recording]:
    """Raises WavError, ConfigError, OSError."""
    questions = [Recording.read(path) for path in paths]
    for question, path in zip(questions, paths, strict=True):
        check_rate(question.rate, path)
        if question.end == 0:
            raise ConfigError(f"{path} holds no speech")
    return questions


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 when no call broke."""
    options = parser().parse_args(arguments)
    try:
        if wrong := _wrong(options):
            raise ConfigError(wrong)
        questions = _read(options.questions)
    except (WavError, ConfigError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE
    client = ClientOptions(
        api_key=options.api_key, verify_tls=not options.insecure, reply_timeout_sec=options.reply_timeout
    )
    plan = Plan(options.calls, options.every, options.hold, options.pause)
    before = scrape(options.url, verify_tls=client.verify_tls)
    try:
        with tqdm(total=plan.calls, desc="calls", mininterval=2.0) as progress:

            def count() -> None:
                progress.update()

            came = asyncio.run(load(options.url, questions, plan, client, count))
    except ExceptionGroup as group:
        first = group.exceptions[0]
        if not isinstance(first, (ConversationError, OSError)):
            raise
        print(f"bench: {first}", file=sys.stderr)
        return EXIT_FAILED
    figures = report(came, client.reply_timeout_sec, before, scrape(options.url, verify_tls=client.verify_tls))
    print(table(figures))
    try:
        _write(options, figures, came.waited(client.reply_timeout_sec))
    except OSError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_FAILED if figures["calls_broken"] else 0


def _write(options: argparse.Namespace, figures: dict[str, Any], waited: Sequence[Waited]) -> None:
    """The files asked for. Raises OSError."""
    for path in (options.json, options.plot):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.json is not None:
        every = [[round(one.at_sec, 3), one.calls, one.latency_sec] for one in waited]
        options.json.write_text(json.dumps({"url": options.url, **figures, "questions": every}, indent=1))
    if options.plot is not None:
        draw_load(options.plot, [(one.calls, one.latency_sec) for one in waited])
