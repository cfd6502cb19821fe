"""Stage 3: attach speech to the frozen LLM. First the adapter, with the encoder moving along and then alone; then the
state head and the prompt embeddings on timed turns.

The adapter learns to put the embedding of each piece where CTC heard it. The second part's gradient passes through the
LLM, whose weights never change.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.audio.features import CHUNK_FRAMES, NEW_FRAMES
from duplex.model.adapter import Adapter, as_pieces
from duplex.model.encoder import SpeechEncoder
from duplex.train.corpus import Utterance
from duplex.train.ctc_stage import (
    AUGMENTED_SHARE,
    BLANK_ID,
    CHARACTER_WEIGHT,
    STRENGTH,
    CtcHeads,
    characters,
    ctc_loss,
    mask_features,
    pad_features,
    piece_targets,
    placed,
    stream_features,
    vary_voice,
)
from duplex.train.loop import LoopOptions, train
from duplex.train.text_llm import IGNORED, PROMPT_POSITIONS, DialogueWriter
from duplex.train.world import Dialogue, Turn

POSITIONS_PER_CHUNK = 2
STATE_CLASSES = 4
ALIGN_WEIGHT = 0.5
LEARNED_WIDTH = 0.2  # as `piece_width`, of AdapterDims while the adapter is trained and of adapters without one
PIECE_WEIGHT = 3.0  # of a piece beside a blank
CTC_WEIGHT = 0.7
MASKED_SHARE = 0.7  # of the batches, while the encoder learns
STATE_WEIGHT = 1.0
REST_WEIGHT = 0.3


@dataclass
class Spoken:
    """One user turn for training: features from the start of the turn, and what surrounds it.

    features [3 + 16 * chunks, 80]; labels: per chunk class or IGNORED (empty: no state loss);
    before: token ids already in the conversation, up to and with the user prefix; reply None: nothing follows.
    """

    features: Tensor
    text: str
    before: list[int]
    reply: str | None
    labels: list[int] = field(default_factory=list)


class ListenModel(nn.Module):
    """Encoder, CTC heads, adapter, prompt embeddings and state head around a frozen LLM (not a submodule)."""

    def __init__(self, encoder: SpeechEncoder, heads: CtcHeads, adapter: Adapter, llm: Any, audio_start: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.adapter = adapter
        if adapter.dims.piece_width is not None:  # nothing beside the pieces until the state stage
            nn.init.zeros_(adapter.rest.weight)
            nn.init.zeros_(adapter.rest.bias)
        table = llm.get_input_embeddings().weight
        self.prompt_embeddings = nn.Parameter(table[audio_start].detach().float().repeat(PROMPT_POSITIONS, 1).clone())
        self.state_head = nn.Linear(table.shape[1], STATE_CLASSES)
        self._llm = [llm]  # in a list, so that its weights are neither saved nor trained here

    @property
    def llm(self) -> Any:
        """The frozen language model."""
        return self._llm[0]

    def forward(
        self, batch: Sequence[Spoken], writer: DialogueWriter, masked: Tensor, *, with_llm: bool
    ) -> dict[str, Tensor]:
        """Losses of one batch; `masked` is the padded, masked features [batch, frames, 80].

        Without the LLM what was heard counts (CTC, and the adapter's pieces); with it, the decision and the reply.
        """
        lengths = [(len(item.features) - CHUNK_FRAMES + NEW_FRAMES) // NEW_FRAMES * 4 for item in batch]
        encoded = self.encoder(masked.to(self.prompt_embeddings.device))
        adapted = self.adapter(encoded)
        if not with_llm:
            return self._heard_losses(batch, writer, encoded, adapted, lengths)
        losses = self._language_losses(batch, writer, adapted, lengths)
        state = losses.get("state", losses["reply"] * 0.0)
        rest = self._rest_size(adapted, lengths)
        return {**losses, "rest": rest, "loss": losses["reply"] + STATE_WEIGHT * state + REST_WEIGHT * rest}

    def _rest_size(self, adapted: Tensor, lengths: list[int]) -> Tensor:
        """Mean square of what the adapter adds to the pieces, in units of the LLM's embeddings."""
        table = self.llm.get_input_embeddings().weight
        rest = adapted[..., table.shape[1] :].float()
        rows = torch.cat([row[: length // 2] for row, length in zip(rest, lengths, strict=True)])
        return rows.square().mean() / table.float().square().mean() if rows.numel() else rest.sum()

    def _heard_losses(
        self, batch: Sequence[Spoken], writer: DialogueWriter, encoded: Tensor, adapted: Tensor, lengths: list[int]
    ) -> dict[str, Tensor]:
        """What was heard: the adapter's pieces, and CTC while the encoder is trained."""
        by_character, by_piece = self.heads.log_probs(encoded)
        align = self._align_loss(adapted, by_piece, batch, lengths, writer)
        if not by_piece.requires_grad:
            return {"loss": ALIGN_WEIGHT * align, "align": align}
        frames = torch.tensor(lengths)
        letters = ctc_loss(by_character, [characters(item.text) for item in batch], frames)
        pieces = ctc_loss(by_piece, [piece_targets(writer.encode(item.text)) for item in batch], frames)
        ctc = pieces + CHARACTER_WEIGHT * letters
        return {"loss": ALIGN_WEIGHT * align + CTC_WEIGHT * ctc, "align": align, "ctc": ctc}

    def _align_loss(
        self, adapted: Tensor, log_probs: Tensor, batch: Sequence[Spoken], lengths: list[int], writer: DialogueWriter
    ) -> Tensor:
        placed_rows = [
            place_pieces(log_probs[row, :length].detach().cpu(), item.text, writer)
            for row, (item, length) in enumerate(zip(batch, lengths, strict=True))
        ]
        return self._piece_loss(adapted, placed_rows, writer)

    def _piece_loss(self, adapted: Tensor, placed_rows: Sequence[Tensor | None], writer: DialogueWriter) -> Tensor:
        """How far the adapter's outputs [batch, positions, ...] are from the pieces that belong there."""
        table = self.llm.get_input_embeddings().weight.float()
        width = self.adapter.dims.piece_width or LEARNED_WIDTH
        rows = [(row, positions) for row, positions in enumerate(placed_rows) if positions is not None]
        if not rows:
            return adapted.sum() * 0.0
        wanted = torch.cat([positions for _, positions in rows]).to(table.device)
        made = torch.cat([adapted[row, : len(positions), : table.shape[1]].float() for row, positions in rows])
        with torch.autocast(table.device.type, enabled=False):
            # Minus the squared distances, without the squares of `made`, which all pieces of a position share.
            squares = table.square().sum(-1)
            nearness = (2.0 * made @ table.t() - squares) / squares.mean()
        error = F.cross_entropy(nearness / width, wanted, reduction="none")
        weight = torch.where(wanted == writer.blank, 1.0, PIECE_WEIGHT)
        row_of = torch.repeat_interleave(torch.tensor([len(positions) for _, positions in rows])).to(table.device)
        sums = torch.zeros(2, len(rows), device=table.device).index_add(
            1, row_of, torch.stack([error * weight, weight])
        )
        return (sums[0] / sums[1]).mean()

    def _language_losses(
        self, batch: Sequence[Spoken], writer: DialogueWriter, adapted: Tensor, lengths: list[int]
    ) -> dict[str, Tensor]:
        device = adapted.device
        embedding = self.llm.get_input_embeddings()
        if (width := self.adapter.dims.piece_width) is not None:
            adapted = as_pieces(adapted.float(), embedding.weight.float(), width)
        rows, targets, state_at, state_labels = [], [], [], []
        for index, item in enumerate(batch):
            before = embedding(torch.tensor(item.before, device=device)).float()
            audio = adapted[index, : lengths[index] // 2].float()
            parts = [before, self.prompt_embeddings, audio]
            start = len(item.before) + PROMPT_POSITIONS
            for chunk, label in enumerate(item.labels):
                if label != IGNORED:
                    state_at.append((index, start + POSITIONS_PER_CHUNK * (chunk + 1) - 1))
                    state_labels.append(label)
            target = [IGNORED] * (start + len(audio))
            if item.reply is not None:
                suffix, reply = list(writer.chat.suffix), writer.encode(item.reply)
                parts.append(embedding(torch.tensor([*suffix, *reply], device=device)).float())
                target += [IGNORED] * (len(suffix) - 1) + [*reply, writer.chat.end_of_turn]
            rows.append(torch.cat(parts))
            targets.append(torch.tensor(target))
        embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        wanted = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED).to(device)
        hidden = self.llm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        picked = wanted != IGNORED
        losses = {}
        if bool(picked.any()):
            logits = self.llm.lm_head(hidden[picked]).float()
            losses["reply"] = F.cross_entropy(logits, wanted[picked])
        else:
            losses["reply"] = hidden.sum() * 0.0
        if state_at:
            at = torch.tensor(state_at, device=device)
            logits = self.state_head(hidden[at[:, 0], at[:, 1]]).float()[:, : STATE_CLASSES - 1]
            wanted_state = torch.tensor(state_labels, device=device)
            losses["state"] = F.cross_entropy(logits, wanted_state, weight=torch.tensor(STATE_BALANCE, device=device))
            losses["state_right"] = (logits.argmax(-1) == wanted_state).float().mean()
        return losses


STATE_BALANCE = (1.0, 1.0, 1.0)


def place_pieces(log_probs: Tensor, text: str, writer: DialogueWriter) -> Tensor | None:
    """Which piece's embedding each 80 ms position should hold [frames / 2]: a piece stands where the best CTC
    alignment hears it, or at the next free position.

    log_probs [frames, vocabulary + 1]. None when the text does not fit into the frames.
    """
    frames = log_probs.shape[0]
    positions = torch.full((frames // 2,), writer.blank)
    pieces = writer.encode(text)
    if not pieces:
        return positions
    repeats = sum(a == b for a, b in itertools.pairwise(pieces))
    if len(pieces) + repeats > frames:
        return None
    path, _ = torchaudio.functional.forced_align(
        log_probs[None], torch.tensor([piece_targets(pieces)], dtype=torch.int32), blank=BLANK_ID
    )
    taken, previous, waiting = -1, BLANK_ID, iter(pieces)
    for frame, symbol in enumerate(path[0].tolist()):
        if symbol not in (BLANK_ID, previous):
            taken = max(frame // 2, taken + 1)
            if taken >= len(positions):
                return None
            positions[taken] = next(waiting)
        previous = symbol
    return positions


def conversation_before(writer: DialogueWriter, context: Sequence[Turn], rng: random.Random, *, cut: bool) -> list[int]:
    """Token ids up to and with the prefix of the next user turn; with `cut` the last reply was heard in part."""
    ids, _, _ = writer.write(Dialogue(list(context)), rng) if context else (writer.chat.system(), [], [])
    if cut and context:
        reply = writer.encode(context[-1].reply)
        drop = rng.randint(0, len(reply))
        ids = ids[: len(ids) - drop] if drop else ids
    return [*ids, *writer.chat.prefix]


def adapter_items(corpus: Sequence[Utterance], writer: DialogueWriter, seed: int) -> Iterator[Spoken]:
    """Endless single turns with their conversations."""
    rng = random.Random(seed)
    usable = [u for u in corpus if u.turn is not None]
    while True:
        rng.shuffle(usable)
        for utterance in usable:
            assert utterance.turn is not None
            before = conversation_before(writer, utterance.context, rng, cut=rng.random() < 0.2)
            pcm = placed(utterance, rng, STRENGTH if rng.random() < AUGMENTED_SHARE else 0.0)
            yield Spoken(stream_features(pcm), utterance.text, before, utterance.turn.reply)


def grouped(items: Iterator[Spoken], size: int) -> Iterator[list[Spoken]]:
    """Batches of similar length: every `16 * size` items are sorted and cut."""
    rng = random.Random(0)
    while True:
        block = sorted((next(items) for _ in range(16 * size)), key=lambda item: len(item.features))
        batches = [block[at : at + size] for at in range(0, len(block), size)]
        rng.shuffle(batches)
        yield from batches


def run(
    model: ListenModel,
    writer: DialogueWriter,
    items: Iterator[Spoken],
    folder: Path,
    options: LoopOptions,
    *,
    name: str,
    batch: int,
    trained: Sequence[nn.Module | nn.Parameter],
    with_llm: bool,
    device: str = "cpu",
) -> None:
    """Train the parts `trained` on `items`; everything else stays as it is, the LLM always."""
    for part in (model.llm, model):
        part.requires_grad_(False)
    for trainable in trained:
        trainable.requires_grad_(True)
    rng = random.Random(1)
    masked_share = MASKED_SHARE if model.encoder in trained else 0.0

    def loss_of(group: Any) -> dict[str, Tensor]:
        features, _ = pad_features([vary_voice(item.features, rng) for item in group])
        fill = model.encoder.global_cmvn.mean.cpu()
        masked = mask_features(features, rng, fill) if rng.random() < masked_share else features
        out: dict[str, Tensor] = model(group, writer, masked, with_llm=with_llm)
        return out

    train(name, model, grouped(items, batch), loss_of, folder, options, device=device)
