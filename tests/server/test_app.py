"""What operators see of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from duplex.core.clock import VirtualClock
from duplex.core.metrics import Metrics
from duplex.server.app import host_in_url, probe_loop


async def test_no_delay_of_the_event_loop_is_lost_between_two_scrapes() -> None:
    clock, metrics = VirtualClock(), Metrics()
    delays = iter([0.0, 0.03, 0.0, 0.0])

    async def sleep(seconds: float) -> None:
        delay = next(delays, None)
        if delay is None:
            raise asyncio.CancelledError
        clock.advance(seconds + delay)

    with pytest.raises(asyncio.CancelledError):
        await probe_loop(clock, metrics, sleep)
    scraped = metrics.exposition().decode()
    assert 'duplex_event_loop_delay_seconds_bucket{le="0.02"} 3.0' in scraped
    assert 'duplex_event_loop_delay_seconds_bucket{le="0.05"} 4.0' in scraped


@pytest.mark.parametrize(
    ("host", "named"), [("::1", "[::1]"), ("::", "localhost"), ("0.0.0.0", "localhost"), ("10.0.0.7", "10.0.0.7")]
)
def test_the_page_has_an_address_that_browsers_understand(host: str, named: str) -> None:
    assert host_in_url(host) == named
