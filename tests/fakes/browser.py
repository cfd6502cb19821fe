"""A real Chromium with a recording for a microphone."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

MICROPHONE_RATE = 48000  # Hz; Chromium's fake device plays any rate, this one without resampling
POLL_MS = 40
INSECURE_HOST = "insecure.test"  # this machine under a name that browsers do not trust without TLS

QUIET_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1",
]
GRANTED = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DENIED = ["--use-fake-device-for-media-stream", "--deny-permission-prompts"]


def find_chromium() -> str:
    """Path of the browser: $CHROMIUM, or `chromium` or `google-chrome` on the path."""
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    pytest.fail("The tests of the page need Chromium: `apt-get install chromium`, or set $CHROMIUM to its path")


@contextmanager
def chromium(microphone: Path | None = None, permission: bool = True) -> Iterator[Browser]:
    """A headless browser that hears `microphone` once, from the moment the page opens it; then silence."""
    flags = [*QUIET_FLAGS, *(GRANTED if permission else DENIED)]
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def watch_console(page: Page) -> list[str]:
    """Collects everything the page complains about: exceptions, console errors, violations of its CSP."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    return complaints


def wait_until(page: Page, expression: str, timeout_ms: float = 15_000) -> None:
    """Waits for a JavaScript expression to come true (Playwright's own wait uses eval, which a strict CSP forbids)."""
    for _ in range(round(timeout_ms / POLL_MS)):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(POLL_MS)
    counters = page.evaluate("Object.fromEntries(Object.keys(duplexDebug).map((key) => [key, duplexDebug[key]]))")
    pytest.fail(f"{expression} did not become true in {timeout_ms} ms; {counters}")


def write_wav(path: Path, samples: np.ndarray, rate: int = MICROPHONE_RATE) -> Path:
    """Writes int16 mono samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
