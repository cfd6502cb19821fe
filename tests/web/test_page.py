"""The page in a real Chromium, in conversation with the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.fakes.browser import INSECURE_HOST, MICROPHONE_RATE, chromium, wait_until, watch_console, write_wav
from tests.fakes.stand_in_server import Behaviour, StandInThread, tone

REPLY_TIMEOUT_MS = 15_000  # for a reply to show on a busy machine


def bursts(*seconds: tuple[float, float]) -> np.ndarray:
    """int16 microphone samples: a voice-like tone in each (start, end) span of seconds."""
    samples = np.zeros(round((seconds[-1][1] + 1) * MICROPHONE_RATE), dtype=np.int16)
    for start, end in seconds:
        length = round((end - start) * MICROPHONE_RATE)
        first = round(start * MICROPHONE_RATE)
        samples[first : first + length] = tone(length, MICROPHONE_RATE, MICROPHONE_RATE // 5)
    return samples


def silence(folder: Path) -> Path:
    """A microphone that hears nothing; without one, Chromium's beeps."""
    return write_wav(folder / "silence.wav", np.zeros(20 * MICROPHONE_RATE, dtype=np.int16))


@contextmanager
def opened(url: str, microphone: Path | None = None, permission: bool = True) -> Iterator[Page]:
    """The page, loaded; whatever it complains about on the console fails the test."""
    with chromium(microphone, permission) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        complaints = watch_console(page)
        page.goto(url)
        yield page
        assert complaints == []


def debug(page: Page, name: str) -> float:
    return page.evaluate(f"duplexDebug.{name}")


def test_conversation_with_interruption(stand_in: StandInThread, tmp_path: Path) -> None:
    microphone = write_wav(tmp_path / "mic.wav", bursts((1.0, 2.0), (4.2, 5.2)))
    with opened(stand_in.url, microphone) as page:
        expect(page.locator("#agent-state")).to_have_text("Ready")
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")
        expect(page.locator("#agent-state")).to_have_text("Speaking", timeout=REPLY_TIMEOUT_MS)
        wait_until(page, "duplexDebug.outputRms > 0.05")
        wait_until(page, "duplexDebug.epoch === 1")
        expect(page.locator("#captions .heard").first).to_contain_text("I heard you")
        expect(page.locator("#captions s").first).not_to_be_empty()
        wait_until(page, "duplexDebug.firstAudioMs.length === 2")
        second = page.locator("#captions .from-agent").nth(1)
        expect(second).to_contain_text("so that you may interrupt it.", timeout=REPLY_TIMEOUT_MS)
        expect(second).to_contain_text("first audio")
        expect(second.locator(".pending")).to_have_count(0, timeout=REPLY_TIMEOUT_MS)
        expect(page.locator("#agent-state")).to_have_text("Listening", timeout=REPLY_TIMEOUT_MS)
        assert page.locator("#captions .from-user").count() == 2
        assert 400 < page.evaluate("duplexDebug.firstAudioMs[0]") < 3000
        page.click("#stop")
        expect(page.locator("#status-text")).to_have_text("Not connected")
    [session] = stand_in.server.sessions
    played = [message for message in session.received if message["type"] == "played"]
    assert played[-1]["epoch"] == 1
    assert played[-1]["pts"] == session.sent_pts, "the last report says that everything was heard"
    assert [message["pts"] for message in played] == sorted(message["pts"] for message in played)
    frames = session.mic_frames
    assert [frame.pts for frame in frames] == [320 * i for i in range(len(frames))], "20 ms frames without gaps"
    assert session.received[-1]["type"] == "bye"


def test_connection_drops_and_resumes(stand_in: StandInThread, tmp_path: Path) -> None:
    microphone = write_wav(tmp_path / "mic.wav", bursts((1.0, 2.0)))
    with opened(stand_in.url, microphone) as page:
        page.click("#start")
        wait_until(page, "duplexDebug.outputRms > 0.05")
        stand_in.drop_connections()
        expect(page.locator("#status")).to_have_attribute("data-phase", "reconnecting")
        expect(page.locator("#status-text")).to_have_text("Connected", timeout=REPLY_TIMEOUT_MS)
        expect(page.locator("#captions .from-agent")).to_contain_text("interrupt it.", timeout=REPLY_TIMEOUT_MS)
        expect(page.locator("#captions .from-agent")).to_have_count(1)
        assert debug(page, "reconnections") == 1
    assert len(stand_in.server.sessions) == 1


@pytest.mark.parametrize(
    ("behaviour", "title"),
    [
        (Behaviour(refuse="capacity"), "The server is full"),
        (Behaviour(refuse="draining"), "The server is stopping"),
        (Behaviour(api_key="K"), "The server wants an API key"),
    ],
)
def test_refusals_are_explained(stand_in: StandInThread, behaviour: Behaviour, title: str) -> None:
    stand_in.server.behaviour = behaviour
    with opened(stand_in.url) as page:
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text(title)
        expect(page.locator("#start")).to_be_enabled()


def test_api_key_from_the_address_and_from_the_settings(stand_in: StandInThread) -> None:
    stand_in.server.behaviour = Behaviour(api_key="K")
    with opened(stand_in.url + "#key=K") as page:
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")
        page.click("#stop")
        page.goto(stand_in.url + "?again")
        page.click("#start")
        page.click("#notice-action")
        expect(page.locator("#api-key")).to_be_focused()
        page.keyboard.type("K")
        page.keyboard.press("Enter")
        expect(page.locator("#settings")).to_be_hidden()
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")


def test_unreachable_server_is_explained(stand_in: StandInThread) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(stand_in.url + "?server=ws://127.0.0.1:9")
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text("The server cannot be reached")


def test_denied_microphone_leaves_the_keyboard(stand_in: StandInThread) -> None:
    with opened(stand_in.url, permission=False) as page:
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text("The microphone is blocked")
        expect(page.locator("#start")).to_be_enabled()
        page.get_by_role("button", name="Type instead").click()
        page.get_by_label("Type a message").fill("Good morning")
        page.keyboard.press("Enter")
        expect(page.locator("#captions .from-user")).to_contain_text("Good morning")
        expect(page.locator("#captions .from-agent")).to_contain_text(
            "You typed: Good morning", timeout=REPLY_TIMEOUT_MS
        )
        wait_until(page, "duplexDebug.outputRms > 0.05")
        [session] = stand_in.server.sessions
        sent = len(session.mic_frames)
        page.wait_for_timeout(1000)
        assert len(session.mic_frames) > sent + 20, "silence keeps the server's clock going"


def test_a_machine_without_sound_is_explained(stand_in: StandInThread) -> None:
    with opened(stand_in.url) as page:
        page.add_init_script("AudioContext.prototype.resume = () => new Promise(() => {});")
        page.reload()
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text("No sound", timeout=REPLY_TIMEOUT_MS)
        expect(page.locator("#start")).to_be_enabled()


def test_an_insecure_page_is_explained(stand_in: StandInThread) -> None:
    with opened(f"http://{INSECURE_HOST}:{stand_in.port}/") as page:
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text("This page is not secure")
        expect(page.locator("#notice-text")).to_contain_text("--tls")


def test_settings_reach_the_server(stand_in: StandInThread) -> None:
    with opened(stand_in.url) as page:
        page.click("#open-settings")
        page.get_by_label("Temperature").fill("0.4")
        page.get_by_label("System prompt").fill("Be brief.")
        page.click("#apply")
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")
        page.click("#open-settings")
        page.get_by_label("Top-k").fill("7")
        page.click("#apply")
        page.reload()
        expect(page.locator("#temperature")).to_have_value("0.4")
    [session] = stand_in.server.sessions
    hello = session.received[0]
    assert hello["session"] == {"instructions": "Be brief.", "sampling": {"temperature": 0.4}}
    updates = [message["session"] for message in session.received if message["type"] == "update"]
    assert updates == [{"sampling": {"top_k": 7}}]


def test_settings_that_were_not_applied_are_not_used(stand_in: StandInThread) -> None:
    with opened(stand_in.url) as page:
        page.click("#open-settings")
        page.get_by_label("System prompt").fill("Be brief.")
        page.click("#apply")
        for leave in ("Escape", "Reset"):
            page.click("#open-settings")
            page.get_by_label("System prompt").fill("Speak like a pirate.")
            if leave == "Reset":
                page.get_by_role("button", name="Reset").click()
            page.keyboard.press("Escape")
            expect(page.locator("#settings")).to_be_hidden()
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")
        page.click("#open-settings")
        page.get_by_label("System prompt").fill("")
        page.click("#apply")
        expect(page.locator("#notice-title")).to_have_text("From the next conversation on")
        page.reload()
        expect(page.locator("#instructions")).to_have_value("")
    assert stand_in.server.sessions[0].received[0]["session"] == {"instructions": "Be brief."}


def test_scripts_that_cannot_be_loaded_are_the_servers_fault(stand_in: StandInThread) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.add_init_script(
            "AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException('', 'AbortError'));"
        )
        page.goto(stand_in.url)
        page.click("#start")
        expect(page.locator("#notice-title")).to_have_text("The server cannot be reached")


def test_the_keyboard_keeps_its_place(stand_in: StandInThread, tmp_path: Path) -> None:
    with opened(stand_in.url, silence(tmp_path)) as page:
        page.click("#start")
        expect(page.locator("#status-text")).to_have_text("Connected")
        page.get_by_label("Type a message").press_sequentially("hel")
        stand_in.drop_connections()
        expect(page.locator("#status")).to_have_attribute("data-phase", "reconnecting")
        page.keyboard.type("lo ")
        page.keyboard.type("world")
        page.keyboard.press("Enter")  # sent once the link is back
        expect(page.locator("#captions .from-user")).to_contain_text("hello world")
        expect(page.locator("#interrupt")).to_have_attribute("aria-disabled", "false", timeout=REPLY_TIMEOUT_MS)
        page.focus("#interrupt")
        page.keyboard.press("Enter")
        expect(page.locator("#agent-state")).to_have_text("Listening")
        assert page.evaluate("document.activeElement.id") == "interrupt"


def test_a_new_conversation_leaves_the_words_of_the_last_as_they_were(stand_in: StandInThread, tmp_path: Path) -> None:
    with opened(stand_in.url, silence(tmp_path)) as page:
        page.click("#start")
        page.get_by_label("Type a message").fill("Good morning")
        page.keyboard.press("Enter")
        reply = page.locator("#captions .from-agent")
        expect(reply).to_contain_text("Good morning", timeout=REPLY_TIMEOUT_MS)
        expect(page.locator("#agent-state")).to_have_text("Listening", timeout=REPLY_TIMEOUT_MS)
        expect(reply.locator(".pending")).to_have_count(0)
        page.click("#stop")
        page.click("#start")
        expect(page.locator("#captions .divider")).to_be_visible()
        page.wait_for_timeout(300)
        expect(reply.locator(".pending")).to_have_count(0)


def test_mute_sends_silence(stand_in: StandInThread, tmp_path: Path) -> None:
    microphone = write_wav(tmp_path / "mic.wav", bursts((0.2, 12.0)))
    with opened(stand_in.url, microphone) as page:
        page.click("#start")
        wait_until(page, "duplexDebug.inputRms > 0.01")
        page.click("#mute")
        expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
        sent = debug(page, "framesSent")
        wait_until(page, f"duplexDebug.framesSent > {sent + 40}")
        frames = list(stand_in.server.sessions[0].mic_frames)
        page.click("#mute")
        wait_until(page, f"duplexDebug.framesSent > {sent + 80}")
    assert max(frame.rms for frame in frames) > 0.01
    assert max(frame.rms for frame in frames[-20:]) == 0.0
    assert max(frame.rms for frame in stand_in.server.sessions[0].mic_frames[-20:]) > 0.01


def test_interrupt_button_stops_the_reply(stand_in: StandInThread, tmp_path: Path) -> None:
    microphone = write_wav(tmp_path / "mic.wav", bursts((0.5, 1.2)))
    with opened(stand_in.url, microphone) as page:
        page.click("#start")
        wait_until(page, "duplexDebug.heardPts > 12000")
        page.click("#interrupt")
        wait_until(page, "duplexDebug.epoch === 1 && duplexDebug.queuedMs === 0")
        expect(page.locator("#agent-state")).to_have_text("Listening")
        expect(page.locator("#captions")).to_contain_text("interrupted")


def test_every_control_has_a_name_and_a_place(stand_in: StandInThread) -> None:
    with opened(stand_in.url) as page:
        for size in ({"width": 1280, "height": 800}, {"width": 390, "height": 844}, {"width": 320, "height": 568}):
            page.set_viewport_size(size)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, size
        page.click("#open-settings")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, textarea, select")].filter(
                (e) => !e.hidden && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map((e) => e.id)"""
        )
        assert nameless == []


CONTRAST = """() => {
    const channel = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const probe = document.body.appendChild(document.createElement("i"));
    const colour = (name) => {
        probe.style.color = `var(${name})`;
        return luminance(getComputedStyle(probe).color.match(/[0-9.]+/g).map(Number));
    };
    const pairs = [["--ink", "--surface"], ["--ink-soft", "--surface"], ["--ink-faint", "--surface"],
        ["--ink-soft", "--ground"], ["--ink-soft", "--sunken"], ["--ink-faint", "--sunken"], ["--ink", "--warn-soft"],
        ["--warn", "--warn-soft"], ["--ink", "--danger-soft"], ["--danger", "--danger-soft"], ["--danger", "--surface"],
        ["--accent-ink", "--accent"], ["--user", "--surface"], ["--agent", "--surface"], ["--ink", "--accent-soft"],
        ["--ink-soft", "--lane-speech"], ["--ink", "--lane-speech"]];
    return pairs.map(([ink, ground]) => {
        const [a, b] = [colour(ink), colour(ground)].sort((x, y) => y - x);
        return [`${ink} on ${ground}`, (a + 0.05) / (b + 0.05)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_is_at_least_aa(stand_in: StandInThread, scheme: str) -> None:
    with opened(stand_in.url) as page:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.reload()
        faint = [(pair, round(ratio, 2)) for pair, ratio in page.evaluate(CONTRAST) if ratio < 4.5]
        assert faint == []
