"""PNG plots of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duplex.bench.log import ConversationLog
from duplex.bench.scoring import Outcome, detection_error
from duplex.bench.testset import Task


def draw(folder: Path, outcomes: Sequence[Outcome], logs: Sequence[ConversationLog]) -> list[Path]:
    """Write timeline.png, latency.png and det.png, those there is something to show in; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    held = [i for i, outcome in enumerate(outcomes) if not outcome.failed]
    if not held:
        return []
    order = (Task.INTERRUPTION, Task.PAUSE, Task.TURN_TAKING, Task.BACKCHANNEL, Task.BACKGROUND)
    example = min(held, key=lambda i: (order.index(outcomes[i].case.task), not outcomes[i].took_over))
    written = [_timeline(folder / "timeline.png", outcomes[example], logs[example])]
    latencies = [o.latency_sec for o in outcomes if o.case.task is Task.TURN_TAKING and o.latency_sec is not None]
    if latencies:
        written.append(_latency(folder / "latency.png", latencies))
    if curve := detection_error(outcomes):
        written.append(_det(folder / "det.png", curve))
    return written


def draw_load(path: Path, waited: Sequence[tuple[int, float | None]]) -> Path:
    """Write the waiting times, seconds, of questions over how many calls there were; those never answered at the top."""
    figure, axes = _figure(6, 3.5)
    axis = axes[0, 0]
    answered = [(calls, latency) for calls, latency in waited if latency is not None]
    never = [calls for calls, latency in waited if latency is None]
    axis.plot([calls for calls, _ in answered], [latency for _, latency in answered], ".", markersize=3)
    if never:
        top = max((latency for _, latency in answered), default=1.0)
        axis.plot(never, [top] * len(never), "x", color="tab:red", label="never answered")
        axis.legend()
    axis.set_xlabel("calls")
    axis.set_ylabel("end of a question to its answer, s")
    axis.set_ylim(bottom=0)
    return _save(figure, path)


def _figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt.subplots(rows, 1, figsize=(width, height), sharex=True, squeeze=False)


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _timeline(path: Path, outcome: Outcome, log: ConversationLog) -> Path:
    """Both voices and the state head's verdicts over one conversation."""
    figure, axes = _figure(9, 5, 3)
    start = log.said[0].start_sec
    for axis, pcm, rate, name in (
        (axes[0, 0], log.user, log.input_rate, "user"),
        (axes[1, 0], log.heard, log.output_rate, "agent"),
    ):
        axis.plot(np.arange(len(pcm)) / rate - start, pcm, linewidth=0.4)
        axis.set_ylabel(name)
        axis.set_ylim(-1, 1)
    for annotation in outcome.case.annotations:
        for axis in axes[:, 0]:
            axis.axvspan(*annotation.timestamp, color="tab:orange", alpha=0.2)
    judged = [event for event in log.of_type("turn") if event.fields.get("probs") is not None]
    times = [event.fields["t_ms"] / 1000 - start for event in judged]
    for index, name in enumerate(("continue", "respond", "ignore")):
        axes[2, 0].plot(times, [event.fields["probs"][index] for event in judged], ".-", label=name, linewidth=0.8)
    axes[2, 0].set_ylabel("P(state)")
    axes[2, 0].set_xlabel("seconds on the recording's clock")
    axes[2, 0].legend(loc="upper right", fontsize=8)
    axes[0, 0].set_title(f"{outcome.case.name} ({outcome.case.task.value})")
    return _save(figure, path)


def _latency(path: Path, latencies: Sequence[float]) -> Path:
    figure, axes = _figure(6, 3.5)
    axis = axes[0, 0]
    axis.hist(latencies, bins=np.arange(min(-0.5, *latencies), max(1.5, *latencies) + 0.05, 0.05))
    axis.axvline(float(np.median(latencies)), color="tab:red", label=f"median {np.median(latencies):.2f} s")
    axis.set_xlabel("end of the user's turn to the first audible sample, s (negative: early)")
    axis.set_ylabel("turns")
    axis.legend()
    return _save(figure, path)


def _det(path: Path, curve: Sequence[tuple[float, float, float]]) -> Path:
    figure, axes = _figure(5, 4.5)
    axis = axes[0, 0]
    axis.plot([100 * false for _, _, false in curve], [100 * missed for _, missed, _ in curve], "-")
    for threshold, missed, false in curve:
        if round(100 * threshold) in (10, 35, 50, 70, 90):
            axis.plot(100 * false, 100 * missed, "o", color="tab:red", markersize=4)
            axis.annotate(f"{threshold:.2f}", (100 * false, 100 * missed), textcoords="offset points", xytext=(4, 4))
    axis.set_xlabel("pauses with P(respond) above it, %")
    axis.set_ylabel("ends without, within 640 ms, %")
    axis.set_title("P(respond) over thresholds")
    axis.grid(alpha=0.3)
    return _save(figure, path)
