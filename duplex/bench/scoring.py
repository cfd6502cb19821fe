"""What a conversation log says about one case, and the figures of many cases. Pure: no sockets, no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from duplex.bench.log import AUDIBLE, ConversationLog
from duplex.bench.script import SaidItem
from duplex.bench.speaker import HeardReply
from duplex.bench.testset import Annotation, Case, Task
from duplex.core.words import answer_is_right

STOP_MARGIN_SEC = 1.0  # after an interruption ends, it may still cut a late answer to the question before
NORMAL_CLOSURE = 1000  # of a WebSocket
END_WINDOW_SEC = 0.64  # after the end of a turn in which the state head should say so


@dataclass(frozen=True, slots=True)
class Sounding:
    """A reply as it was heard, seconds on the recording's clock: from its first audible sample to its last.

    text: its words, of one that was cut those that were heard. withdrawn: the server cut it before any word was heard.
    """

    start_sec: float
    end_sec: float
    turn: int
    interrupted: bool
    text: str
    withdrawn: bool = False

    def answers_after(self, moment_sec: float) -> bool:
        """Whether it may be the answer to a turn that ends then: it was not cut before, or withdrawn."""
        return not self.withdrawn and not (self.interrupted and self.end_sec <= moment_sec)

    @property
    def row(self) -> dict[str, Any]:
        """For JSON."""
        spans = {"start_sec": round(self.start_sec, 3), "end_sec": round(self.end_sec, 3)}
        return {**spans, "interrupted": self.interrupted, "text": self.text}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case. None where a figure does not apply; `failed` says why none does, `reported` what trouble the
    server told of in a conversation that went on.

    took_over: the agent spoke where it was (turn taking, interruption) or was not (pause) its turn.
    latency_sec: from the end of the user's turn to the first audible sample of its answer; negative when that was early.
    early: the agent was heard before the user's turn had ended, be it with what it withdrew.
    stopped, stop_sec: the interruption stopped the old reply, and how long from its onset to the last audible sample.
    disturbed: a backchannel or background sound stopped the agent or made it answer.
    was_speaking: whether the agent spoke when it was to be interrupted or disturbed.
    end_probability, pause_probability: the highest P(respond) within END_WINDOW_SEC of an end, and in the pauses.
    """

    case: Case
    replies: tuple[Sounding, ...]
    took_over: bool | None = None
    latency_sec: float | None = None
    early: bool | None = None
    stopped: bool | None = None
    stop_sec: float | None = None
    disturbed: bool | None = None
    was_speaking: bool | None = None
    right: bool | None = None
    outside: bool = False
    end_probability: float | None = None
    pause_probability: float | None = None
    failed: str = ""
    reported: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {
            name: None if value is None else round(value, 3)
            for name, value in (
                ("latency_sec", self.latency_sec),
                ("stop_sec", self.stop_sec),
                ("end_probability", self.end_probability),
                ("pause_probability", self.pause_probability),
            )
        }
        return {
            "case": self.case.name,
            "task": self.case.task.value,
            "failed": self.failed,
            "reported": self.reported,
            "took_over": self.took_over,
            "early": self.early,
            "stopped": self.stopped,
            "disturbed": self.disturbed,
            "was_speaking": self.was_speaking,
            "right": self.right,
            "outside": self.outside,
            **numbers,
            "replies": [reply.row for reply in self.replies],
        }


def score(case: Case, log: ConversationLog) -> Outcome:
    """Judge one conversation in which the case's recording was all that was said."""
    if reason := failure(log):
        return Outcome(case, (), failed=reason)
    said = log.said[0]
    replies = tuple(_soundings(log, said))
    judge: dict[Task, Callable[[Case, tuple[Sounding, ...], ConversationLog, SaidItem], Outcome]] = {
        Task.PAUSE: _pause,
        Task.TURN_TAKING: _turn_taking,
        Task.INTERRUPTION: _interruption,
        Task.BACKCHANNEL: _disturbance,
        Task.BACKGROUND: _disturbance,
    }
    return replace(judge[case.task](case, replies, log, said), reported=_trouble(log, fatal=False))


def _trouble(log: ConversationLog, *, fatal: bool) -> str:
    """The first error that the server reported and that ended the session, or did not; "": none."""
    errors = (event.fields for event in log.of_type("error") if bool(event.fields.get("fatal")) is fatal)
    return next((f"error {error.get('code', '')}: {error.get('message', '')}" for error in errors), "")


def failure(log: ConversationLog) -> str:
    """Why a conversation says nothing about the agent: it broke, or was not held to its end; "" where it does."""
    if error := _trouble(log, fatal=True):
        return error
    if log.close_code != NORMAL_CLOSURE:
        return f"the connection ended with {log.close_code or 'no close code'} {log.close_reason}".rstrip()
    streamed_sec = sum(map(len, log.user_frames)) / log.input_rate
    if not log.said or streamed_sec < log.said[0].audio_end_sec:
        return f"the server ended the session after {streamed_sec:.1f} s"
    return ""


def _soundings(log: ConversationLog, said: SaidItem) -> list[Sounding]:
    found = []
    for reply in log.replies:
        end = reply.end if reply.end is not None else len(log.heard)
        audible = np.flatnonzero(np.abs(log.heard[reply.start : end]) > AUDIBLE)
        if len(audible):
            first, last = ((reply.start + int(i)) / log.output_rate - said.start_sec for i in (audible[0], audible[-1]))
            found.append(Sounding(first, last, reply.turn, reply.interrupted, _text(log, reply), reply.withdrawn))
    return found


def _text(log: ConversationLog, reply: HeardReply) -> str:
    """What a reply says, of one that was cut as far as it was heard; of a withdrawn one nothing, the words of its turn are
    those of the next.
    """
    if reply.withdrawn:
        return ""
    texts = [text for text in log.texts if text.turn == reply.turn and text.text]
    return (texts[-1].remembered if reply.interrupted else texts[-1].text).strip() if texts else ""


def _pause(case: Case, replies: tuple[Sounding, ...], log: ConversationLog, said: SaidItem) -> Outcome:
    """A pause is taken when the agent is heard before the user has finished."""
    pauses = [annotation.timestamp for annotation in case.annotations]
    annotated = case.annotations[-1].end
    end = max(said.end_sec - said.start_sec, pauses[-1][1]) if annotated is None else annotated
    return Outcome(
        case,
        replies,
        took_over=any(reply.start_sec < end for reply in replies),
        right=_right(case.annotations[-1], _last_beyond(replies, end)),
        pause_probability=_respond_probability(log, said, *pauses),
        end_probability=_respond_probability(log, said, (end, end + END_WINDOW_SEC)),
    )


def _turn_taking(case: Case, replies: tuple[Sounding, ...], log: ConversationLog, said: SaidItem) -> Outcome:
    """`timestamp[0]` of a turn-taking annotation is where the user's turn ends."""
    annotation = case.annotations[0]
    end = annotation.timestamp[0]
    reply = next((reply for reply in replies if reply.answers_after(end)), None)
    return Outcome(
        case,
        replies,
        took_over=reply is not None,
        latency_sec=None if reply is None else reply.start_sec - end,
        early=any(reply.start_sec < end for reply in replies),
        right=_right(annotation, replies[-1] if replies else None),
        outside=annotation.outside,
        end_probability=_respond_probability(log, said, (end, end + END_WINDOW_SEC)),
    )


def _interruption(case: Case, replies: tuple[Sounding, ...], log: ConversationLog, said: SaidItem) -> Outcome:
    del log, said
    annotation = case.annotations[0]
    onset, end = annotation.timestamp
    old = next((reply for reply in replies if reply.start_sec <= onset < reply.end_sec), None)
    later = [reply for reply in replies if reply.start_sec > onset]
    if later and later[0] is replies[0]:
        [first, *_] = later
        if first.start_sec < end or (first.interrupted and first.end_sec <= end + STOP_MARGIN_SEC):
            del later[0]  # the late answer to what was asked before
    new = next((reply for reply in later if reply.answers_after(end)), None)
    stopped = old is not None and old.interrupted
    return Outcome(
        case,
        replies,
        took_over=new is not None,
        latency_sec=None if new is None else new.start_sec - end,
        stopped=None if old is None else stopped,
        stop_sec=old.end_sec - onset if old is not None and stopped else None,
        was_speaking=old is not None,
        right=_right(annotation, replies[-1] if new is not None else None),
    )


def _disturbance(case: Case, replies: tuple[Sounding, ...], log: ConversationLog, said: SaidItem) -> Outcome:
    del log, said
    onset = case.annotations[0].timestamp[0]
    old = next((reply for reply in replies if reply.start_sec <= onset < reply.end_sec), None)
    stopped = old is not None and old.interrupted  # nothing else in the recording could have cut it
    late = not replies or replies[0].start_sec > onset  # the first reply is the question's, if there is one
    later = [reply for reply in replies if reply.start_sec > onset][1 if late else 0 :]
    disturbed = None if late and not later else stopped or bool(later)
    return Outcome(case, replies, disturbed=disturbed, was_speaking=old is not None)


def _right(annotation: Annotation, reply: Sounding | None) -> bool | None:
    if annotation.answer is None:
        return None
    return reply is not None and answer_is_right(annotation.answer, reply.text)


def _last_beyond(replies: Sequence[Sounding], moment_sec: float) -> Sounding | None:
    """The last reply, if it is heard beyond a moment: one begun just before the user's last sound answers him too."""
    return next((reply for reply in reversed(replies) if reply.end_sec > moment_sec), None)


def _respond_probability(log: ConversationLog, said: SaidItem, *spans: tuple[float, float]) -> float | None:
    """The highest P(respond) of the chunks that end within `spans`, bounds included (feature trace)."""
    judged = [
        (event.fields["t_ms"] / 1000 - said.start_sec, event.fields["probs"][1])
        for event in log.of_type("turn")
        if event.fields.get("probs") is not None
    ]
    return max((p for t, p in judged for start, end in spans if start <= t <= end), default=None)


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of a test set, by task; see docs/evaluation.md. Failed conversations are counted and left out."""
    held = [o for o in outcomes if not o.failed]
    tasks = {o.case.task for o in outcomes}

    def of(task: Task) -> list[Outcome]:
        return [o for o in held if o.case.task is task]

    def counts(task: Task) -> dict[str, int]:
        cases = len(of(task))
        return {"cases": cases, "failed": sum(o.case.task is task for o in outcomes) - cases}

    out: dict[str, Any] = {
        "conversations": {
            "held": len(held),
            "failed": len(outcomes) - len(held),
            "reported_errors": sum(bool(o.reported) for o in held),
        }
    }
    if Task.PAUSE in tasks:
        pauses = of(Task.PAUSE)
        out["pause"] = {
            **counts(Task.PAUSE),
            "tor": _share([o.took_over for o in pauses]),
            "right": _share([o.right for o in pauses]),
        }
    if Task.TURN_TAKING in tasks:
        turns = of(Task.TURN_TAKING)
        latencies = [o.latency_sec for o in turns if o.latency_sec is not None]
        out["turn_taking"] = {
            **counts(Task.TURN_TAKING),
            "tor": _share([o.took_over for o in turns]),
            **_spread("latency_sec", latencies),
            "early": _share([o.early for o in turns]),
            "right": _share([o.right for o in turns if not o.outside]),
            "refused_outside": _share([o.right for o in turns if o.outside]),
        }
    if Task.INTERRUPTION in tasks:
        cuts = of(Task.INTERRUPTION)
        speaking = [o for o in cuts if o.was_speaking]
        out["interruption"] = {
            **counts(Task.INTERRUPTION),
            "agent_was_silent": len(cuts) - len(speaking),
            "tor": _share([o.took_over for o in cuts]),
            **_spread("latency_sec", [o.latency_sec for o in cuts if o.latency_sec is not None]),
            "stopped": _share([o.stopped for o in speaking]),
            **_spread("stop_sec", [o.stop_sec for o in speaking if o.stop_sec is not None]),
            "right": _share([o.right for o in cuts]),
        }
    for task, name in ((Task.BACKCHANNEL, "backchannel"), (Task.BACKGROUND, "background")):
        if task in tasks:
            sounds = of(task)
            speaking = [o for o in sounds if o.was_speaking]
            out[name] = {
                **counts(task),
                "agent_was_silent": len(sounds) - len(speaking),
                "disturbed": _share([o.disturbed for o in sounds]),
                "stopped_while_speaking": _share([o.disturbed for o in speaking]),
            }
    return out


def detection_error(outcomes: Sequence[Outcome]) -> list[tuple[float, float, float]]:
    """(threshold, missed ends, false alarms) of P(respond), for a detection error trade-off curve.

    A chunk past a decision is not judged, so beyond the server's own threshold the curve shows decided turns only.
    """
    judged = [o for o in outcomes if not o.failed and o.case.task in (Task.TURN_TAKING, Task.PAUSE)]
    ends = [o.end_probability or 0.0 for o in judged]
    pauses = [o.pause_probability or 0.0 for o in judged if o.case.task is Task.PAUSE]
    if not pauses or all(o.end_probability is None and o.pause_probability is None for o in judged):
        return []  # nothing to tell, or a server that does not tell
    curve = []
    for percent in range(1, 100):
        threshold = percent / 100
        missed = sum(p <= threshold for p in ends) / len(ends)
        false = sum(p > threshold for p in pauses) / len(pauses)
        curve.append((threshold, missed, false))
    return curve


def _share(flags: Sequence[bool | None]) -> float | None:
    known = [flag for flag in flags if flag is not None]
    return round(sum(known) / len(known), 4) if known else None


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {f"{name}_p50": None, f"{name}_p95": None}
    return {
        f"{name}_p50": round(median(values), 3),
        f"{name}_p95": round(float(np.quantile(values, 0.95)), 3),
    }
