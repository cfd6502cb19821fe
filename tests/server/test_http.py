"""Plain HTTP, TLS, and the command line's configuration."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from websockets.asyncio.client import connect

from duplex.core.config import load_config
from duplex.core.errors import ConfigError
from duplex.server import cli
from duplex.server.app import App
from duplex.server.cli import configuration, load_engines, main, with_checkpoint_instructions
from duplex.server.tls import self_signed, server_context
from tests.fakes.engine import FakeEngine
from tests.server.wire import connected


async def get(port: int, target: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a raw GET (nothing normalizes the path)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


@pytest.fixture
def web(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("<p>page")
    (root / "main.js").write_text("export {}")
    (root / "sub" / "style.css").write_text("p {}")
    (root / "notes.secret").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    (root / "link.js").symlink_to(tmp_path / "outside.js")
    return root


async def test_pages_and_what_is_not_one(web: Path) -> None:
    config = load_config(options={"port": 0, "web_root": web, "max_sessions": 1})
    async with App(config, [FakeEngine()]) as app:
        for target, status, kind in [
            ("/", 200, "text/html; charset=utf-8"),
            ("/?x=1", 200, "text/html; charset=utf-8"),
            ("/main.js", 200, "text/javascript; charset=utf-8"),
            ("/sub/style.css", 200, "text/css; charset=utf-8"),
            ("/healthz", 200, "application/json"),
            ("/readyz", 200, "application/json"),
            ("/v1/duplex", 426, "application/json"),
            ("/missing.js", 404, "application/json"),
            ("/notes.secret", 404, "application/json"),
            ("/sub", 404, "application/json"),
            ("/../outside.js", 404, "application/json"),
            ("/%2e%2e/outside.js", 404, "application/json"),
            ("//etc/passwd", 404, "application/json"),
            ("/link.js", 404, "application/json"),
            ("/main.js%00.html", 404, "application/json"),
            (f"/{'x' * 300}.js", 404, "application/json"),
            ("//[", 400, "application/json"),
        ]:
            got, headers, body = await get(app.port, target)
            assert (target, got, headers["content-type"]) == (target, status, kind)
            assert len(body) == int(headers["content-length"])
        assert b"duplex_sessions 0.0" in (await get(app.port, "/metrics"))[2]
        async with connected(app.port) as client:
            await client.hello()
            status, headers, _ = await get(app.port, "/readyz")
            assert (status, headers["retry-after"]) == (503, "5")
            assert b"duplex_sessions 1.0" in (await get(app.port, "/metrics"))[2]


async def test_the_page_may_run_nothing_from_elsewhere(web: Path) -> None:
    async with App(load_config(options={"port": 0, "web_root": web, "max_sessions": 1}), [FakeEngine()]) as app:
        _, headers, _ = await get(app.port, "/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


async def test_too_many_connections_are_refused_before_the_upgrade() -> None:
    config = load_config(options={"port": 0, "max_sessions": 1})
    async with App(config, [FakeEngine()]) as app:
        app._sockets = 18
        status, _, _ = await get_upgrade(app.port)
        app._sockets = 0
        assert status == 503


async def get_upgrade(port: int) -> tuple[int, dict[str, str], bytes]:
    return await get(
        port,
        "/v1/duplex HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nX-Rest:",
    )


async def test_tls_with_a_certificate_made_here(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    assert self_signed(tmp_path) == (cert, key)
    assert key.stat().st_mode & 0o077 == 0
    config = load_config(options={"port": 0, "tls": True, "cert": cert, "key": key})
    context = ssl.create_default_context(cafile=str(cert))
    async with App(config, [FakeEngine()]) as app:
        assert app.url.startswith("https://")
        async with connect(f"wss://localhost:{app.port}/v1/duplex", ssl=context) as socket:
            await socket.send('{"type": "hello"}')
            assert '"ready"' in str(await socket.recv())


@pytest.mark.parametrize("broken", ["self-signed.crt", "self-signed.key"])
def test_a_certificate_of_which_writing_was_broken_off_is_made_anew(tmp_path: Path, broken: str) -> None:
    cert, key = self_signed(tmp_path)
    (tmp_path / broken).write_bytes(b"")
    assert self_signed(tmp_path) == (cert, key)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    other = tmp_path / "other"
    self_signed(other)
    (other / broken).replace(tmp_path / broken)  # a whole one, of another pair
    self_signed(tmp_path)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)


def test_a_certificate_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = self_signed(tmp_path)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for cert_given, key_given, message in [
        (tmp_path / "nowhere.pem", key, "cert: .*nowhere.pem cannot be read: No such file"),
        (cert, tmp_path / "nowhere.pem", "key: .*nowhere.pem cannot be read: No such file"),
        (junk, key, "cert and key: .*junk.pem and "),
    ]:
        with pytest.raises(ConfigError, match=message):
            server_context(cert_given, key_given)
    monkeypatch.setenv("XDG_CACHE_HOME", str(junk))
    with pytest.raises(ConfigError, match=r"tls: .*junk\.pem"):
        server_context(None, None)


def test_the_command_line_says_what_is_wrong_with_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loaded(FakeEngine):
        model = SimpleNamespace(chat=SimpleNamespace(default_role="Own."))

    monkeypatch.setattr(cli, "load_engines", lambda config: [Loaded()])
    monkeypatch.setattr(cli, "configure_logs", lambda level: None)
    missing = str(tmp_path / "missing.pem")
    assert main(["--cert", missing, "--key", missing]) == 2
    assert capsys.readouterr().err.startswith(f"server: cert: {missing} cannot be read")


async def test_instructions_that_leave_no_room_end_the_start() -> None:
    engine = FakeEngine()
    config = load_config(options={"port": 0, "session.instructions": "a " * 450})
    with pytest.raises(ConfigError, match=r"session\.instructions are too long for model\.max_length: 450 tokens"):
        async with App(config, [engine]):
            pass
    assert engine.branches.free_slots == engine.branches.slots


def test_names_of_the_reference_work() -> None:
    config = configuration(
        [
            "--model_path",
            "m",
            "--llm_path",
            "l",
            "--ip",
            "0.0.0.0",
            "--max_users",
            "3",
            "--llm_exec_nums",
            "2",
            "--timeout",
            "60",
            "--top_k",
            "5",
            "--top_p",
            "0.8",
            "--temperature",
            "0.6",
        ]
    )
    assert (config.model.checkpoint, config.model.llm, config.host) == (Path("m"), Path("l"), "0.0.0.0")
    assert (config.max_sessions, config.model.workers, config.idle_timeout_sec) == (3, 2, 60)
    sampling = config.session.sampling
    assert (sampling.top_k, sampling.top_p, sampling.temperature) == (5, 0.8, 0.6)


def test_bad_options_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--prot", "1"])
    assert "unrecognized arguments: --prot" in capsys.readouterr().err
    assert main(["--top_p", "3"]) == 2
    assert "session.sampling.top_p" in capsys.readouterr().err
    assert main(["--checkpoint", "nowhere", "--device", "cpu"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no device 'warp'"):
        load_engines(load_config(options={"model.device": "warp"}))


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, device: str, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=f"'{device}'.* {gpus} usable GPUs"):
        load_engines(load_config(options={"model.device": device}))


def test_the_checkpoints_own_prompt_unless_one_is_given() -> None:
    assert with_checkpoint_instructions(load_config(), "Own.").session.instructions == "Own."
    given = load_config(options={"session.instructions": "Mine."})
    assert with_checkpoint_instructions(given, "Own.").session.instructions == "Mine."
