"""Runs the browser-side unit tests: every `export function test_...` of the *_cases.js files beside this one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.fakes.browser import chromium
from tests.fakes.stand_in_server import StandInServer, StandInThread
from tests.web.conftest import WEB_ROOT

HERE = Path(__file__).parent
CASES = [
    (file.name, name)
    for file in sorted(HERE.glob("*_cases.js"))
    for name in re.findall(r"^export (?:async )?function (test_\w+)", file.read_text(), re.MULTILINE)
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    server = StandInServer(web_root=WEB_ROOT)
    server.folders["/cases/"] = HERE
    with StandInThread(server) as thread, chromium() as browser:
        page = browser.new_page()
        page.goto(thread.url + "icon.svg")  # the origin without the page
        yield page


@pytest.mark.parametrize(("file", "name"), CASES, ids=[f"{file}:{name}" for file, name in CASES])
def test_case(page: Page, file: str, name: str) -> None:
    failure = page.evaluate(
        """async ([file, name]) => {
            try { await (await import(`/cases/${file}`))[name](); return null; }
            catch (error) { return error.stack ?? String(error); }
        }""",
        [file, name],
    )
    assert failure is None, failure
