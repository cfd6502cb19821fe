"""Conversation logs for people and for scripts: event lines, latencies, medians."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from duplex.bench.log import ConversationLog, Event, p50
from duplex.bench.script import Typed

_UNINTERESTING = frozenset({"turn", "pong"})


def event_line(event: Event, *, as_json: bool, trace: bool = False) -> str | None:
    """An event as a line of text or a JSON object; None for what nobody wants to read."""
    if event.type in _UNINTERESTING and not trace:
        return None
    if as_json:
        return json.dumps({"t": round(event.t_sec, 3), "type": event.type, **event.fields}, ensure_ascii=False)
    fields = "  ".join(f"{key}={_short(value)}" for key, value in event.fields.items())
    return f"{event.t_sec:9.3f}  {event.type:<10}  {fields}".rstrip()


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | dict | list) else str(value)


def summary(logs: Sequence[ConversationLog]) -> dict[str, Any]:
    """Latencies in milliseconds over conversations, with medians over spoken turns; `null` where there was no answer."""
    turns = [
        {
            "run": run,
            "item": answer.item,
            "kind": "typed" if isinstance(log.said[answer.item].item, Typed) else "spoken",
            "turn": answer.turn,
            "first_sample_ms": _rounded(answer.first_sample_ms),
            "audible_ms": _rounded(answer.audible_ms),
        }
        for run, log in enumerate(logs)
        for answer in log.answers()
    ]
    interruptions = [
        {
            "run": run,
            "item": cut.item,
            "turn": cut.turn,
            "last_sent_ms": _rounded(cut.last_sent_ms),
            "last_heard_ms": _rounded(cut.last_heard_ms),
        }
        for run, log in enumerate(logs)
        for cut in log.interruptions()
    ]
    spoken = [turn for turn in turns if turn["kind"] == "spoken"]
    return {
        "type": "summary",
        "texts": [log.reply_texts for log in logs],
        "turns": turns,
        "interruptions": interruptions,
        "p50_first_sample_ms": _median(spoken, "first_sample_ms"),
        "p50_audible_ms": _median(spoken, "audible_ms"),
        "p50_last_sent_ms": _median(interruptions, "last_sent_ms"),
        "p50_last_heard_ms": _median(interruptions, "last_heard_ms"),
        "unanswered": sum(turn["turn"] is None for turn in turns),
        "underruns": sum(log.underruns for log in logs),
        "stale_frames": sum(log.stale_frames for log in logs),
        "close_codes": [log.close_code for log in logs],
    }


def summary_text(report: dict[str, Any]) -> str:
    """The summary as a table."""
    lines = [f"run {run + 1}  agent: {text}" for run, texts in enumerate(report["texts"]) for text in texts]
    if report["turns"]:
        lines += ["", _row("user's last sample to the reply's", "first sample", "audible sample")]
        lines += [_row(_label(turn), turn["first_sample_ms"], turn["audible_ms"]) for turn in report["turns"]]
        lines.append(_row("  p50 of the spoken ones", report["p50_first_sample_ms"], report["p50_audible_ms"]))
    if report["interruptions"]:
        lines += ["", _row("user's onset to the old reply's", "last sent", "last heard")]
        lines += [_row(_label(cut), cut["last_sent_ms"], cut["last_heard_ms"]) for cut in report["interruptions"]]
        lines.append(_row("  p50", report["p50_last_sent_ms"], report["p50_last_heard_ms"]))
    faults = {name: report[name] for name in ("unanswered", "underruns", "stale_frames") if report[name]}
    lines += ["", *(f"{name.replace('_', ' ')}: {count}" for name, count in faults.items())] if faults else []
    return "\n".join(lines)


def _label(row: dict[str, Any]) -> str:
    kind = f" ({row['kind']})" if "kind" in row else ""
    return f"  run {row['run'] + 1}, item {row['item'] + 1}{kind}"


def _row(label: str, *cells: str | float | None) -> str:
    return f"{label:<36}" + "".join(f"{_cell(cell):>16}" for cell in cells)


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None else f"{value:.0f} ms"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _median(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    return _rounded(p50([row[key] for row in rows if row[key] is not None]))
