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


def test_an_environment_that_was_broken_off_is_made_whole(copied: Path, tmp_path: Path) -> None:
    """Its Python is there, its pip is not."""
    inside = copied / ".venv" / "bin" / "python"
    (copied / ".venv" / ".installed-requirements.txt").unlink(missing_ok=True)
    inside.write_text("#!/bin/sh\necho No module named pip >&2; exit 1\n")
    outside = tmp_path / "python"
    outside.write_text(f"""#!/bin/sh
[ "$1" = -m ] || exit 0
printf '#!/bin/sh\\necho "$@"\\n' >"{inside}"
""")
    outside.chmod(0o755)
    command = ["bash", str(copied / "scripts" / "run_demo_server.sh")]
    run = subprocess.run(
        command, env={**os.environ, "PYTHON": str(outside)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [str(copied / "bin" / "server.py")]
