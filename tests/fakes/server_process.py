"""The real server as its own process, started and stopped as an operator would."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_TIMEOUT_SEC = 60.0  # on a busy machine; a quiet one needs a few seconds
STOP_TIMEOUT_SEC = 60.0  # draining may take 20 s of it, and a busy machine ten to end the process


@contextmanager
def running_server(*options: str) -> Iterator[str]:
    """`bin/server.py` on a free port; yields the page's URL. Ends it with SIGTERM, which must exit with 0."""
    command = [sys.executable, str(ROOT / "bin" / "server.py"), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    lines: queue.Queue[str] = queue.Queue()
    seen: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda out: [lines.put(line) for line in out], args=(process.stdout,))
    reader.start()
    try:
        yield _page_url(process, lines, seen)
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_TIMEOUT_SEC)
        assert code == 0, f"the server left with {code}"
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def _page_url(process: subprocess.Popen[str], lines: queue.Queue[str], seen: list[str]) -> str:
    """Reads the server's output up to its "ready"."""
    deadline = time.monotonic() + START_TIMEOUT_SEC
    url = ""
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=0.1).strip()
        except queue.Empty:
            if process.poll() is not None:
                break
            continue
        seen.append(line)
        if line.startswith("open "):
            url = line.removeprefix("open ")
        if line == "ready":
            return url
    raise AssertionError("the server did not become ready:\n" + "\n".join(seen))
