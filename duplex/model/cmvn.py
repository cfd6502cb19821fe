"""Global CMVN statistics: per-bin mean and inverse standard deviation of the training features.

Two file formats: JSON ({"mean_stat": sums, "var_stat": sums of squares, "frame_num": n}, as WeNet writes it) and a
Kaldi matrix [2, bins + 1] (sums and n, sums of squares and 0), text or binary (kaldi-asr.org, "Kaldi I/O").
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from torch import Tensor

from duplex.core.errors import CheckpointError

VARIANCE_FLOOR = 1e-20
_KALDI_BINARY = b"\0B"
_KALDI_TYPES = {b"FM ": ("f", 4), b"DM ": ("d", 8)}


def read_cmvn(path: Path, bins: int, *, is_json: bool) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation, float32 [bins] each. Raises CheckpointError naming the file."""
    try:
        sums, squares, frames = _from_json(path) if is_json else _from_kaldi(path)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise CheckpointError(f"{path} cannot be read as {'JSON' if is_json else 'Kaldi'} CMVN: {error}") from error
    if len(sums) != bins or len(squares) != bins or frames <= 0:
        raise CheckpointError(f"{path} has statistics of {len(sums)} bins over {frames} frames, expected {bins} bins")
    mean = torch.tensor(sums, dtype=torch.float64) / frames
    variance = torch.tensor(squares, dtype=torch.float64) / frames - mean.square()
    return mean.float(), variance.clamp(min=VARIANCE_FLOOR).rsqrt().float()


def write_cmvn_json(path: Path, mean: Tensor, istd: Tensor) -> None:
    """Write statistics that `read_cmvn` gives back, those of a single imaginary frame."""
    mean, istd = mean.double().cpu(), istd.double().cpu()
    variance = istd.square().reciprocal()
    statistics = {"mean_stat": mean.tolist(), "var_stat": (variance + mean.square()).tolist(), "frame_num": 1}
    path.write_text(json.dumps(statistics), encoding="utf-8")


def write_cmvn_kaldi(path: Path, mean: Tensor, istd: Tensor) -> None:
    """The same as Kaldi text."""
    mean, istd = mean.double().cpu(), istd.double().cpu()
    squares = istd.square().reciprocal() + mean.square()
    rows = [[*mean.tolist(), 1.0], [*squares.tolist(), 0.0]]
    path.write_text(" [\n" + "\n".join("  " + " ".join(map(repr, row)) for row in rows) + " ]\n", encoding="utf-8")


def _from_json(path: Path) -> tuple[list[float], list[float], float]:
    statistics = json.loads(path.read_text(encoding="utf-8"))
    return list(statistics["mean_stat"]), list(statistics["var_stat"]), float(statistics["frame_num"])


def _from_kaldi(path: Path) -> tuple[list[float], list[float], float]:
    content = path.read_bytes()
    rows = _binary_rows(content) if content.startswith(_KALDI_BINARY) else _text_rows(content.decode("utf-8"))
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        raise ValueError(f"expected a matrix of two rows, got rows of {[len(row) for row in rows]}")
    return rows[0][:-1], rows[1][:-1], rows[0][-1]


def _text_rows(content: str) -> list[list[float]]:
    before, opening, rest = content.partition("[")
    inside, closing, behind = rest.partition("]")
    if before.strip() or behind.strip() or not opening or not closing:
        raise ValueError("expected one matrix in brackets")
    values = [[float(number) for number in line.split()] for line in inside.strip().splitlines()]
    if len(values) == 1 and len(values[0]) % 2 == 0:  # some writers put both rows on one line
        half = len(values[0]) // 2
        return [values[0][:half], values[0][half:]]
    return values


def _binary_rows(content: bytes) -> list[list[float]]:
    kind = content[2:5]
    if kind not in _KALDI_TYPES:
        raise ValueError(f"unknown Kaldi type {kind!r}")
    number, size = _KALDI_TYPES[kind]
    four_a, rows, four_b, columns = struct.unpack_from("<bibi", content, 5)
    if four_a != 4 or four_b != 4 or rows < 0 or columns < 0:
        raise ValueError("broken Kaldi matrix header")
    start = 5 + struct.calcsize("<bibi")
    if len(content) != start + rows * columns * size:
        raise ValueError(f"a [{rows}, {columns}] matrix does not fill the file")
    values = struct.unpack_from(f"<{rows * columns}{number}", content, start)
    return [list(values[row * columns : (row + 1) * columns]) for row in range(rows)]
