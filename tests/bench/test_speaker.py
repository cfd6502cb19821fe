"""The virtual loudspeaker on a turned clock."""

from __future__ import annotations

import numpy as np

from duplex.bench.speaker import VirtualSpeaker, epoch_before
from duplex.protocols.native import FLAG_FIRST, FLAG_LAST, KIND_AGENT, AudioHeader

RATE = 1000  # one sample a millisecond


def frame(pts: int, samples: int = 20, flags: int = 0, epoch: int = 0, value: int = 1000) -> bytes:
    return AudioHeader(KIND_AGENT, flags, epoch, 0, pts).pack() + np.full(samples, value, "<i2").tobytes()


def test_audio_sounds_when_it_arrives_and_not_before() -> None:
    speaker = VirtualSpeaker(RATE)
    speaker.render_until(0.1)
    speaker.push(frame(0, flags=FLAG_FIRST), 0.105)
    speaker.push(frame(20, flags=FLAG_LAST), 0.106)
    speaker.render_until(0.2)
    assert len(speaker.timeline) == 200
    assert np.flatnonzero(speaker.timeline).tolist() == list(range(105, 145))
    [reply] = speaker.replies
    assert (reply.start, reply.end, reply.interrupted) == (105, 145, False)
    assert (speaker.heard_pts, speaker.underruns) == (40, 0)


def test_a_gap_inside_a_reply_is_one_underrun() -> None:
    speaker = VirtualSpeaker(RATE)
    speaker.push(frame(0, flags=FLAG_FIRST), 0.0)
    for now in (0.02, 0.04, 0.06):
        speaker.render_until(now)
    speaker.push(frame(20), 0.06)
    speaker.push(frame(40, samples=0, flags=FLAG_LAST), 0.06)
    speaker.render_until(0.2)
    assert speaker.underruns == 1
    assert speaker.replies[0].end == 80


def test_a_cut_silences_at_once_and_old_audio_stays_out() -> None:
    speaker = VirtualSpeaker(RATE)
    speaker.push(frame(0, samples=200, flags=FLAG_FIRST), 0.0)
    speaker.cut(1, 0.05)
    speaker.push(frame(200, epoch=0), 0.06)
    speaker.push(frame(220, epoch=1, flags=FLAG_FIRST | FLAG_LAST), 0.07)
    speaker.render_until(0.1)
    assert np.flatnonzero(speaker.timeline).tolist() == [*range(50), *range(70, 90)]
    assert speaker.stale_frames == 1
    assert [(r.start, r.end, r.interrupted) for r in speaker.replies] == [(0, 50, True), (70, 90, False)]
    assert (speaker.heard_epoch, speaker.heard_pts) == (1, 240)


def test_what_a_resumed_session_sends_again_sounds_once() -> None:
    speaker = VirtualSpeaker(RATE)
    speaker.push(frame(0, flags=FLAG_FIRST), 0.0)
    speaker.push(frame(0, flags=FLAG_FIRST), 0.01)
    speaker.push(frame(10, flags=FLAG_LAST), 0.01)
    speaker.render_until(0.1)
    assert np.flatnonzero(speaker.timeline).tolist() == list(range(30))
    assert len(speaker.replies) == 1


def test_another_session_starts_its_clocks_anew() -> None:
    speaker = VirtualSpeaker(RATE)
    speaker.push(frame(0, epoch=5, flags=FLAG_FIRST), 0.0)
    speaker.render_until(0.01)
    speaker.reset(0, 0)
    speaker.push(frame(0, epoch=0, flags=FLAG_FIRST | FLAG_LAST), 0.05)
    speaker.render_until(0.1)
    assert [(r.epoch, r.interrupted) for r in speaker.replies] == [(5, True), (0, False)]


def test_epochs_compare_on_a_circle() -> None:
    assert epoch_before(65535, 0)
    assert not epoch_before(0, 65535)
    assert not epoch_before(3, 3)
