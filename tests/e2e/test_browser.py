"""A person at the page: a real Chromium with a recording for a microphone, the real server, the shipped model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
from playwright.sync_api import expect

from duplex.audio.pcm import float_to_int16, resample
from duplex.audio.wav import read_wav
from tests.fakes.browser import MICROPHONE_RATE, chromium, wait_until, watch_console, write_wav
from tests.fakes.server_process import ROOT, running_server

UNTRAINED_VOICE = "en-us+f4"  # of espeak-ng
LEAD_IN_SEC = 2.0  # the recording starts with the microphone, before the page is connected
REPLY_TIMEOUT_MS = 30_000
SCREENSHOT = ROOT / "docs" / "images" / "page.png"


def spoken(text: str, folder: Path) -> np.ndarray:
    """int16 at the microphone's rate."""
    file = folder / "speech.wav"
    subprocess.run(["espeak-ng", "-v", UNTRAINED_VOICE, "-w", str(file), text], check=True)
    pcm, rate = read_wav(file)
    return float_to_int16(resample(pcm, rate, MICROPHONE_RATE))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * MICROPHONE_RATE), np.int16)


def test_conversation_at_the_page(tmp_path: Path) -> None:
    """A spoken question is answered right and aloud, and so is a typed one."""
    said = np.concatenate([silence(LEAD_IN_SEC), spoken("How many days are in a week?", tmp_path), silence(1.0)])
    microphone = write_wav(tmp_path / "microphone.wav", said)
    with running_server("--checkpoint", str(ROOT / "checkpoints" / "tiny")) as url, chromium(microphone) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        complaints = watch_console(page)
        page.goto(url)
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected", timeout=REPLY_TIMEOUT_MS)
        captions = page.locator("#captions .from-agent .words")
        expect(captions.first).to_contain_text("A week has seven days.", timeout=REPLY_TIMEOUT_MS)
        wait_until(page, "duplexDebug.outputRms > 0.02", REPLY_TIMEOUT_MS)
        wait_until(page, "duplexDebug.firstAudioMs.length >= 1", REPLY_TIMEOUT_MS)
        expect(page.locator("#agent-state")).to_have_attribute("data-state", "listening", timeout=REPLY_TIMEOUT_MS)
        page.fill("#message", "what is the capital of france")
        page.click("#send")
        expect(captions.nth(1)).to_contain_text("The capital of France is Paris.", timeout=REPLY_TIMEOUT_MS)
        wait_until(page, "duplexDebug.firstAudioMs.length >= 2", REPLY_TIMEOUT_MS)
        page.wait_for_timeout(600)  # for the picture: some of the answer heard, some still to come
        page.screenshot(path=SCREENSHOT if os.environ.get("UPDATE_SCREENSHOT") else tmp_path / "page.png")
        page.click("#stop")
        expect(page.locator("#status-text")).to_have_text("Not connected")
        assert complaints == []
