"""The native protocol without a socket."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from duplex.core.config import SessionConfig, SessionPatch
from duplex.core.events import (
    AgentAudio,
    ClientBye,
    Cut,
    CutReason,
    ErrorEvent,
    Hello,
    Interrupt,
    MicAudio,
    Ping,
    Played,
    Ready,
    Resume,
    Say,
    SayRole,
    TextDelta,
    Update,
)
from duplex.protocols.native import FLAG_DISCONT, KIND_MIC, AudioHeader, NativeProtocol


def greeted() -> NativeProtocol:
    protocol = NativeProtocol(max_message_bytes=1 << 20)
    assert isinstance(protocol.receive('{"type": "hello"}'), Hello)
    return protocol


def mic(pts: int, samples: int = 320, flags: int = 0) -> bytes:
    return AudioHeader(KIND_MIC, flags, 0, 0, pts).pack() + bytes(2 * samples)


def test_hello_with_everything() -> None:
    protocol = NativeProtocol(max_message_bytes=1 << 20)
    hello = protocol.receive(
        json.dumps(
            {
                "type": "hello",
                "v": 1,
                "features": ["trace", "metrics", "smell"],
                "input": {"rate": 48000, "frame_ms": 20},
                "output": {"rate": 16000},
                "playback": "virtual",
                "session": {"instructions": "Hi.", "voice": "x", "tools": [], "sampling": {"seed": 7}},
                "resume": {"token": "t", "last_seq": 9, "played": {"epoch": 2, "pts": 77}},
            }
        )
    )
    assert isinstance(hello, Hello)
    assert (hello.input_rate, hello.output_rate, hello.virtual_playback) == (48000, 16000, True)
    assert hello.features == {"trace", "metrics"}
    assert hello.resume == Resume("t", 9, 2, 77)
    assert hello.session.sampling is not None
    assert hello.session.sampling.seed == 7


def test_rates_have_defaults_beside_what_else_is_said() -> None:
    hello = NativeProtocol(max_message_bytes=1 << 20).receive(
        '{"type": "hello", "input": {"frame_ms": 20}, "output": {}, "resume": {"token": "t", "played": {"epoch": 0, "pts": -3}}}'
    )
    assert isinstance(hello, Hello)
    assert (hello.input_rate, hello.output_rate) == (16000, 24000)
    assert hello.resume == Resume("t", -1, 0, 0)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"type": "played", "epoch": 1, "pts": 5, "queued_ms": 3.5}, Played(1, 5, 3.5, 0)),
        ({"type": "played", "epoch": 1, "pts": -7}, Played(1, 0)),
        ({"type": "played", "epoch": 1, "pts": -0.4}, Played(1, 0)),
        ({"type": "played", "epoch": 1, "pts": 99.6}, Played(1, 100)),
        ({"type": "interrupt", "epoch": 4}, Interrupt(4)),
        ({"type": "interrupt"}, Interrupt(None)),
        ({"type": "say", "text": "x"}, Say("x")),
        ({"type": "say", "text": "x", "role": "agent", "extra": 1}, Say("x", SayRole.AGENT)),
        ({"type": "ping", "t": 1.5}, Ping(1.5)),
        ({"type": "ping", "t": 17}, Ping(17)),
        ({"type": "ping", "t": "x" * 64}, Ping("x" * 64)),
        ({"type": "update", "id": "u", "session": {}}, Update(SessionPatch(), "u")),
        ({"type": "bye"}, ClientBye("")),
    ],
)
def test_messages_become_events(message: dict[str, object], event: object) -> None:
    assert greeted().receive(json.dumps(message)) == event


def test_update_becomes_a_patch() -> None:
    update = greeted().receive('{"type": "update", "session": {"eagerness": "high"}}')
    assert isinstance(update, Update)
    assert SessionConfig().patched(update.patch).eagerness == "high"


def test_errors_name_the_field_and_not_what_the_user_sent() -> None:
    error = greeted().receive('{"type": "say", "text": 5, "id": "q7"}')
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.ref, error.fatal) == ("bad_message", "q7", False)
    assert "text" in error.message
    secret = greeted().receive('{"type": "say", "text": "secret", "role": "secret"}')
    assert isinstance(secret, ErrorEvent)
    assert "secret" not in secret.message


def test_agent_audio_on_the_wire() -> None:
    frame = greeted().encode(AgentAudio(np.array([0.5, -1.0], np.float32), 3, 9, 2**40, first=True, last=True))
    assert isinstance(frame, bytes)
    assert struct.unpack("<BBHIQ", frame[:16]) == (2, 3, 3, 9, 2**40)
    assert struct.unpack("<2h", frame[16:]) == (16384, -32768)


def test_gaps_repeats_and_overlaps_of_the_microphone() -> None:
    protocol = greeted()

    def take(frame: bytes) -> tuple[int, int] | None:
        event = protocol.receive(frame)
        if event is None:
            return None
        assert isinstance(event, MicAudio)
        return len(event.pcm), event.missing

    assert take(mic(1000)) == (320, 0)
    assert take(mic(1320)) == (320, 0)
    assert take(mic(1740)) == (320, 100)
    assert take(mic(1740)) is None
    assert take(mic(1960)) == (220, 0)
    assert take(mic(0)) is None
    assert take(mic(2280, flags=FLAG_DISCONT)) == (320, 0)


def test_a_microphone_clock_that_starts_anew_is_followed() -> None:
    protocol = greeted()
    protocol.receive(mic(100_000))
    assert isinstance(protocol.receive(mic(0)), MicAudio)
    assert isinstance(protocol.receive(mic(320)), MicAudio)


@pytest.mark.parametrize("step", [0, 20, 20_000], ids=["none", "milliseconds", "microseconds"])
def test_a_clock_that_does_not_count_samples_is_told_and_not_believed(step: int) -> None:
    protocol = greeted()
    events = [protocol.receive(mic(step * number)) for number in range(100)]
    errors = [event for event in events if isinstance(event, ErrorEvent)]
    assert [error.code for error in errors] == ["bad_audio"]
    assert "rise by the samples" in errors[0].message
    late = events[-80:]
    assert all(isinstance(event, MicAudio) and len(event.pcm) == 320 and not event.missing for event in late)


def test_a_microphone_that_loses_frames_now_and_then_is_believed() -> None:
    protocol = greeted()
    starts = [320 * (number + number // 3) for number in range(60)]  # every fourth is lost
    events = [protocol.receive(mic(start)) for start in starts]
    taken = [event for event in events if isinstance(event, MicAudio)]
    assert len(taken) == 60
    assert sum(event.missing for event in taken) == 320 * 19


def test_a_resumed_microphone_goes_on_counting() -> None:
    protocol = greeted()
    ready = Ready("s", "t", 30, True, 16000, 24000, 0, 0, 640, 400, (), SessionConfig(), 1 << 20, 300)
    assert json.loads(protocol.encode(ready))["mic_pts"] == 640
    event = protocol.receive(mic(960))
    assert isinstance(event, MicAudio)
    assert event.missing == 320


def test_events_become_messages() -> None:
    protocol = greeted()
    assert json.loads(protocol.encode(Cut(1, 2, 50, "so", 3, CutReason.USER))) == {
        "type": "cut",
        "old_epoch": 1,
        "new_epoch": 2,
        "heard_pts": 50,
        "heard_text": "so",
        "turn": 3,
        "reason": "user",
    }
    assert json.loads(protocol.encode(TextDelta(1, "né", 4)))["delta"] == "né"


def test_a_ping_cannot_smuggle_what_json_lacks() -> None:
    answer = greeted().receive('{"type": "ping", "t": NaN}')
    assert isinstance(answer, ErrorEvent)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": "ping", "t": "x" * 65}, "ping.t"),
        ({"type": "played", "epoch": 0, "pts": 10**400}, "played.pts"),
        ({"type": "played", "epoch": 0, "pts": 1e300}, "played.pts"),
        ({"type": "played", "epoch": 0, "pts": float("inf")}, "played.pts"),
        ({"type": "played", "epoch": 0, "pts": "5.5"}, "played.pts"),
        ({"type": "played", "epoch": 0, "pts": 0, "queued_ms": 1e300}, "played.queued_ms"),
        ({"type": "update", "session": {"sampling": {"seed": 10**30}}}, "seed"),
        ({"type": "update", "session": {"sampling": {"seed": 1 << 63}}}, "seed"),
    ],
)
def test_what_would_be_kept_or_used_has_bounds(message: dict[str, object], field: str) -> None:
    error = greeted().receive(json.dumps(message))
    assert isinstance(error, ErrorEvent)
    assert error.code == "bad_message"
    assert field in error.message


def test_an_echoed_name_need_not_be_unicode() -> None:
    protocol = greeted()
    error = protocol.receive('{"type": "nope", "id": "\\ud800"}')
    assert isinstance(error, ErrorEvent)
    message = protocol.encode(error)
    assert isinstance(message, str)
    assert message.isascii()
    assert json.loads(message)["ref"] == "\ud800"
