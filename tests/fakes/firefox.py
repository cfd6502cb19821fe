"""A real Firefox with its own fake microphone, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

START_TIMEOUT_SEC = 60.0
STOP_TIMEOUT_SEC = 15.0
LOOK_EVERY_MS = 50
PREFERENCES = {
    "media.navigator.streams.fake": True,  # a tone for a microphone
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "browser.shell.checkDefaultBrowser": False,
    "browser.aboutwelcome.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


def find_firefox() -> str:
    """Path of the browser: $FIREFOX, or `firefox-esr` or `firefox` on the path."""
    for name in (os.environ.get("FIREFOX"), "firefox-esr", "firefox"):
        if name and (found := shutil.which(name)):
            return found
    pytest.fail("This test of the page needs Firefox: `apt-get install firefox-esr`, or set $FIREFOX to its path")


class Tab:
    """One tab of a running Firefox."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.command("session.new", capabilities={})
        self._context: str = self.command("browsingContext.getTree")["contexts"][0]["context"]

    def command(self, method: str, **params: Any) -> Any:
        """Send one command and wait for its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=START_TIMEOUT_SEC))
            if answer.get("id") == self._number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def open(self, url: str) -> None:
        """Load a page."""
        self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression: a string, a number or a truth value."""
        answer = self.command(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def wait_until(self, expression: str, timeout_sec: float = 30.0) -> None:
        """Wait for an expression to come true."""
        look = (
            f"const is = Boolean({expression}); is || Date.now() > stop ? done(is) : setTimeout(look, {LOOK_EVERY_MS})"
        )
        became_true = self.evaluate(
            f"new Promise(done => {{ const stop = Date.now() + {1000 * timeout_sec}; const look = () => {{ {look} }}; look() }})"
        )
        assert became_true, f"{expression} did not become true in {timeout_sec} s"


@contextmanager
def silent_sound_card() -> Iterator[dict[str, str]]:
    """A PulseAudio server whose only output is nowhere; yields the environment that leads to it.

    Firefox starts no audio clock without an output device, and a test machine has none.
    """
    if shutil.which("pulseaudio") is None:
        pytest.fail("This test of the page needs a sound server: `apt-get install pulseaudio`")
    with tempfile.TemporaryDirectory(prefix="pulse") as folder:  # a short path: it names a socket
        environment = {"XDG_RUNTIME_DIR": folder, "HOME": folder, "PULSE_SERVER": f"unix:{folder}/native"}
        command = ["pulseaudio", "-n", "--daemonize=no", "--log-level=info", "--exit-idle-time=-1", "--disable-shm=yes"]
        modules = [f"module-native-protocol-unix socket={folder}/native auth-anonymous=1", "module-null-sink"]
        command += [part for module in modules for part in ("-L", module)]
        with _running(command, environment, "Daemon startup complete"):
            yield environment


@contextmanager
def firefox(profile: Path) -> Iterator[Tab]:
    """A headless Firefox with a fresh profile in `profile` and a sound card that nobody hears."""
    with silent_sound_card() as sound, _started(profile, sound) as tab:
        yield tab


@contextmanager
def _started(profile: Path, sound: dict[str, str]) -> Iterator[Tab]:
    profile.mkdir(parents=True)
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [find_firefox(), "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    environment = sound | {"MOZ_DISABLE_CONTENT_SANDBOX": "1"}
    with (
        _running(command, environment, r"WebDriver BiDi listening on (ws://\S+)") as said,
        connect(f"{said[1]}/session", max_size=None, open_timeout=START_TIMEOUT_SEC, proxy=None) as socket,
    ):
        yield Tab(socket)


@contextmanager
def _running(command: list[str], environment: dict[str, str], ready: str) -> Iterator[re.Match[str]]:
    """A program, from the line in which it says that it is ready."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    drain = threading.Thread(target=lambda out: [None for _ in out], args=(process.stdout,))
    try:
        said = next((match for line in process.stdout if (match := re.search(ready, line))), None)
        assert said is not None, f"{command[0]} ended before it was ready"
        drain.start()
        yield said
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if drain.ident is not None:
            drain.join()
        process.stdout.close()
