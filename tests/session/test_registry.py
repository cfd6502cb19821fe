"""Who sits where: resumes, and the moments in which two things happen at once."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from functools import lru_cache

import pytest

from duplex.audio import pcm
from duplex.core.clock import VirtualClock
from duplex.core.config import SessionPatch, load_config
from duplex.core.errors import BranchOverflowError, CapacityError
from duplex.core.events import Hello, Resume
from duplex.core.metrics import Metrics
from duplex.session.registry import Seat, SessionRegistry
from duplex.session.store import SessionStore
from tests.fakes.engine import FakeEngine
from tests.fakes.pool import InlinePool


class Guest:
    """A connection. `mic_pts`: how far its microphone has counted. `unseated`: how often it was told to go."""

    def __init__(self, mic_pts: int = 0) -> None:
        self.mic_pts = mic_pts
        self.unseated = 0

    def unseat(self) -> int:
        self.unseated += 1
        return self.mic_pts


@pytest.fixture
async def registry() -> AsyncIterator[SessionRegistry]:
    engine = FakeEngine()
    clock = VirtualClock()
    config = load_config(options={"max_sessions": 1})
    registry = SessionRegistry(config, InlinePool(engine), SessionStore(engine.branches), Metrics(), clock)
    yield registry
    await registry.close_all()
    assert engine.branches.free_slots == engine.branches.slots


def take_up(registry: SessionRegistry, token: str, guest: Guest) -> Seat | None:
    return registry.resume(Hello(), Resume(token, -1), guest)


async def test_who_was_replaced_has_no_say_any_more(registry: SessionRegistry) -> None:
    first, second = Guest(5), Guest()
    seat = await registry.open(Hello(), first)
    assert take_up(registry, seat.token, second) is seat
    assert first.unseated == 1
    for keep in (True, False):
        await registry.leave(seat, first, mic_pts=9, keep=keep)
    assert (seat.sitter, seat.mic_pts, registry.full) == (second, 5, True)
    await registry.leave(seat, second, mic_pts=7, keep=True)
    assert (seat.sitter, seat.mic_pts, registry.full) == (None, 7, False)
    assert take_up(registry, seat.token, first) is seat


async def test_a_token_works_again_if_the_answer_to_it_was_lost(registry: SessionRegistry) -> None:
    guests = [Guest() for _ in range(4)]
    seat = await registry.open(Hello(), guests[0])
    old = seat.token
    for guest in guests[1:3]:
        assert take_up(registry, old, guest) is seat
        await registry.leave(seat, guest, mic_pts=0, keep=True)
    assert len(registry) == 1
    assert take_up(registry, seat.token, guests[3]) is seat  # the last answer did arrive
    assert take_up(registry, old, guests[0]) is None


async def test_a_session_whose_time_is_up_cannot_be_resumed(registry: SessionRegistry) -> None:
    guest = Guest()
    seat = await registry.open(Hello(), guest)
    await registry.leave(seat, guest, mic_pts=0, keep=True)
    registry._expire(seat)
    assert take_up(registry, seat.token, guest) is None


async def test_a_session_that_cannot_begin_leaves_nothing_behind(registry: SessionRegistry) -> None:
    with pytest.raises(BranchOverflowError):
        await registry.open(Hello(session=SessionPatch(instructions="a " * 450)), Guest())
    assert len(registry) == 0


async def test_nobody_new_is_let_in_who_would_make_others_late() -> None:
    engine, metrics = FakeEngine(), Metrics()
    pool = InlinePool(engine)
    config = load_config(options={"max_sessions": 3, "max_tight_share": 0.1})
    registry = SessionRegistry(config, pool, SessionStore(engine.branches), metrics, VirtualClock())
    pool.tight_share = 0.9
    assert not registry.full  # nobody is there whom it could disturb
    first = Guest()
    seat = await registry.open(Hello(), first)
    assert registry.full
    with pytest.raises(CapacityError, match="no session beside the 1 of now: 90% of what they hear or say comes late"):
        await registry.open(Hello(), Guest())
    assert metrics.registry.get_sample_value("duplex_refusals_total", {"reason": "capacity"}) == 1
    await registry.leave(seat, first, mic_pts=0, keep=True)
    assert take_up(registry, seat.token, first) is seat  # who was there comes back all the same
    pool.tight_share = 0.1
    await registry.open(Hello(), Guest())
    assert len(registry) == 2
    await registry.close_all()


async def test_filters_between_odd_rates_are_not_made_on_the_event_loop(
    registry: SessionRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[tuple[int, int], threading.Thread] = {}
    make = pcm._sinc_filters.__wrapped__

    @lru_cache(maxsize=pcm.MAX_FILTERS)
    def noted(source_rate: int, target_rate: int) -> object:
        made[source_rate, target_rate] = threading.current_thread()
        return make(source_rate, target_rate)

    monkeypatch.setattr(pcm, "_sinc_filters", noted)
    seat = await registry.open(Hello(input_rate=8011, output_rate=8009), Guest())
    for generation in range(2):
        seat.session.playout.begin(1, generation)
    assert set(made) == {(8011, 16000), (24000, 8009)}
    assert threading.main_thread() not in made.values()
