"""The scripts that people start: run from anywhere, paths among their options are the caller's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A repository whose Python only tells where and with what it was started."""
    root = tmp_path / "a repository"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copy(ROOT / "requirements.txt", root)
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    return root


@pytest.mark.parametrize(
    ("script", "program"), [("run_inference.sh", "inference.py"), ("run_demo_server.sh", "server.py")]
)
def test_paths_among_the_options_are_the_callers(copied: Path, tmp_path: Path, script: str, program: str) -> None:
    command = ["bash", str(copied / "scripts" / script), "--checkpoint", "mine"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(tmp_path), str(copied / "bin" / program), "--checkpoint", "mine"]


@pytest.mark.parametrize("program", sorted((ROOT / "bin").glob("*.py")), ids=lambda path: path.name)
def test_a_program_starts_as_the_docs_write_it(program: Path) -> None:
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith("#!/usr/bin/env python3\n")
