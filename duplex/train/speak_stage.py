"""Stage 5: the speech decoder, from text and the LLM's hidden states to codec tokens, teacher-forced."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from duplex.model.lexicon import Lexicon
from duplex.model.segmenter import post_process
from duplex.model.speech_decoder import SpeechDecoder, SpeechDecoderDims
from duplex.train.codec_stage import CLIP_RATE, SAMPLE_RATE, CodecTrainer, to_codec_rate
from duplex.train.corpus import Utterance
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.loop import LoopOptions, fresh, steps_done, train
from duplex.train.workers import in_processes
from duplex.train.world import Dialogue, Turn, sample_dialogue

CODES_PER_BATCH = 4500
BLOCK = 512  # clips of which batches of similar length are made
# Against exposure bias, codes that are fed back are replaced: by any others,
CORRUPTED_CODES = 0.05
# and in some batches by what the decoder itself would have said (scheduled sampling in two passes, Mihaylova and
# Martins 2019), up to this share of a clip.
GUESSED_BATCHES = 0.5
GUESSED_MOST = 0.5
# What the LLM thinks while it says a word depends on all that was said before, and no training has heard all of it:
FOREIGN_HIDDEN = 0.5  # share of clips that get the hidden states of another one; the text alone tells what to say
HIDDEN_NOISE = 0.3  # on the other clips' own ones, in units of their root mean square
DRAWN_TO_MEAN = 10.0  # clips' worth of a symbol's count at which the mean and the corpus weigh alike
SPELLED_TO_MEASURE = 0.5  # of them are, where it is found out how long phones and letters last
SPELLED_WORDS = 0.1  # of the known words are read by their letters, so that unknown ones can be said
DIALOGUES_FOR_CONTEXTS = 40_000
HIDDEN_BATCH = 32  # conversations
CODED_BATCH = 64  # clips


Reader = Callable[[str], list[int]]  # text to what the decoder reads


@dataclass
class Spoken:
    """One clip of the agent: text as spoken, hidden states of the text as written [n, llm_dim], codes [c]."""

    text: str
    hidden: Tensor
    codes: Tensor


@dataclass
class Batch:
    """Clips of similar length, padded: what the decoder reads [batch, n], hidden states [batch, rows, llm_dim], codes
    [batch, c] (with the end's code behind them); and how many of each there are [batch].
    """

    read: Tensor
    read_lengths: Tensor
    hidden: Tensor
    hidden_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor

    @classmethod
    def of(cls, clips: Sequence[Spoken], read: Reader, eos: int) -> Batch:
        """Clips whose texts are read by `read`."""
        return cls(
            *_padded([torch.tensor(read(clip.text)) for clip in clips]),
            *_padded([clip.hidden for clip in clips]),
            *_padded([clip.codes for clip in clips], eos),
        )

    def to(self, device: torch.device) -> Batch:
        """The same there."""
        return Batch(*(getattr(self, part.name).to(device) for part in fields(self)))


def reply_contexts(rng: random.Random) -> dict[str, tuple[list[Turn], int, int]]:
    """For replies and for their sentences: a conversation that holds them, and their characters in its last reply."""
    found: dict[str, tuple[list[Turn], int, int]] = {}
    for _ in range(DIALOGUES_FOR_CONTEXTS):
        turns = sample_dialogue(rng, "train").turns
        for position, turn in enumerate(turns):
            found[turn.reply] = (turns[: position + 1], 0, len(turn.reply))
            for match in re.finditer(r"[^.!?]+[.!?]+", turn.reply):
                text = match.group().strip()
                start = turn.reply.index(text)
                found.setdefault(text, (turns[: position + 1], start, start + len(text)))
    return found


def reply_rows(
    writer: DialogueWriter, turns: Sequence[Turn], start: int, end: int, rng: random.Random
) -> tuple[list[int], list[int]]:
    """A conversation's token ids, and the positions that predict the pieces of characters [start, end) of its last
    reply.
    """
    ids = writer.write(Dialogue(list(turns)), rng).ids
    reply = writer.encode(turns[-1].reply)
    first = len(ids) - len(reply) - 1
    ends = [len(writer.decode(reply[: i + 1])) for i in range(len(reply))]
    return ids, [first + i for i, stop in enumerate(ends) if start < stop <= end]


@torch.inference_mode()
def hidden_rows(llm: Any, asked: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
    """Hidden states [rows, llm_dim] of each conversation (ids, rows), in batches of similar length."""
    found: list[Tensor] = [torch.zeros(0)] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]))
    for at in tqdm(range(0, len(order), HIDDEN_BATCH), desc="speech decoder hidden states", mininterval=5.0):
        group = order[at : at + HIDDEN_BATCH]
        # Padding stands behind what is asked for, where causal attention does not look.
        ids = pad_sequence([torch.tensor(asked[i][0]) for i in group], batch_first=True).to(llm.device)
        hidden = llm.model(ids, use_cache=False).last_hidden_state.float().cpu()
        for row, i in enumerate(group):
            found[i] = hidden[row, asked[i][1]].clone()
    return found


@torch.inference_mode()
def codes_of(codec: CodecTrainer, clips: Sequence[np.ndarray]) -> list[Tensor]:
    """Codes of each clip [samples] int16 at 16 kHz; clips of as many codes are coded together."""
    codec.eval()
    device, hop = codec.quantizer.codebook.embedding.weight.device, codec.generator.samples_per_token
    hop = hop * CLIP_RATE // SAMPLE_RATE
    found: list[Tensor] = [torch.zeros(0)] * len(clips)
    order = sorted(range(len(clips)), key=lambda number: -(-len(clips[number]) // hop))
    with tqdm(total=len(order), desc="speech decoder codes", mininterval=5.0) as progress:
        for tokens, numbers in itertools.groupby(order, key=lambda number: -(-len(clips[number]) // hop)):
            for group in _at_most(CODED_BATCH, list(numbers)):
                rows = np.stack([np.pad(clips[number], (0, tokens * hop - len(clips[number]))) for number in group])
                coded = codec.codes(to_codec_rate(torch.from_numpy(rows).to(device)))
                for number, codes in zip(group, coded.cpu(), strict=True):
                    found[number] = codes.clone()
                progress.update(len(group))
    return found


def _at_most(count: int, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[at : at + count] for at in range(0, len(numbers), count))


def prepare(
    corpus: Sequence[Utterance],
    codec: CodecTrainer,
    llm: Any,
    writer: DialogueWriter,
    cache: Path,
    seed: int,
) -> list[Spoken]:
    """Codes, text and hidden states of every clip; kept in `cache`."""
    if cache.exists():
        saved = torch.load(cache, weights_only=True)
        return [Spoken(text, hidden.float(), codes) for text, hidden, codes in saved]
    rng = random.Random(seed)
    contexts = reply_contexts(rng)
    asked = []
    for clip in corpus:
        if clip.text in contexts:
            turns, start, end = contexts[clip.text]
        else:
            words = " ".join(re.findall(r"[a-z']+", clip.text.lower()))
            turns, start, end = [Turn(f"say {words}", clip.text, "repeat", ())], 0, len(clip.text)
        asked.append(reply_rows(writer, turns, start, end, rng))
    hidden = hidden_rows(llm, asked)
    clips = [(post_process(clip.text), clip.pcm, rows) for clip, rows in zip(corpus, hidden, strict=True)]
    clips = [(text, pcm, rows) for text, pcm, rows in clips if len(rows) and text]
    codes = codes_of(codec, [pcm for _, pcm, _ in clips])
    spoken = [Spoken(text, rows, of_clip) for (text, _, rows), of_clip in zip(clips, codes, strict=True)]
    cache.parent.mkdir(parents=True, exist_ok=True)
    torch.save([(s.text, s.hidden.half(), s.codes) for s in spoken], cache.with_suffix(".tmp"))
    cache.with_suffix(".tmp").replace(cache)
    return spoken


def groups(items: Sequence[Spoken], seed: int, batch_scale: int = 1) -> Iterator[list[Spoken]]:
    """Endless groups of clips of similar length, about CODES_PER_BATCH times `batch_scale` codes each."""
    rng = random.Random(seed)
    order = list(items)
    while True:
        rng.shuffle(order)
        for at in range(0, len(order), BLOCK * batch_scale):
            block = sorted(order[at : at + BLOCK * batch_scale], key=lambda item: len(item.codes))
            together: list[list[Spoken]] = [[]]
            for item in block:
                if (len(together[-1]) + 1) * len(item.codes) > CODES_PER_BATCH * batch_scale and together[-1]:
                    together.append([])
                together[-1].append(item)
            rng.shuffle(together)
            yield from together


def codes_of_symbols(items: Sequence[Spoken], read: Reader, symbols: int) -> Tensor:
    """How many codes each symbol of a text lasts [symbols], by least squares over whole clips, drawn to the mean."""
    counts = torch.stack([torch.bincount(torch.tensor(read(i.text)), minlength=symbols) for i in items]).double()
    lengths = torch.tensor([len(item.codes) for item in items], dtype=torch.float64)
    mean = lengths.sum() / counts.sum()
    drawn = counts.T @ counts + DRAWN_TO_MEAN * torch.eye(symbols, dtype=torch.float64)
    beside = torch.linalg.solve(drawn, counts.T @ (lengths - mean * counts.sum(1)))
    lasting: Tensor = (mean + beside).clamp(min=0.0).float()
    return lasting


def decoder_loss(
    decoder: SpeechDecoder, embedding: torch.nn.Embedding, batch: Batch, *, corrupt: bool
) -> dict[str, Tensor]:
    """Cross-entropy of the codes and the end."""
    dims = decoder.dims
    device = decoder.embedding.weight.device
    batch = batch.to(device)
    text, places = decoder.read(batch.read, embedding)
    hidden, rows = _hidden(batch, corrupt=corrupt)
    prefix = decoder.split(hidden)
    symbols = batch.read_lengths * text.shape[1] // batch.read.shape[1]
    before = (text, symbols, prefix, rows * (hidden.shape[2] // dims.dim))
    codes, fed = batch.codes, batch.codes
    if corrupt:
        noise = torch.rand(codes.shape, device=device) < CORRUPTED_CODES
        fed = torch.where(noise, torch.randint(dims.codes, codes.shape, device=device), codes)
    if corrupt and float(torch.rand(())) < GUESSED_BATCHES:
        with torch.no_grad():
            guessed = decoder(*before, fed, places)[:, :-1, : dims.codes].argmax(-1)
        share = torch.rand(len(codes), 1, device=device) * GUESSED_MOST
        fed = torch.where(torch.rand(codes.shape, device=device) < share, guessed, fed)
    logits = decoder(*before, fed, places)
    wanted = F.pad(codes, (0, 1), value=dims.eos)
    inside = torch.arange(wanted.shape[1], device=device)[None] <= batch.code_lengths[:, None]
    logits, wanted = logits[inside].float(), wanted[inside]
    loss = F.cross_entropy(logits, wanted, label_smoothing=0.05)
    return {"loss": loss, "right": (logits.argmax(-1) == wanted).float().mean()}


def _readers(decoder: SpeechDecoder, encode: Reader) -> tuple[Reader, Callable[[float, int], Reader]]:
    """How the decoder reads a text, and how it does with a share of the known words spelled, drawn with a seed."""
    if not decoder.dims.symbols:
        return encode, lambda *_: encode
    lexicon = decoder.lexicon

    def spelling(share: float, seed: int) -> Reader:
        rng = random.Random(seed)
        return lambda text: lexicon.symbols_of(text, lambda: rng.random() < share)

    return lexicon.symbols_of, spelling


def _padded(rows: Sequence[Tensor], filler: float = 0) -> tuple[Tensor, Tensor]:
    """Rows [n, ...] as one tensor [batch, longest, ...], and the length of each."""
    together = pad_sequence(list(rows), batch_first=True, padding_value=filler)
    return together, torch.tensor([len(row) for row in rows])


def _hidden(batch: Batch, *, corrupt: bool) -> tuple[Tensor, Tensor]:
    """Hidden states [batch, longest, llm_dim] of each clip, or of another one, or with noise; and how many of each."""
    own, rows = batch.hidden.float(), batch.hidden_lengths
    if not corrupt:
        return own, rows
    mean_square = own.square().sum((1, 2)) / (rows * own.shape[2]).clamp(min=1)
    noisy = own + HIDDEN_NOISE * mean_square.sqrt()[:, None, None] * torch.randn_like(own)
    foreign = torch.rand(len(own), device=own.device) < FOREIGN_HIDDEN
    return torch.where(foreign[:, None, None], own.roll(1, 0), noisy), torch.where(foreign, rows.roll(1), rows)


def run(
    items: Sequence[Spoken],
    llm: Any,
    encode: Reader,
    folder: Path,
    dims: SpeechDecoderDims,
    lexicon: Lexicon,
    options: LoopOptions,
    seed: int,
    *,
    device: str = "cpu",
    workers: int = 0,
    start_from: Callable[[SpeechDecoder], None] = fresh,
    batch_scale: int = 1,
) -> SpeechDecoder:
    """Train on all but 100 clips (of few clips, half), which are scored every 500 steps. Raises ValueError."""
    torch.manual_seed(seed)
    decoder = SpeechDecoder(dims, lexicon).to(device)
    read, spelling = _readers(decoder, encode)
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.03)
    if dims.symbols:
        decoder.symbol_codes.copy_(codes_of_symbols(items, spelling(SPELLED_TO_MEASURE, seed), dims.symbols))
    start_from(decoder)
    embedding = llm.get_input_embeddings()
    shuffled = random.Random(seed).sample(list(items), len(items))
    if len(shuffled) < 2:
        raise ValueError(f"{len(shuffled)} clips are too few to train a speech decoder and score it")
    scored = min(100, len(shuffled) // 2)
    held_out, used = shuffled[:scored], shuffled[scored:]

    def loss_of(batch: Any) -> dict[str, Tensor]:
        return decoder_loss(decoder, embedding, batch, corrupt=True)

    def evaluate() -> dict[str, float]:
        parts = [held_out[at : at + 20] for at in range(0, scored, 20)]
        rows = [decoder_loss(decoder, embedding, Batch.of(part, read, dims.eos), corrupt=False) for part in parts]
        return {key: float(torch.stack([row[key] for row in rows]).mean()) for key in rows[0]}

    def made(own_seed: int) -> Iterator[Batch]:
        read_to_learn = spelling(SPELLED_WORDS, own_seed)
        for group in groups(used, own_seed, batch_scale):
            yield Batch.of(group, read_to_learn, dims.eos)

    first = seed + steps_done(folder)
    train(
        "speech-decoder", decoder, in_processes(made, first, workers), loss_of, folder, options, device=device,
        evaluate=evaluate, evaluate_every=500,
    )  # fmt: skip
    return decoder
