"""server.json: how the speech decoder of a checkpoint is sampled and its codes are vocoded."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from duplex.core.errors import CheckpointError


class SpeechSettings(BaseModel):
    """The entries of server.json under their official names; sizes in codec tokens, decoder_N in samples.

    decoder_lead_amplitude is ours: the quiet beginning of a reply is cut up to the first sample as loud as this. The
    reference always takes 0.03 (quirk 18), which cuts soft consonants off as well.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder_first_chunk_size: int = Field(default=20, ge=1)
    decoder_chunk_size: int = Field(default=40, ge=1)
    decoder_chunk_overlap_size: int = Field(default=10, ge=0)
    decoder_top_k: int = Field(default=2, ge=0)
    decoder_penalty_window_size: int = -1  # negative: no penalty
    decoder_penalty: float = Field(default=1.1, gt=0)
    # The official name. 0: no segment search, every sample leaves as soon as it is final.
    decoder_N: int = Field(default=2401, ge=0)  # noqa: N815
    decoder_seg_threshold_first_pack: float = Field(default=0.1, ge=0)
    decoder_seg_threshold: float = Field(default=0.015, ge=0)
    decoder_lead_amplitude: float = Field(default=0.03, ge=0, le=1)

    @classmethod
    def read(cls, path: Path) -> SpeechSettings:
        """Read server.json. Raises CheckpointError naming the file and the entry, with the nearest valid name."""
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate(entries)
        except (OSError, ValueError) as error:
            if isinstance(error, ValidationError):
                raise CheckpointError(f"{path}: {_explain(error)}") from error
            raise CheckpointError(f"{path} cannot be read: {error}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        near = difflib.get_close_matches(name, SpeechSettings.model_fields, n=1)
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown entry {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        else:
            lines.append(f"{name}: {problem['msg']}")
    return "; ".join(lines)
