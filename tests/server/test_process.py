"""The real process on the fixture checkpoint: it starts, converses, drains."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import wave
from pathlib import Path

import numpy as np

from tests.server.wire import connected

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "data" / "fixtures"


async def test_the_server_starts_converses_and_drains() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "bin" / "server.py"),
        *("--checkpoint", str(FIXTURES / "freeze_tiny"), "--llm", str(FIXTURES / "llm_tiny")),
        *("--device", "cpu", "--port", "0", "--max-sessions", "2", "--max-length", "512"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DUPLEX_DRAIN_TIMEOUT_SEC": "1"},
    )
    assert process.stdout is not None
    try:
        first = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert (await process.stdout.readline()).decode().strip() == "ready"
        found = re.fullmatch(r"open http://localhost:(\d+)/\n", first)
        assert found is not None
        with wave.open(str(FIXTURES / "espeak_a.wav")) as file:
            speech = np.frombuffer(file.readframes(16000), "<i2").astype(np.float32) / 32768
        async with connected(int(found[1])) as client:
            ready = await client.hello()
            assert ready["session"]["instructions"] == "You are a helpful assistant."
            await client.speak(speech)
            await client.until("turn", t_ms=960)
            await client.send({"type": "say", "text": "Hello."})
            header = await client.until_audio()
            assert header.kind == 2
            process.send_signal(signal.SIGTERM)
            assert (await client.until("error", fatal=True))["code"] == "draining"
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    for line in errors.decode().splitlines():
        assert json.loads(line)["level"] == "info", line
