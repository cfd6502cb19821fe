"""Run a test set against a live server and write what came of it."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from duplex.audio.recogniser import Recogniser, WordErrors, error_rate
from duplex.audio.wav import read_wav, write_wav
from duplex.bench.conversation import ClientOptions, ConversationRefusedError, ServerMessageError, converse
from duplex.bench.log import ConversationLog
from duplex.bench.recordings import Recording
from duplex.bench.scoring import Outcome, detection_error, figures, score
from duplex.bench.scrape import speaking_seconds
from duplex.bench.script import At, Utterance
from duplex.bench.testset import GRAMMAR_FILE, SOURCE_FOLDER, Case

SETTLE_SEC = 0.3  # silence before a recording begins
FULL = ("capacity", "503")  # what a server that has no room now refuses with
FULL_SEC = 60.0  # for so long, once it has let one in, it is asked again
ASK_AGAIN_SEC = 2.0


@dataclass
class Evaluation:
    """What came of a test set: outcomes in the order of the cases, and the logs of the conversations. `problems`: what could
    not be written.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    logs: list[ConversationLog] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def run(
    url: str,
    cases: Sequence[Case],
    options: ClientOptions,
    *,
    parallel: int = 1,
    out: Path | None = None,
    on_case: Callable[[Outcome], None] = lambda outcome: None,
) -> Evaluation:
    """Hold one conversation a case, `parallel` at a time; with `out`, write `out/{case}/output.wav`, time-aligned.

    A conversation that breaks or is refused is an outcome that failed, a full server is asked again for a while; as long
    as none was let in, a refusal ends the run. Raises ConversationRefusedError, WavError, OSError; conversations under way
    are hung up then.
    """
    slots = asyncio.Semaphore(parallel)
    before = speaking_seconds(url, verify_tls=options.verify_tls)
    evaluation = Evaluation()
    let_in = False

    def note() -> None:
        nonlocal let_in
        let_in = True

    async def talk(recording: Recording) -> ConversationLog:
        """One conversation; while the server is full, another try now and then."""
        script = [Utterance(recording, At(SETTLE_SEC))]
        give_up = asyncio.get_running_loop().time() + FULL_SEC
        while True:
            try:
                return await converse(url, script, replace(options, trace=True, on_ready=note))
            except ConversationRefusedError as error:
                full = let_in and error.code in FULL
                if not full or asyncio.get_running_loop().time() >= give_up:
                    raise
            await asyncio.sleep(ASK_AGAIN_SEC)

    async def hold(case: Case) -> tuple[Outcome, ConversationLog]:
        async with slots:
            recording = case.microphone()
            try:
                log = await talk(recording)
                outcome = score(case, log)
            except (ConversationRefusedError, ServerMessageError) as error:
                if not let_in:
                    raise
                log = ConversationLog(options.input_rate or recording.rate, options.output_rate)
                outcome = Outcome(case, (), failed=str(error))
        if out is not None and log.said:
            try:
                await asyncio.to_thread(write_output, out / case.name, log, outcome)
            except OSError as error:
                evaluation.problems.append(str(error))
        on_case(outcome)
        return outcome, log

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(case)) for case in cases]
    results = [task.result() for task in tasks]
    evaluation.outcomes = [outcome for outcome, _ in results]
    evaluation.logs = [log for _, log in results]
    evaluation.figures = figures(evaluation.outcomes)
    evaluation.figures["speed"] = _speed(evaluation.logs, before, speaking_seconds(url, verify_tls=options.verify_tls))
    return evaluation


def intelligibility(evaluation: Evaluation, root: Path) -> dict[str, Any]:
    """Word error of the replies that were heard to their end, of the source voice in the test set's folder, and of
    both where they say the same.

    Raises WavError, OSError, ValueError: the grammar or the source voice is not as it should be.
    """
    grammar = root / GRAMMAR_FILE
    sentences = grammar.read_text(encoding="utf-8").splitlines() if grammar.is_file() else []
    recogniser = Recogniser(sentences)
    spoken = []
    for outcome, log in zip(evaluation.outcomes, evaluation.logs, strict=True):
        if outcome.failed:
            continue
        offset = log.said[0].start_sec
        for reply in outcome.replies:
            if not reply.interrupted and reply.text:
                first, last = (round((t + offset) * log.output_rate) for t in (reply.start_sec, reply.end_sec))
                spoken.append((reply.text, log.heard[first:last], log.output_rate))
    source = {
        text.read_text(encoding="utf-8"): read_wav(text.with_suffix(".wav"))
        for text in sorted((root / SOURCE_FOLDER).glob("*.txt"))
    }
    of_replies = recogniser.word_errors(spoken)
    of_source = dict(zip(source, recogniser.word_errors((text, *clip) for text, clip in source.items()), strict=True))
    by_text: dict[str, list[WordErrors]] = {}  # of the replies that the source voice says too
    for (text, *_), counts in zip(spoken, of_replies, strict=True):
        if text in of_source:
            by_text.setdefault(text, []).append(counts)
    both = [(counts, of_source[text]) for text, said in by_text.items() for counts in said]
    once = [(statistics.fmean(wrong for wrong, _ in said), said[0][1]) for said in by_text.values()]
    return {
        "replies": len(spoken),
        "word_error": error_rate(of_replies),
        "source_voice_word_error": error_rate(of_source.values()),
        "same_texts": len(both),
        "same_texts_word_error": error_rate(agent for agent, _ in both),
        "same_texts_source_voice": error_rate(voice for _, voice in both),
        "distinct_texts": len(once),
        "distinct_texts_word_error": error_rate(once),
        "distinct_texts_source_voice": error_rate(of_source[text] for text in by_text),
        "grammar_sentences": len(sentences),
    }


def write_output(folder: Path, log: ConversationLog, outcome: Outcome) -> None:
    """output.wav on the clock of input.wav, and outcome.json."""
    folder.mkdir(parents=True, exist_ok=True)
    first = round(log.said[0].start_sec * log.output_rate)
    write_wav(folder / "output.wav", log.heard[first:], log.output_rate)
    (folder / "outcome.json").write_text(json.dumps(outcome.row, indent=1), encoding="utf-8")


def _speed(logs: Sequence[ConversationLog], before: float | None, after: float | None) -> dict[str, Any]:
    audio_sec = sum(sum(frame.samples for frame in log.frames) / log.output_rate for log in logs)
    measured = [event.fields.get("first_audio_ms") for log in logs for event in log.of_type("metrics")]
    first = [value for value in measured if value is not None]
    work_sec = None if before is None or after is None else after - before
    return {
        "first_audio_ms_p50": round(median(first), 1) if first else None,
        "real_time_factor": None if work_sec is None or not audio_sec else round(work_sec / audio_sec, 4),
        "agent_audio_sec": round(audio_sec, 1),
        "underruns": sum(log.underruns for log in logs),
        "skipped_ms": sum(event.fields.get("skipped_ms", 0) for log in logs for event in log.of_type("overload")),
    }


def report(evaluation: Evaluation) -> dict[str, Any]:
    """Everything for JSON."""
    return {
        **evaluation.figures,
        "detection_error": [
            {"threshold": t, "missed": round(m, 4), "false_alarms": round(f, 4)}
            for t, m, f in detection_error(evaluation.outcomes)
        ],
        "cases": [outcome.row for outcome in evaluation.outcomes],
    }


def table(all_figures: dict[str, Any]) -> str:
    """The figures as lines: group, figure, value."""
    lines = []
    for group, values in all_figures.items():
        for name, value in values.items():
            shown = "–" if value is None else str(value)
            lines.append(f"{group:<16}{name:<28}{shown:>10}")
    return "\n".join(lines)
