"""What the ears make of the users' corpus: dialogues as the LLM will hear them, slips and doubts included.

The text LLM goes on with these recordings of its future input beside the written dialogues, and stands still from
then on. No gradient passes between the two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from duplex.train.corpus import Utterance
from duplex.train.ctc_stage import pad_features, placed, stream_features, vary_pace, vary_voice
from duplex.train.hearing import Heard
from duplex.train.listen_stage import ListenModel

HEARD_BATCH = 16
CLEAN_SHARE = 0.2  # the others are disturbed at full strength: voices of training are as hard to hear as others then

Kept = tuple[int, Tensor, Tensor]  # number of the clip; its pieces [n, 2] and their weights [n, 2]


@torch.inference_mode()
def hear(model: ListenModel, corpus: Sequence[Utterance], seed: int) -> Iterator[Kept]:
    """Every user turn of a corpus once, each disturbed and varied in its own way."""
    rng = random.Random(seed)
    turns = [number for number, clip in enumerate(corpus) if clip.turn is not None]
    turns.sort(key=lambda number: len(corpus[number].pcm))
    device = model.prompt_embeddings.device
    for at in tqdm(range(0, len(turns), HEARD_BATCH), desc="what the ears make of it", mininterval=5.0):
        group = turns[at : at + HEARD_BATCH]
        rows = [stream_features(placed(corpus[i], rng, float(rng.random() > CLEAN_SHARE))) for i in group]
        features, lengths = pad_features([vary_voice(vary_pace(row, rng), rng) for row in rows])
        adapted = model.adapter(model.encoder(features.to(device)))[..., : model.adapter.dims.pieces]
        weights, pieces = (both.cpu() for both in adapted.float().softmax(-1).topk(2))
        for row, (number, frames) in enumerate(zip(group, lengths.tolist(), strict=True)):
            yield number, pieces[row, : frames // 2].short(), weights[row, : frames // 2].half()


def heard_dialogues(model: ListenModel, corpus: Sequence[Utterance], file: Path, seed: int) -> list[list[Heard]]:
    """The corpus's dialogues as they were heard, kept in `file`."""
    if file.exists():
        kept: list[Kept] = torch.load(file, weights_only=True)
    else:
        kept = list(hear(model.eval(), corpus, seed))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(kept, file)
    dialogues: list[list[Heard]] = []
    for number, pieces, weights in sorted(kept, key=lambda one: one[0]):
        clip = corpus[number]
        assert clip.turn is not None
        doubt = weights[:, 1].float() / weights.float().sum(-1)
        turn = Heard(clip.turn, pieces[:, 0].tolist(), pieces[:, 1].tolist(), doubt.tolist())
        if clip.context and dialogues and tuple(heard.turn for heard in dialogues[-1]) == clip.context:
            dialogues[-1].append(turn)
        elif not clip.context:
            dialogues.append([turn])
    return dialogues
