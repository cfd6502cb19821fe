"""A folder of duplex/ imports only folders with a lower number (DESIGN.md, section 2)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "duplex"
LAYERS = {"core": 0, "audio": 1, "model": 2, "engine": 3, "pool": 4, "session": 5, "protocols": 6, "server": 7}
ALLOWED = {
    **{name: {other for other, level in LAYERS.items() if level <= number} for name, number in LAYERS.items()},
    "train": {"core", "audio", "model", "engine", "train"},
    "bench": {"core", "audio", "protocols", "bench"},
}
FORBIDDEN_IN_CORE = {"torch", "asyncio"}


def imported(file: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(file for file in ROOT.rglob("*.py") if file.parent != ROOT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_what_lies_below(file: Path) -> None:
    folder = file.relative_to(ROOT).parts[0]
    assert folder in ALLOWED, f"{folder} has no place in the layout"
    folders = {name.split(".")[1] for name in imported(file) if name.startswith("duplex.")}
    assert folders <= ALLOWED[folder]


def test_the_core_knows_neither_tensors_nor_tasks() -> None:
    for file in (ROOT / "core").glob("*.py"):
        assert not FORBIDDEN_IN_CORE & {name.split(".")[0] for name in imported(file)}, file


def test_protocols_and_machine_are_sans_io() -> None:
    for file in [*(ROOT / "protocols").glob("*.py"), ROOT / "session" / "machine.py", ROOT / "session" / "playout.py"]:
        assert not {"asyncio", "socket", "threading", "time", "websockets"} & {
            name.split(".")[0] for name in imported(file)
        }, file
