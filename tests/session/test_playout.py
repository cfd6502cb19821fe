"""Pacing and heard position, on virtual time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duplex.core.events import AgentAudio, TextDelta
from duplex.model.segmenter import Segment
from duplex.session.playout import Playout

RATE = 24000
FRAME = 960


def playout(*, virtual: bool = True, output_rate: int = RATE) -> Playout:
    return Playout(output_rate=output_rate, codec_rate=RATE, max_lead_ms=400, virtual=virtual)


def segment(text: str, first: int = 0) -> Segment:
    words = text.split()
    return Segment(text, first, len(words), torch.zeros(len(words), 1), tuple(map(len, words)))


def sound(seconds: float) -> np.ndarray:
    return np.full(int(seconds * RATE), 0.1, np.float32)


def begun(player: Playout, seconds: float = 2.0, words: str = "one two six ten") -> None:
    player.begin(1, 1)
    player.add_text(1, segment(words))
    count = len(words.split())
    spans = tuple((i, int(i * seconds * RATE / count)) for i in range(count))
    player.push(1, sound(seconds), spans)


def frames(events: list[AgentAudio | TextDelta]) -> list[AgentAudio]:
    return [event for event in events if isinstance(event, AgentAudio)]


def text(events: list[AgentAudio | TextDelta]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def test_the_first_sound_goes_out_at_once_and_the_lead_is_kept() -> None:
    player = playout()
    begun(player)
    first = frames(player.due(10.0))
    assert len(first) == 10  # 400 ms
    assert first[0].first
    assert not player.due(10.0)
    wait = player.wait_sec(10.0)
    assert wait is not None
    assert 0.03 < wait <= 0.05
    assert len(frames(player.due(10.0 + wait + 1e-4))) == 1


def test_a_first_piece_shorter_than_a_frame_is_not_held_back() -> None:
    player = playout()
    player.begin(1, 1)
    player.push(1, sound(0.01), ())
    assert len(frames(player.due(0.0))[0].pcm) == 240
    player.push(1, sound(0.01), ())
    assert player.due(0.1) == []  # later pieces wait for a whole frame


def test_words_go_with_the_sound_they_begin_in() -> None:
    player = playout()
    begun(player)
    assert text(player.due(0.0)) == "one"
    assert text(player.due(0.15)) == " two"


def test_what_is_heard_in_real_time() -> None:
    player = playout()
    begun(player)
    player.finish(1)
    now = 0.0
    events = player.due(now)
    while not player.over(now):
        assert (player.sent_pts - player.heard_pts(now)) <= 0.4 * RATE
        if 1.1 < now < 1.12:
            assert player.heard(now).tokens == 2
            assert player.heard(now).text == "one two"
        wait = player.wait_sec(now)
        assert wait is not None
        now += wait
        events += player.due(now)
    assert 1.95 < now < 2.1
    assert text(events) == "one two six ten"
    assert frames(events)[-1].last
    assert player.heard(now).tokens == 4


def test_reports_are_the_truth_and_the_brake() -> None:
    player = playout(virtual=False)
    begun(player)
    assert len(frames(player.due(0.0))) == 10
    assert not player.audible(0.5)
    assert player.due(0.5) == []  # nobody has reported anything
    player.report(0.6, 0, 4800)
    assert player.heard_pts(0.6) == 4800
    assert player.audible(0.6)
    assert len(frames(player.due(0.6))) == 5
    assert player.heard_pts(0.7) == 4800 + 2400  # carried on between reports
    assert player.heard_pts(1.4) == 4800 + 6000  # but not for long
    player.report(1.5, 0, 10**9)
    assert player.heard_pts(1.5) == player.sent_pts  # nobody has heard what was not sent


def test_a_reply_ends_for_a_client_that_stays_short_of_its_end() -> None:
    """It subtracts its output's latency, and counts nothing more once its queue is empty."""
    player = playout(virtual=False)
    begun(player, seconds=1.0)
    player.finish(1)
    latency, now = 0.3, 0.0
    while not player.over(now) and now < 10.0:
        player.due(now)
        played = min(player.sent_pts, round(now * RATE))
        queued_ms = 1000 * (player.sent_pts - played) / RATE
        player.report(now, 0, max(0, played - round(latency * RATE)), queued_ms)
        now += 0.1
    assert 1.3 < now < 2.6


def test_what_is_in_the_sound_device_does_not_count_against_the_queue() -> None:
    player = playout(virtual=False)
    begun(player, seconds=4.0)
    player.due(0.0)
    player.report(0.1, 0, 0, 400.0, output_ms=500.0)
    player.due(0.1)
    assert player.sent_pts - player.heard_pts(0.1) == pytest.approx(0.9 * RATE, abs=FRAME)
    player.report(0.2, 0, 0, 900.0, output_ms=60_000.0)
    player.due(0.2)
    assert player.sent_pts == pytest.approx(1.4 * RATE, abs=FRAME)  # not a minute


def test_a_client_that_holds_audio_and_does_not_play_it_is_believed() -> None:
    player = playout(virtual=False)
    begun(player, seconds=0.4)
    player.finish(1)
    player.due(0.0)
    for step in range(50):
        player.report(step / 10, 0, 0, 400.0)
    assert not player.over(5.0)


def test_without_reports_the_clock_stands_in() -> None:
    player = playout(virtual=False)
    begun(player)
    player.due(0.0)
    assert player.heard_pts(0.9) == 0
    assert player.heard_pts(1.1) == player.sent_pts


def let_run(player: Playout, now: float, pts: int) -> float:
    """Time passes, and nobody reports anything, until the audio before `pts` was sent; returns when that was."""
    player.due(now)
    while player.sent_pts < pts:
        wait = player.wait_sec(now)
        assert wait is not None
        now += wait
        player.due(now)
    return now


def test_who_reports_nothing_is_kept_waiting_once() -> None:
    player = playout(virtual=False)
    begun(player, 4.0)
    player.finish(1)
    now = let_run(player, 0.0, 4 * RATE)
    assert now < 5.0
    now += 1.0
    assert player.over(now)
    player.begin(2, 2)
    player.push(2, sound(2.0), ())
    assert let_run(player, now, 6 * RATE) < now + 2.0


def test_reports_that_come_again_are_believed() -> None:
    player = playout(virtual=False)
    begun(player, 8.0)
    now = let_run(player, 0.0, 2 * RATE)
    player.report(now, 0, RATE // 2)  # playback had stopped for a while
    assert player.heard_pts(now) == RATE // 2
    assert player.due(now + 0.1) == []
    player.report(now + 0.2, 0, 2 * RATE)
    assert len(frames(player.due(now + 0.2))) == 10


def test_a_cut_voids_everything_old() -> None:
    player = playout()
    begun(player)
    player.due(0.0)
    sent = player.sent_pts
    assert player.cut() == (0, 1)
    assert not player.push(1, sound(1), ())
    assert player.due(5.0) == []
    player.begin(2, 2)
    player.push(2, sound(1), ())
    frame = frames(player.due(5.0))[0]
    assert (frame.epoch, frame.pts, frame.first) == (1, sent, True)
    player.report(5.0, 0, 10**6)  # a late report of the old epoch
    assert player.heard_pts(5.0) == sent


def test_an_empty_reply_is_over_at_once() -> None:
    player = playout()
    player.begin(3, 1)
    player.finish(1)
    events = player.due(0.0)
    assert events == [TextDelta(3, "", 0, final=True)]
    assert player.over(0.0)


def test_another_output_rate() -> None:
    player = playout(output_rate=8000)
    begun(player, 1.0)
    player.finish(1)
    events = [event for tick in range(300) for event in player.due(tick / 100)]
    assert sum(len(frame.pcm) for frame in frames(events)) == 8000
    assert text(events) == "one two six ten"


def test_a_client_that_comes_back_gets_what_it_lacks() -> None:
    player = playout(virtual=False)
    begun(player)
    player.due(0.0)
    player.pause(0.1)
    assert player.due(5.0) == []
    assert player.wait_sec(5.0) is None
    player.resume(60.0, 3, 0, FRAME)
    again = frames(player.due(60.0))
    assert [frame.seq for frame in again] == list(range(4, 11))  # 10 is new
    player.pause(61.0)
    player.resume(62.0, 3, 0, 6 * FRAME)
    assert frames(player.due(62.0))[0].seq == 6  # 4 and 5 were played, whatever the client says it has


def test_no_speech_is_lost_on_a_link_that_dies_in_silence() -> None:
    player = playout(virtual=False)
    begun(player, 9.0)
    player.finish(1)
    player.due(0.0)
    player.report(0.1, 0, FRAME)
    now = let_run(player, 0.1, 9 * RATE) + 1.0
    assert player.over(now)
    player.forget()
    player.pause(now)
    player.resume(now, 5, 0, 3 * FRAME)
    pts, told = 6 * FRAME, ""
    while pts < 9 * RATE:
        heard = player.heard_pts(now)
        events = player.due(now)
        told += text(events)
        for frame in frames(events):
            assert frame.pts == pts
            pts += len(frame.pcm)
        assert pts <= heard + 0.4 * RATE  # no faster than it is played
        player.report(now, 0, pts)
    assert told == " two six ten"


def test_who_missed_a_cut_has_heard_nothing_since() -> None:
    player = playout(virtual=False)
    begun(player)
    player.due(0.0)
    player.report(0.1, 0, 2 * FRAME)
    player.cut()
    start = player.sent_pts
    player.begin(2, 2)
    player.push(2, sound(3.0), ())
    player.finish(2)
    now = let_run(player, 0.2, start + 3 * RATE)
    player.pause(now)
    player.resume(now, 9, 0, 2 * FRAME)
    assert frames(player.due(now))[0].pts == start
    assert player.heard_pts(now) == start


def test_what_may_be_sent_again_has_a_bound() -> None:
    player = playout(virtual=False)
    begun(player, 60.0)
    let_run(player, 0.0, 60 * RATE)
    player.pause(70.0)
    player.resume(70.0, -1, 0, 0)
    assert player._lacking[0].pts >= (60 - 41) * RATE
