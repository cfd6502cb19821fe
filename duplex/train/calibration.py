"""Whether the state head's probabilities mean what they say: of the chunks it gives 0.7, seven of ten should be so."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from duplex.model.adapter import Adapter
from duplex.train.ctc_stage import CtcHeads
from duplex.train.dialogue_writer import IGNORED, DialogueWriter
from duplex.train.listen_stage import INTERRUPTION_CLASS, ListenModel
from duplex.train.scenarios import RESPOND, ClipPools
from duplex.train.state_stage import state_items
from duplex.train.tokenizer import AUDIO_START
from duplex.train.warm_start import WarmStart

BINS = 10
BATCH = 8  # scenarios


def calibration_error(probabilities: Tensor, happened: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599) of probabilities [n] of what happened or not [n].

    The mean distance between probability and share over ten bins of equal width, by how many fall into each.
    """
    bins = (probabilities * BINS).long().clamp(max=BINS - 1)
    differences = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, happened.double() - probabilities.double())
    return float(differences.abs().sum() / len(probabilities))


def listening_half(checkpoint: Path) -> tuple[ListenModel, DialogueWriter]:
    """What listens and decides in a checkpoint, as it was trained, and what writes its conversations."""
    warm = WarmStart(checkpoint)
    parts = warm.checkpoint
    writer = DialogueWriter(parts.llm.tokenizer)
    heads = CtcHeads(parts.encoder.dims.dim, 1)  # not asked
    adapter = Adapter(parts.adapter.dims)  # its own: a new model changes it before the weights are copied
    model = ListenModel(parts.encoder, heads, adapter, parts.llm.model, writer.encode(AUDIO_START)[0])
    warm.listen(model)
    return model.eval(), writer


def calibration(checkpoint: Path, pools: ClipPools, scenarios: int, seed: int) -> dict[str, float]:
    """Calibration errors of the decision to respond and of interruptions, by chunk, over random timed turns."""
    model, writer = listening_half(checkpoint)
    items = state_items(pools, writer, seed)
    judged = [model.judged([*itertools.islice(items, BATCH)], writer) for _ in range(max(1, scenarios // BATCH))]
    logits, wanted, interrupts = (torch.cat(column) for column in zip(*judged, strict=True))
    respond = logits[:, :INTERRUPTION_CLASS].softmax(dim=-1)[:, RESPOND]
    interrupt = logits[:, INTERRUPTION_CLASS].sigmoid()
    return {
        f"{name}_calibration_error": round(calibration_error(probability[asked], happened[asked]), 4)
        for name, probability, happened, asked in (
            ("respond", respond, wanted == RESPOND, wanted != IGNORED),
            ("interruption", interrupt, interrupts == 1, interrupts != IGNORED),
        )
    }
