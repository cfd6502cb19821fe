"""The page in Chromium, served by the stand-in under the strictest content security policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.stand_in_server import StandInServer, StandInThread

WEB_ROOT = Path(__file__).parents[2] / "web"


@pytest.fixture
def stand_in() -> Iterator[StandInThread]:
    server = StandInServer(web_root=WEB_ROOT)
    server.folders["/cases/"] = Path(__file__).parent
    with StandInThread(server) as thread:
        yield thread
