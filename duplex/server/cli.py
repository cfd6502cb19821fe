"""`bin/server.py`: options, model loading, signals."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import uvloop

from duplex.core.config import ServerConfig, load_config
from duplex.core.errors import CheckpointError, ConfigError
from duplex.engine.engine import TorchEngine
from duplex.server.app import App, serve_until
from duplex.server.logs import configure_logs

log = logging.getLogger(__name__)

SLOTS_A_SESSION = 3  # committed line, tentative turn, and one to spare while a fork takes over
CPU_WORKERS = 2
EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    """The command line. Names after the first are those of the reference server."""
    options = argparse.ArgumentParser(
        prog="bin/server.py",
        description="Hold full-duplex spoken conversations over WebSocket.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = options.add_argument
    add("--host", "--ip", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    add("--port", type=int, help="port to listen on (8765)")
    add("--checkpoint", "--model_path", dest="model.checkpoint", metavar="DIR", help="model (checkpoints/tiny)")
    add("--llm", "--llm_path", dest="model.llm", metavar="DIR", help="its LLM (DIR/llm)")
    add("--device", dest="model.device", help="cpu, cuda, cuda:1, ...: one (auto: a GPU if there is one)")
    add("--workers", "--llm_exec_nums", dest="model.workers", type=int, help="one on a GPU, two on a CPU")
    add("--max-length", dest="model.max_length", type=int, help="tokens a conversation can hold (2048)")
    add("--max-sessions", "--max_users", dest="max_sessions", type=int, help="(8)")
    add("--idle-timeout", "--timeout", dest="idle_timeout_sec", type=float, metavar="SEC", help="(300)")
    add("--resume-window", dest="resume_window_sec", type=float, metavar="SEC", help="(30)")
    add("--tls", action="store_true", help="HTTPS and WSS, with a self-signed certificate unless one is given")
    add("--cert", metavar="FILE", help="certificate (PEM)")
    add("--key", metavar="FILE", help="its key (PEM)")
    add("--api-key", dest="api_key", metavar="KEY", help="sockets want this key; also DUPLEX_API_KEY")
    add("--instructions", dest="session.instructions", metavar="TEXT", help="system prompt")
    add("--eagerness", dest="session.eagerness", choices=("low", "medium", "high"))
    add("--top_k", "--top-k", dest="session.sampling.top_k", type=int)
    add("--top_p", "--top-p", dest="session.sampling.top_p", type=float)
    add("--temperature", dest="session.sampling.temperature", type=float)
    add("--config", type=Path, metavar="FILE", help="settings as JSON or TOML, under the names of ServerConfig")
    add("--log-level", dest="log_level", choices=("debug", "info", "warning", "error"))
    return options


def configuration(arguments: Sequence[str] | None = None) -> ServerConfig:
    """The configuration that a command line asks for. Raises ConfigError."""
    options: dict[str, Any] = vars(parser().parse_args(arguments))
    file = options.pop("config", None)
    return load_config(file=file, environment=os.environ, options=options)


def with_checkpoint_instructions(config: ServerConfig, own: str) -> ServerConfig:
    """Let sessions have the system prompt the model was trained with, unless the operator gave one."""
    if config.session.instructions:
        return config
    return config.model_copy(update={"session": config.session.model_copy(update={"instructions": own})})


def load_engines(config: ServerConfig) -> list[TorchEngine]:
    """The same engine for every worker. Raises CheckpointError, ConfigError.

    One device a process: conversations are slots in its memory, which a worker elsewhere could not read.
    """
    device = config.model.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"model.device: there is no device {device!r}") from error
    gpus = torch.cuda.device_count()
    if where.type == "cuda" and (where.index or 0) >= gpus:
        raise ConfigError(f"model.device: {device!r} was asked for, but this machine has {gpus} usable GPUs")
    if where.type == "cpu":
        torch.set_num_threads(1)  # workers are the parallelism
    engine = TorchEngine.load(
        config.model.checkpoint,
        config.model.llm,
        device,
        slots=SLOTS_A_SESSION * config.max_sessions,
        max_length=config.model.max_length,
    )
    workers = config.model.workers or (CPU_WORKERS if where.type == "cpu" else 1)
    return [engine] * workers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT. Returns the exit code."""
    try:
        config = configuration(arguments)
        configure_logs(config.log_level)
        engines = load_engines(config)
        config = with_checkpoint_instructions(config, engines[0].model.chat.default_role)
    except (ConfigError, CheckpointError) as error:
        return _refuse(str(error))
    try:
        uvloop.run(_run(config, engines))
    except ConfigError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"cannot listen on {config.host}:{config.port}: {error}")
    return 0


def _refuse(reason: str) -> int:
    print(f"server: {reason}", file=sys.stderr)
    return EXIT_USAGE


async def _run(config: ServerConfig, engines: Sequence[TorchEngine]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    await serve_until(config, engines, stopped, _announce)


def _announce(app: App) -> None:
    print(f"open {app.url}", flush=True)
    print("ready", flush=True)
