"""When a sound over the agent counts as an interruption, from probabilities made by hand."""

import pytest

from duplex.train.barge_in import Judged, row

CHUNK = 0.16


def judged(*chunks: tuple[float, float], start: float = 0.3, end: float = 0.9) -> Judged:
    """P(ignore) and P(taking the floor) of the chunks that end at 0.32, 0.48, 0.64, ..."""
    return Judged(start, end, [((number + 2) * CHUNK, *both) for number, both in enumerate(chunks)])


def test_the_first_chunk_with_enough_speech_may_tell() -> None:
    sure = judged((0.0, 0.9), (0.0, 0.9), (0.0, 0.9))
    assert sure.told_after(0.5) == pytest.approx(0.64 - 0.3)  # of the chunk before it, 180 ms are speech
    assert sure.told_after(0.95) is None
    assert judged((0.0, 0.1), (0.0, 0.1), (0.0, 0.4), (0.0, 0.6)).told_after(0.5) == pytest.approx(0.8 - 0.3)


def test_what_was_ignored_interrupts_no_more() -> None:
    assert judged((0.9, 0.1), (0.9, 0.1), (0.9, 0.1), (0.9, 0.1), (0.9, 0.9), end=0.6).told_after(0.5) is None
    assert judged((0.9, 0.1), (0.9, 0.1), (0.9, 0.9), end=0.7).told_after(0.5) is not None  # it is still heard


def test_a_line_of_the_table_holds_shares_and_the_median_time() -> None:
    told, untold = judged((0.0, 0.0), (0.0, 0.0), (0.0, 0.9)), judged((0.0, 0.1), (0.0, 0.2))
    table = {"barge_in": [told, told], "backchannel": [told, untold], "noise": [untold], "background_speech": [untold]}
    assert row(table, 0.5) == "0.50 | 1.000 | 0.340 | 0.500 | 0.000 | 0.000"
    assert row({**table, "barge_in": [untold]}, 0.5).startswith("0.50 | 0.000 | - | ")
