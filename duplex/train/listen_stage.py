"""Stage 3: attach speech to the frozen LLM. First the adapter, with the encoder moving along; then the state head and
the prompt embeddings on timed turns.

The adapter learns by CTC to weigh the LLM's pieces at its own, slower positions. The second part's gradient passes
through the LLM, whose weights never change.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.model.adapter import Adapter, as_pieces
from duplex.model.encoder import SpeechEncoder
from duplex.model.word_search import WordSearch
from duplex.train.corpus import Utterance, again_and_again
from duplex.train.ctc_stage import BLANK_ID, CHARACTER_WEIGHT, CtcHeads, characters, ctc_loss, pad_features
from duplex.train.dialogue_writer import IGNORED, PROMPT_POSITIONS, DialogueWriter
from duplex.train.disguise import (
    AUGMENTED_SHARE,
    STRENGTH,
    Clips,
    draw_voices,
    features_on,
    made_for,
    placed,
    vary_voices,
    with_masks,
)
from duplex.train.loop import LoopOptions, steps_done, train
from duplex.train.workers import in_processes
from duplex.train.world import Dialogue, Turn

POSITIONS_PER_CHUNK = 2
STATE_CLASSES = 4
INTERRUPTION_CLASS = 3  # of the state head; the official one leaves its last logit unused
FRESH_SHARE = 0.1  # of an adapter's random weights, where it begins as a CTC head
MASKED_SHARE = 0.7  # of the batches of single utterances
STATE_WEIGHT = 1.0
INTERRUPTION_WEIGHT = 1.0
REST_WEIGHT = 1.0
OWN = -1  # where a position's embedding is its token's, not one of the speech
SORTED_BATCHES = 16  # whose utterances are sorted by length together
SORTED_ITEMS = 256  # and timed turns: making one takes longer than a batch of utterances may take

T = TypeVar("T")


@dataclass
class Spoken:
    """One user turn for training: features from the start of the turn, and what surrounds it.

    features [3 + 16 * chunks, 80]; labels: per chunk class or IGNORED (empty: no state loss); interrupting: per chunk
    1 where the user is taking the floor from the agent, 0 where not, IGNORED where it is not judged;
    before: token ids already in the conversation, up to and with the user prefix; reply None: nothing follows.
    """

    features: Tensor
    text: str
    before: list[int]
    reply: str | None
    labels: list[int] = field(default_factory=list)
    interrupting: list[int] = field(default_factory=list)


@dataclass
class SpokenBatch:
    """Turns of similar length: their features padded to one tensor [batch, frames, 80] (those of `items` are left out), or
    the clips that these are still to be made of, and the encoder frames of each. What was said in pieces and in characters
    is only there for single utterances.
    """

    features: Tensor | Clips
    lengths: list[int]
    items: list[Spoken] = field(default_factory=list)
    pieces: list[list[int]] = field(default_factory=list)
    characters: list[list[int]] = field(default_factory=list)

    def pin_memory(self) -> SpokenBatch:
        """The same where a GPU fetches it from without waiting; torch's loader asks for it."""
        return replace(self, features=self.features.pin_memory())


class ListenModel(nn.Module):
    """Encoder, CTC heads, adapter, prompt embeddings and state head around a frozen LLM (not a submodule).

    search: finds the words that the LLM reads before a reply; None: it reads none.
    """

    search: WordSearch | None = None

    def __init__(self, encoder: SpeechEncoder, heads: CtcHeads, adapter: Adapter, llm: Any, audio_start: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.adapter = adapter
        for part in (adapter.rest, *([adapter.cues[-1]] if adapter.dims.cues else [])):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)  # nothing beside the pieces until the state stage
        self._llm = [llm]  # in a list, so that its weights are neither saved nor trained here
        self._audio_start = audio_start
        width = llm.get_input_embeddings().weight.shape[1]
        self.prompt_embeddings = nn.Parameter(torch.zeros(PROMPT_POSITIONS, width))
        self.begin_prompts()
        self.state_head = nn.Linear(width, STATE_CLASSES)

    @torch.no_grad()
    def begin_prompts(self) -> None:
        """Let every prompt embedding be the LLM's own of what announces audio."""
        self.prompt_embeddings.copy_(self.llm.get_input_embeddings().weight[self._audio_start])

    @property
    def llm(self) -> Any:
        """The frozen language model."""
        return self._llm[0]

    def forward(self, batch: SpokenBatch, writer: DialogueWriter, *, with_llm: bool) -> dict[str, Tensor]:
        """Losses of one batch.

        Without the LLM what was heard counts (CTC, and the adapter's pieces); with it, the decision and the reply.
        """
        fill = self.encoder.global_cmvn.mean
        encoded = self.encoder(features_on(self.prompt_embeddings.device, batch.features, fill))
        adapted = self.adapter(encoded)
        if not with_llm:
            return self._heard_losses(batch, writer.blank, encoded, adapted)
        losses = self._language_losses(batch.items, writer, adapted, batch.lengths)
        rest = self._rest_size(adapted, batch.lengths)
        loss = losses["reply"] + REST_WEIGHT * rest
        if "state" in losses:
            loss = loss + STATE_WEIGHT * losses["state"] + INTERRUPTION_WEIGHT * losses["interruption"]
        return {**losses, "rest": rest, "loss": loss}

    def _rest_size(self, adapted: Tensor, lengths: list[int]) -> Tensor:
        """Mean square of what the adapter adds to the pieces, in units of the LLM's embeddings."""
        table = self.llm.get_input_embeddings().weight
        rest = self.adapter.split(adapted)[0][..., self.adapter.dims.pieces :].float()
        rows = torch.cat([row[: length // 2] for row, length in zip(rest, lengths, strict=True)])
        return rows.square().mean() / table.float().square().mean() if rows.numel() else rest.sum()

    def _heard_losses(self, batch: SpokenBatch, blank: int, encoded: Tensor, adapted: Tensor) -> dict[str, Tensor]:
        """What was heard: the adapter's pieces, and characters to keep the encoder to the sounds."""
        frames = torch.tensor(batch.lengths)
        by_character = F.log_softmax(self.heads.characters(encoded).float(), dim=-1)
        by_piece = F.log_softmax(adapted[..., : self.adapter.dims.pieces].float(), dim=-1)
        pieces = ctc_loss(by_piece, batch.pieces, frames // 2, blank)
        letters = ctc_loss(by_character, batch.characters, frames)
        return {"loss": pieces + CHARACTER_WEIGHT * letters, "pieces": pieces, "characters": letters}

    @torch.inference_mode()
    def judged(self, batch: Sequence[Spoken], writer: DialogueWriter) -> tuple[Tensor, Tensor, Tensor]:
        """The state head's logits [n, 4] at every chunk of the batch, and what was wanted of each: class [n] and
        interruption [n], IGNORED where either is not judged.
        """
        features, lengths = pad_features([item.features for item in batch])
        adapted = self.adapter(self.encoder(features.to(self.prompt_embeddings.device)))
        spoken, cues = self.adapter.split(adapted)
        hidden, _, chunks = self.think(batch, writer, spoken, lengths.tolist())
        *_, wanted, interrupts = chunks.unbind(1)
        return self._state_logits(hidden, cues, chunks), wanted, interrupts

    def _language_losses(
        self, batch: Sequence[Spoken], writer: DialogueWriter, adapted: Tensor, lengths: list[int]
    ) -> dict[str, Tensor]:
        spoken, cues = self.adapter.split(adapted)
        hidden, wanted, chunks = self.think(batch, writer, spoken, lengths)
        picked = wanted != IGNORED
        losses = {}
        if bool(picked.any()):
            logits = self.llm.lm_head(hidden[picked]).float()
            losses["reply"] = F.cross_entropy(logits, wanted[picked])
        else:
            losses["reply"] = hidden.sum() * 0.0
        if len(chunks):
            losses |= self.state_losses(self._state_logits(hidden, cues, chunks), chunks)
        return losses

    def think(
        self, batch: Sequence[Spoken], writer: DialogueWriter, adapted: Tensor, lengths: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The LLM's hidden states [batch, n, llm_dim] over the conversations, the reply token that each position is to
        predict [batch, n], and of every chunk [chunks, 5] row, position, that of the adapter, wanted state, wanted
        interruption.
        """
        device = adapted.device
        embedding = self.llm.get_input_embeddings()
        words = self._words(batch, adapted, lengths)
        adapted = as_pieces(adapted, embedding.weight.float())
        ids, targets, sources = [], [], []
        chunks: list[tuple[int, ...]] = []
        for index, item in enumerate(batch):
            positions = lengths[index] // 2
            first = len(item.before) + PROMPT_POSITIONS
            row = [*item.before, *[0] * (PROMPT_POSITIONS + positions)]
            target = [IGNORED] * len(row)
            source = [OWN] * len(item.before) + [*range(PROMPT_POSITIONS + positions)]
            for chunk, (label, interrupts) in enumerate(zip(item.labels, item.interrupting, strict=True)):
                last = POSITIONS_PER_CHUNK * (chunk + 1) - 1
                chunks.append((index, first + last, last, label, interrupts))
            if item.reply is not None:
                suffix, reply = list(writer.chat.suffix), writer.encode(item.reply)
                row += [*words[index], *suffix, *reply]  # read again before the reply
                target += [IGNORED] * (len(words[index]) + len(suffix) - 1) + [*reply, writer.chat.end_of_turn]
            ids.append(torch.tensor(row))
            targets.append(torch.tensor(target))
            sources.append(torch.tensor(source + [OWN] * (len(row) - len(source))))
        embeds = embedding(nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)).float()
        from_speech = nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=OWN).to(device)[..., None]
        spoken = torch.cat([self.prompt_embeddings.expand(len(batch), -1, -1), adapted.float()], dim=1)
        there = spoken.gather(1, from_speech.clamp(min=0).expand(-1, -1, spoken.shape[2]))
        embeds = torch.where(from_speech == OWN, embeds, there)
        wanted = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(device)
        hidden = self.llm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return hidden, wanted, torch.tensor(chunks, device=device, dtype=torch.long).reshape(-1, 5)

    def _words(self, batch: Sequence[Spoken], adapted: Tensor, lengths: list[int]) -> list[list[int]]:
        """What the search finds in each turn that is replied to."""
        if self.search is None:
            return [[] for _ in batch]
        positions = [length // 2 if item.reply is not None else 0 for item, length in zip(batch, lengths, strict=True)]
        return self.search.words(adapted[..., : self.adapter.dims.pieces].detach(), positions)

    def _state_logits(self, hidden: Tensor, cues: Tensor, chunks: Tensor) -> Tensor:
        """Logits [chunks, 4] of the state head on the LLM's hidden states, with the adapter's cues if it has some."""
        row, position, heard, *_ = chunks.unbind(1)
        logits: Tensor = self.state_head(hidden[row, position]).float()
        return logits + cues[row, heard].float() if self.adapter.dims.cues else logits

    def state_losses(self, logits: Tensor, chunks: Tensor) -> dict[str, Tensor]:
        """Of logits [n, 4]: decision and interruption of each of `chunks`, whose last two columns are what was wanted."""
        *_, wanted, interrupts = chunks.unbind(1)
        judged, spoken_over = wanted != IGNORED, interrupts != IGNORED
        states, wanted = logits[judged, :INTERRUPTION_CLASS], wanted[judged]
        interruption = F.binary_cross_entropy_with_logits(
            logits[spoken_over, INTERRUPTION_CLASS], interrupts[spoken_over].float(), reduction="sum"
        )
        count = max(1, len(wanted))
        return {
            "state": F.cross_entropy(states, wanted, reduction="sum") / count,
            "state_right": (states.argmax(-1) == wanted).sum() / count,
            "interruption": interruption / max(1, int(spoken_over.sum())),
        }


def hear_like(adapter: Adapter, head: nn.Linear, blank: int) -> None:
    """Let an adapter begin as the CTC head [vocabulary + 1] of the same encoder.

    The last two frames that a position sees (position t ends with frame 2t) are summed and go through the head's
    weights. Half of the channels hold the sums, half their negatives, so that the activation between keeps them whole.
    Does nothing to the kind with two convolutions.
    """
    if adapter.dims.convolutions != 1:
        return
    convolution, project, width = adapter.conv1d2, adapter.project, adapter.dims.encoder_dim
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.mul_(FRESH_SHARE)
        same = torch.eye(width)[..., None]
        convolution.weight[:width, :, -2:] += same
        convolution.weight[width:, :, -2:] -= same
        by_id = torch.arange(1, len(head.weight))
        by_id[blank] = BLANK_ID
        project.weight.copy_(torch.cat([head.weight[by_id], -head.weight[by_id]], dim=1))
        project.bias.copy_(head.bias[by_id])


def conversation_before(writer: DialogueWriter, context: Sequence[Turn], rng: random.Random, *, cut: bool) -> list[int]:
    """Token ids up to and with the prefix of the next user turn; with `cut` the last reply was heard in part."""
    ids = writer.write(Dialogue(list(context)), rng).ids if context else writer.chat.system()
    if cut and context:
        reply = writer.encode(context[-1].reply)
        drop = rng.randint(0, len(reply))
        ids = ids[: len(ids) - drop] if drop else ids
    return [*ids, *writer.chat.prefix]


def clip_batches(
    corpus: Sequence[Utterance], writer: DialogueWriter, size: int, seed: int, device: str, fill: Tensor
) -> Iterator[SpokenBatch]:
    """Endless batches of single utterances of similar length, each in a disguise of its own, for a model on `device`;
    `fill` [80] stands where they are masked.
    """
    rng = random.Random(seed)
    order = again_and_again(corpus, rng)
    while True:
        for group in _similar(list(itertools.islice(order, SORTED_BATCHES * size)), size, _samples, rng):
            strengths = [STRENGTH if rng.random() < AUGMENTED_SHARE else 0.0 for _ in group]
            clips = placed([utterance.pcm for utterance in group], strengths, rng)
            if rng.random() < MASKED_SHARE:
                clips = with_masks(clips, rng)
            texts = [utterance.text for utterance in group]
            yield SpokenBatch(
                made_for(device, clips, fill), clips.encoder_frames, pieces=[writer.encode(text) for text in texts],
                characters=[characters(text) for text in texts],
            )  # fmt: skip


def _samples(utterance: Utterance) -> int:
    return len(utterance.pcm)


def spoken_batches(items: Iterator[Spoken], size: int, seed: int) -> Iterator[SpokenBatch]:
    """Batches of turns of similar length, each in another voice."""
    rng = random.Random(seed)
    while True:
        block = list(itertools.islice(items, max(SORTED_ITEMS, size)))
        for group in _similar(block, size, lambda item: len(item.features), rng):
            features, lengths = pad_features([item.features for item in group])
            features = vary_voices(features, draw_voices(len(group), np.random.default_rng(rng.getrandbits(64))))
            turns = [replace(item, features=features[:0, 0]) for item in group]
            yield SpokenBatch(features, lengths.tolist(), turns)


def _similar(block: Sequence[T], size: int, length: Callable[[T], int], rng: random.Random) -> list[list[T]]:
    """What is of similar length together, so many at a time, in any order."""
    block = sorted(block, key=length)
    groups = [block[at : at + size] for at in range(0, len(block), size)]
    rng.shuffle(groups)
    return groups


def run(
    model: ListenModel,
    writer: DialogueWriter,
    batches: Callable[[int], Iterator[SpokenBatch]],
    folder: Path,
    options: LoopOptions,
    *,
    name: str,
    seed: int,
    trained: Sequence[nn.Module | nn.Parameter],
    with_llm: bool,
    device: str = "cpu",
    workers: int = 0,
) -> None:
    """Train the parts `trained` on the endless `batches(seed)`; everything else stays as it is, the LLM always."""
    for part in (model.llm, model):
        part.requires_grad_(False)
    for trainable in trained:
        trainable.requires_grad_(True)

    def loss_of(group: Any) -> dict[str, Tensor]:
        out: dict[str, Tensor] = model(group, writer, with_llm=with_llm)
        return out

    first = seed + steps_done(folder)  # a run that goes on hears other things than it began with
    train(name, model, in_processes(batches, first, workers), loss_of, folder, options, device=device)
