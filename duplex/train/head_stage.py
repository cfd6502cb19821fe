"""The last thing that listening learns: state head and cues alone, from what they read in many timed turns.

At the very end two numbers bring the probability of an interruption to what comes true in voices that were kept from
training: in known ones the cues are surer than they should be of others.

All that comes before them stands still by then, so what they read of a turn never changes: every turn is heard once and
kept, and both are fitted to all of them in a few passes, which takes seconds. In the state stage they see every turn once,
in small batches, while prompts and rest move under them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from duplex.train.dialogue_writer import IGNORED, DialogueWriter
from duplex.train.disguise import features_on
from duplex.train.listen_stage import (
    INTERRUPTION_CLASS,
    INTERRUPTION_WEIGHT,
    STATE_WEIGHT,
    ListenModel,
    Spoken,
    SpokenBatch,
)
from duplex.train.precision import quick_products

CHUNKS_PER_BATCH = 2048
RATE = 3e-3  # at its peak, early in the first pass
PASSES = 8  # with twice as many, the cues learn their voices by heart
SAVE_EVERY = 50  # batches

Read = dict[str, Tensor]  # of every judged chunk: hidden [n, llm_dim], heard [n, width], wanted [n], interrupting [n]


def read_turns(
    model: ListenModel, writer: DialogueWriter, batches: Callable[[int], Iterator[SpokenBatch]], turns: int, file: Path
) -> Read:
    """What head and cues read at every judged chunk of so many turns, kept in `file` as it grows.

    batches: endless, given how many turns were heard before.
    """
    parts: list[Read] = [torch.load(file, weights_only=True)] if file.exists() else []
    done = int(parts[0]["turns"]) if parts else 0
    file.parent.mkdir(parents=True, exist_ok=True)
    ahead = batches(done)
    with tqdm(total=turns, initial=done, desc="turns heard for the head", mininterval=5.0) as progress:
        while done < turns:
            batch = next(ahead)
            parts.append(_read(model, writer, batch))
            done += len(batch.items)
            progress.update(len(batch.items))
            if done >= turns or len(parts) > SAVE_EVERY:
                joined = {key: torch.cat([part[key] for part in parts]) for key in parts[-1]}
                parts = [joined | {"turns": torch.tensor(done)}]
                torch.save(parts[0], file.with_suffix(".tmp"))
                file.with_suffix(".tmp").replace(file)
    return {key: value for key, value in parts[0].items() if key != "turns"}


@torch.inference_mode()
def _read(model: ListenModel, writer: DialogueWriter, batch: SpokenBatch) -> Read:
    heard: list[Tensor] = []
    hook = model.adapter.cues[0].register_forward_hook(lambda _, given, __: heard.append(given[0]))
    items: Sequence[Spoken] = [replace(item, reply=None) for item in batch.items]
    device = model.prompt_embeddings.device
    try:
        with quick_products(device):
            features = features_on(device, batch.features, model.encoder.global_cmvn.mean)
            spoken, _ = model.adapter.split(model.adapter(model.encoder(features)))
            hidden, _, chunks = model.think(items, writer, spoken, batch.lengths)
    finally:
        hook.remove()
    row, position, place, wanted, interrupting = chunks.unbind(1)
    judged = (wanted != IGNORED) | (interrupting != IGNORED)
    return {
        "hidden": hidden[row, position][judged].half().cpu(),
        "heard": heard[0][row, place][judged].half().cpu(),
        "wanted": wanted[judged].cpu(),
        "interrupting": interrupting[judged].cpu(),
    }


def fit(model: ListenModel, read: Read, seed: int) -> list[float]:
    """Fit state head and cues to what they read; returns the mean loss of every pass."""
    generator = torch.Generator().manual_seed(seed)
    device = model.prompt_embeddings.device
    hidden, heard = read["hidden"], read["heard"]
    wanted = torch.stack([read["wanted"], read["interrupting"]], dim=1)
    size = min(CHUNKS_PER_BATCH, len(wanted))
    steps = len(wanted) // size
    trained = (model.state_head, model.adapter.cues)
    model.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=PASSES * steps + 1, pct_start=0.05)
    means = []
    for _ in range(PASSES):
        order, total = torch.randperm(len(wanted), generator=generator), 0.0
        for picked in torch.split(order[: steps * size], size):
            logits = model.state_head(hidden[picked].to(device).float())
            logits = logits + model.adapter.cues(heard[picked].to(device).float())
            losses = model.state_losses(logits, wanted[picked].to(device))
            loss = STATE_WEIGHT * losses["state"] + INTERRUPTION_WEIGHT * losses["interruption"]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        means.append(total / steps)
    model.requires_grad_(False)
    return means


def calibrate(model: ListenModel, read: Read) -> tuple[float, float]:
    """Scale and shift the logit of an interruption (Platt 1999) to fit what was read of other turns than `fit` had.

    Returns both; the order of the probabilities stays.
    """
    judged = read["interrupting"] != IGNORED
    hidden, heard = (read[key][judged].to(model.prompt_embeddings.device).float() for key in ("hidden", "heard"))
    with torch.no_grad():
        logits = (model.state_head(hidden) + model.adapter.cues(heard))[:, INTERRUPTION_CLASS].cpu()
    wanted = read["interrupting"][judged].float()
    line = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(logits * line[0] + line[1], wanted)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, shift = line.tolist()
    with torch.no_grad():
        for layer, added in ((model.state_head, shift), (cast(nn.Linear, model.adapter.cues[-1]), 0.0)):
            layer.weight[INTERRUPTION_CLASS] *= scale
            layer.bias[INTERRUPTION_CLASS] = layer.bias[INTERRUPTION_CLASS] * scale + added
    return scale, shift
