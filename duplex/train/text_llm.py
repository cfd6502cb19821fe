"""Stage 1: the text LLM, a small Qwen2 trained on dialogues of the world."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from duplex.model.llm import load_tokenizer
from duplex.train.dialogue_writer import IGNORED, DialogueWriter, Example
from duplex.train.hearing import Heard, Mishearing
from duplex.train.loop import LoopOptions, fresh, steps_done, train
from duplex.train.precision import product_dtype
from duplex.train.tokenizer import make_tokenizer
from duplex.train.workers import in_processes
from duplex.train.world import Dialogue, answer_is_right, sample_dialogue

TOKENS_PER_BATCH = 4096
BLOCK = 512  # dialogues of which batches are made,
HEARD_BLOCK = 96  # and of those that were heard; before the first step all of them have to be heard
HEARD_SHARE = 0.4  # of the batches, where there are dialogues as the ears heard them


Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # the fields of Example, each [batch, length]


@dataclass(frozen=True)
class TextLlmDims:
    """Sizes of the small Qwen2."""

    vocabulary: int = 1800
    hidden: int = 256
    layers: int = 7
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 896
    max_positions: int = 4096


def new_model(dims: TextLlmDims, tokenizer: Any) -> Any:
    """A random Qwen2 of these sizes."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=dims.vocabulary,
        hidden_size=dims.hidden,
        intermediate_size=dims.feed_forward,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        num_key_value_heads=dims.kv_heads,
        max_position_embeddings=dims.max_positions,
        tie_word_embeddings=True,  # a word to be repeated is looked up, not learned twice
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.03,
    )
    return Qwen2ForCausalLM(config)


def quicken(model: Any, device: str) -> None:
    """Let a Qwen2 be trained by quicker kernels: its norms are one each, in the residual stream's own precision. On a CPU
    the gradient of the fused attention kernel takes longer than that of the products in it.
    """
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

    if device == "cpu":
        model.set_attn_implementation("eager")
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = functools.partial(_normed, module)  # type: ignore[method-assign]


def _normed(norm: Any, x: Tensor) -> Tensor:
    weight: Tensor = norm.weight
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), norm.variance_epsilon)


DRILLED = (
    "arithmetic.",
    "repeat.",
    "number.",
    "again",
    "fact.",
    "spell.",
    "count.",
    "bigger.",
    "memory.",
    "time.",
    "date.",
)  # what takes most practice
REPLY_MARGIN = 12  # pieces that a reply may have more than the right one before it is cut
DRILLED_SHARE = 0.4  # of the dialogues have one of these


def practice(rng: random.Random) -> Iterator[Dialogue]:
    """Endless dialogues, the hard subjects more often than people ask for them."""
    while True:
        drilled = rng.random() < DRILLED_SHARE
        while True:
            dialogue = sample_dialogue(rng, "train")
            if not drilled or any(turn.intent.startswith(DRILLED) for turn in dialogue.turns):
                break
        yield dialogue


def written_examples(writer: DialogueWriter, seed: int) -> Iterator[Example]:
    """Endless dialogues, typed or as a recogniser might write them."""
    rng = random.Random(seed)
    for dialogue in practice(rng):
        yield writer.write(dialogue, rng)


def heard_examples(writer: DialogueWriter, dialogues: Iterable[Sequence[Heard]], seed: int) -> Iterator[Example]:
    """Dialogues as the ears wrote them."""
    rng = random.Random(seed)
    for dialogue in dialogues:
        yield writer.write(Dialogue([heard.turn for heard in dialogue]), rng, heard=dialogue)


def batches(examples: Iterator[Example], tokens: int, seed: int, block: int) -> Iterator[Batch]:
    """Endless padded batches of about `tokens` positions, of examples of similar length among `block` at a time."""
    rng = random.Random(seed)
    while True:
        groups: list[list[Example]] = [[]]
        for example in sorted(itertools.islice(examples, block), key=lambda one: len(one.ids)):
            if (len(groups[-1]) + 1) * len(example.ids) > tokens:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        yield from (pad(group) for group in groups if group)


def mixed(one: Iterator[Batch], other: Iterator[Batch], share: float, seed: int) -> Iterator[Batch]:
    """Batches of `one`, a share of them of `other`."""
    rng = random.Random(seed)
    while True:
        yield next(other if rng.random() < share else one)


def pad(group: Sequence[Example]) -> Batch:
    """Right-pad to one length; padding has target IGNORED and kind 0."""
    length = max(len(example.ids) for example in group)

    def column(rows: Sequence[Sequence[float]], filler: int) -> Tensor:
        return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])

    return (
        column([example.ids for example in group], 0),
        column([example.targets for example in group], IGNORED),
        column([example.kinds for example in group], 0),
        column([example.second for example in group], 0),
        column([example.doubt for example in group], 0).float(),
    )


USER_WEIGHT = 0.15  # of predicting the user's next piece, beside 1 for the reply


def language_loss(model: Any, embeddings: Tensor, targets: Tensor, kinds: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of replies plus a little of the user's own words; embeddings [batch, n, dim], the others [batch, n]."""
    counted = kinds > 0  # not half of the positions, and the vocabulary is the widest layer
    hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[counted]
    kinds, targets = kinds[counted], targets[counted]
    losses = F.cross_entropy(model.lm_head(hidden).float(), targets, ignore_index=IGNORED, reduction="none")
    reply = losses[kinds == 2].mean()
    user = losses[kinds == 1].mean()
    return {"loss": reply + USER_WEIGHT * user, "reply": reply, "user": user}


@torch.inference_mode()
def text_accuracy(model: Any, writer: DialogueWriter, split: str, count: int, seed: int, spoken: float = 1.0) -> float:
    """Share of right replies, greedy, the dialogue before each turn given as it should have gone."""
    rng = random.Random(seed)
    prompts, limits, last = [], [], []
    for _ in range(count):
        dialogue = sample_dialogue(rng, split)  # type: ignore[arg-type]
        ids = writer.write(dialogue, rng, speech=spoken).ids
        reply = writer.encode(dialogue.turns[-1].reply)
        limits.append(len(reply) + REPLY_MARGIN)
        prompts.append(ids[: len(ids) - len(reply)])
        last.append(dialogue.turns[-1])
    replies = greedy_replies(model, writer, prompts, limits)
    return sum(answer_is_right(turn, text) for turn, text in zip(last, replies, strict=True)) / count


@torch.inference_mode()
def greedy_replies(
    model: Any, writer: DialogueWriter, prompts: Sequence[list[int]], limits: Sequence[int]
) -> list[str]:
    """The greedy continuation of every prompt up to the end of turn, of at most so many pieces; all at once."""
    end = writer.chat.end_of_turn
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)[:, None]
    place = torch.arange(longest, device=model.device) - (longest - lengths)  # below 0: padding
    seen, place = (place >= 0).long(), place.clamp(min=0)
    cache, tokens = None, torch.zeros(len(prompts), 0, dtype=torch.long, device=model.device)
    while tokens.shape[1] < max(limits):
        out = model(ids, attention_mask=seen, position_ids=place, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, ids], dim=1)
        if bool((tokens == end).any(1).all()):
            break
        seen, place = F.pad(seen, (0, 1), value=1), place[:, -1:] + 1
    rows = (row[:limit] for row, limit in zip(tokens.tolist(), limits, strict=True))
    return [writer.decode(list(itertools.takewhile(end.__ne__, row))) for row in rows]


def provide_tokenizer(unfinished: Path, llm_folder: Path, vocabulary: int, seed: int, dialogues: int) -> None:
    """Make the tokenizer of `llm_folder` where it has none, in the folder `unfinished` first."""
    if (llm_folder / "tokenizer.json").exists():
        return
    make_tokenizer(unfinished, vocabulary, seed, dialogues)
    llm_folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "tokenizer.json"):
        path.replace(llm_folder / path.name)  # the one that is asked for above is the last


def run(
    folder: Path,
    llm_folder: Path,
    dims: TextLlmDims,
    options: LoopOptions,
    seed: int,
    *,
    device: str = "cpu",
    workers: int = 0,
    start_from: Callable[[Any], None] = fresh,
    heard: Callable[[int], Iterable[Sequence[Heard]]] | None = None,
    batch_scale: int = 1,
) -> None:
    """Train on dialogues of the world, and on those that `heard(seed)` makes without end, what the ears wrote; then write
    the Hugging Face directory `llm_folder`, which holds a tokenizer (weights in bfloat16).
    """
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(llm_folder)
    writer = DialogueWriter(tokenizer)
    model = new_model(dims, tokenizer)
    start_from(model)
    model.to(device)
    quicken(model, device)

    def loss_of(batch: Any) -> dict[str, Tensor]:
        ids, targets, kinds, second, doubt = (t.to(device) for t in batch)
        embed = model.get_input_embeddings()
        embeddings = torch.lerp(embed(ids), embed(second), doubt[..., None])
        if options.bf16:  # and with them the residual stream: half of a step is reading and writing it
            embeddings = embeddings.to(product_dtype(device))
        return language_loss(model, embeddings, targets, kinds)

    def evaluate() -> dict[str, float]:
        return {
            "right_train": text_accuracy(model, writer, "train", 60, seed + 1),
            "right_test": text_accuracy(model, writer, "test", 60, seed + 2),
        }

    misheard = DialogueWriter(tokenizer, Mishearing(seed))
    tokens = TOKENS_PER_BATCH * batch_scale

    def written(own_seed: int) -> Iterator[Batch]:
        return batches(written_examples(misheard, own_seed), tokens, own_seed, BLOCK * batch_scale)

    first = seed + steps_done(folder)
    data = in_processes(written, first, workers)
    if heard is not None:
        listened = batches(heard_examples(writer, heard(first), first), tokens, first, HEARD_BLOCK * batch_scale)
        data = mixed(data, listened, HEARD_SHARE, first)
    train(
        "text-llm", model, data, loss_of, folder, options, device=device, evaluate=evaluate, evaluate_every=800,
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(llm_folder)
    (folder / "result.json").write_text(json.dumps({"dims": vars(dims)}))
