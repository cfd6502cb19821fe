"""What the ears make of the users' corpus: dialogues as the LLM will hear them, slips and doubts included.

The text LLM goes on with these, its future input, beside the written dialogues, and stands still from then on. Every turn
is disturbed and heard anew each time, so that no slip is learned by heart. No gradient passes between the two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from duplex.train.corpus import Utterance
from duplex.train.disguise import Clips, features_on, made_for, placed
from duplex.train.hearing import Heard
from duplex.train.listen_stage import ListenModel
from duplex.train.precision import quick_products
from duplex.train.workers import in_processes

DIALOGUES = 24  # that are heard at a time,
HEARD_BATCH = 16  # so many turns of similar length in one pass; on a GPU all, or it starts kernels all the time
CLEAN_SHARE = 0.2  # the others are disturbed at full strength: voices of training are as hard to hear as others then

Group = tuple[list[int], Tensor | Clips, list[int]]  # numbers of clips, what is heard, encoder frames of each


def dialogues_of(corpus: Sequence[Utterance]) -> list[list[int]]:
    """Numbers of the user turns of a corpus, dialogue by dialogue; a dialogue whose beginning is missing is left out."""
    dialogues: list[list[int]] = []
    for number, clip in enumerate(corpus):
        if clip.turn is None:
            continue
        if not clip.context:
            dialogues.append([number])
        elif dialogues and [corpus[i].turn for i in dialogues[-1]] == list(clip.context):
            dialogues[-1].append(number)
    return dialogues


def heard_dialogues(
    model: ListenModel, corpus: Sequence[Utterance], seed: int, workers: int = 0, batch_scale: int = 1
) -> Iterator[Sequence[Heard]]:
    """The corpus's dialogues without end, in a new order and disturbed in new ways each time round."""
    together = DIALOGUES * batch_scale
    dialogues = dialogues_of(corpus)
    device, fill = model.encoder.global_cmvn.mean.device.type, model.encoder.global_cmvn.mean.cpu()

    def made(own_seed: int) -> Iterator[tuple[list[list[int]], list[Group]]]:
        rng = random.Random(own_seed)
        while True:
            rng.shuffle(dialogues)
            for at in range(0, len(dialogues), together):
                chosen = dialogues[at : at + together]
                numbers = [number for dialogue in chosen for number in dialogue]
                groups = _groups(corpus, numbers, HEARD_BATCH if device == "cpu" else len(numbers), rng)
                yield chosen, [(who, made_for(device, clips, fill), frames) for who, clips, frames in groups]

    model.eval()
    for chosen, groups in in_processes(made, seed, workers):
        heard = {number: turn for group in groups for number, turn in _hear(model, corpus, group)}
        for dialogue in chosen:
            yield [heard[number] for number in dialogue]


def _groups(
    corpus: Sequence[Utterance], numbers: Sequence[int], size: int, rng: random.Random
) -> Iterator[tuple[list[int], Clips, list[int]]]:
    """Clips, disguised each in its own way, `size` of similar length together."""
    order = sorted(numbers, key=lambda number: len(corpus[number].pcm))
    for at in range(0, len(order), size):
        group = order[at : at + size]
        clips = placed([corpus[i].pcm for i in group], [float(rng.random() > CLEAN_SHARE) for _ in group], rng)
        yield group, clips, clips.encoder_frames


@torch.no_grad()
def _hear(model: ListenModel, corpus: Sequence[Utterance], group: Group) -> Iterator[tuple[int, Heard]]:
    """The two likeliest pieces of every position of a group's turns, the second one's share of both, and the words."""
    numbers, heard, lengths = group
    fill = model.encoder.global_cmvn.mean
    with quick_products(fill.device):
        frames = model.encoder(features_on(fill.device, heard, fill))
        pieces = model.adapter(frames)[..., : model.adapter.dims.pieces].float()
    weights, likeliest = (both.cpu() for both in pieces.softmax(-1).topk(2))
    doubt = weights[..., 1] / weights.sum(-1)
    positions_of = [frames // 2 for frames in lengths]
    words = [[]] * len(numbers) if model.search is None else model.search.words(pieces, positions_of)
    for row, (number, positions) in enumerate(zip(numbers, positions_of, strict=True)):
        turn = corpus[number].turn
        assert turn is not None
        first, second = likeliest[row, :positions].T.tolist()
        yield number, Heard(turn, first, second, doubt[row, :positions].tolist(), words[row])
