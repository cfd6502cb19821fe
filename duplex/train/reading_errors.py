"""What the LLM answers to whole recordings, and how often it is wrong about what was heard right:

python -m duplex.train.reading_errors runs/corpus/unseen_voices --checkpoint checkpoints/tiny --count 350

The state head has no part in it: every recording is heard to its end, then the reply begins. So of what a live server
answers wrong, this tells what is the ears' share, what the LLM's, and what is left for the turn taking. With --outside it
asks what is outside its world, where a refusal is right; --refuse-from tells what more or fewer refusals would cost.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from duplex.core.errors import DuplexError
from duplex.core.types import SamplingParams
from duplex.engine.states import TorchReplyState
from duplex.engine.steps import ReplyStep, StepFailure
from duplex.engine.writing import TextWriter
from duplex.model.adapter import as_pieces
from duplex.model.checkpoint import DuplexModel, load_checkpoint
from duplex.model.sampling import TextSampler
from duplex.model.segmenter import TextSegmenter
from duplex.model.word_search import Hypotheses
from duplex.train.augment import add_at_snr, background
from duplex.train.corpus import Utterance, load_corpus
from duplex.train.ctc_stage import stream_features
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.hearing_errors import LEAD_SAMPLES, TAIL_SAMPLES, text_of_pieces
from duplex.train.listen_stage import conversation_before
from duplex.train.testset import OUTSIDE_PREFIX
from duplex.train.world import Turn, answer_is_right

LONGEST_REPLY = 48  # tokens


@dataclass(frozen=True)
class Reading:
    """One recording: what was said, what the ears heard of it, the words found in that, the reply, and whether that was
    right.
    """

    said: str
    voice: str
    heard: str
    found: str
    reply: str
    right: bool


@torch.inference_mode()
def readings(model: DuplexModel, corpus: Sequence[Utterance], noise_db: float | None, seed: int) -> Iterator[Reading]:
    """Every user turn of `corpus` after the turns before it, with noise so far below the speech."""
    rng, draws = random.Random(seed), np.random.default_rng(seed)
    writer = DialogueWriter(model.llm.tokenizer)
    for utterance in corpus:
        assert utterance.turn is not None
        pcm = utterance.samples()
        if noise_db is not None:
            pcm = add_at_snr(pcm, background(len(pcm), draws), noise_db)
        features = stream_features(np.pad(pcm, (LEAD_SAMPLES, TAIL_SAMPLES)))
        spoken, _ = model.adapter.split(model.adapter(model.encoder(features[None])))
        before = conversation_before(writer, utterance.context, rng, cut=False)
        read = as_pieces(spoken, model.llm.embed(range(model.llm.vocab_size)))[0]
        pieces = spoken[:, :, : model.adapter.dims.pieces]
        hypotheses = [] if model.word_search is None else model.word_search.advance([[]], pieces)[0]
        heard = text_of_pieces(model, pieces[0])
        found = heard if model.word_search is None else model.llm.tokenizer.decode(model.word_search.best(hypotheses))
        reply = _reply(model, before, read, hypotheses)
        yield Reading(utterance.text, utterance.voice, heard, found, reply, answer_is_right(utterance.turn, reply))


def _reply(model: DuplexModel, before: Sequence[int], audio: torch.Tensor, hypotheses: Hypotheses) -> str:
    """The greedy reply to a user turn [positions, llm_dim] behind the tokens `before`; its words are read once more."""
    llm = model.llm
    embeds = torch.cat([llm.embed(before), model.prompt_embeddings, audio])
    pool = llm.new_pool(1, len(embeds) + len(audio) + len(model.chat.suffix) + LONGEST_REPLY)
    branch = pool.acquire()
    llm.forward(pool, [branch], [embeds])
    branch.stream.hypotheses = hypotheses
    state = TorchReplyState(TextSampler(SamplingParams()), TextSegmenter(llm.tokenizer), LONGEST_REPLY)
    text = TextWriter(model, pool, None)
    while not state.finished:
        [written] = text.write([ReplyStep(branch, state, LONGEST_REPLY)])
        if isinstance(written, StepFailure):
            raise written.error
    return state.text


def _refusing(model: DuplexModel, from_probability: float) -> DuplexModel:
    """The same model, which refuses from another probability on. Raises DuplexError where it has none or that is none."""
    if model.refusal is None:
        raise DuplexError(f"{model.folder} has no refusal whose probability could be asked for")
    if not 0.0 < from_probability <= 1.0:
        raise DuplexError(f"a probability to refuse from is above 0 and at most 1, not {from_probability}")
    return replace(model, refusal=model.refusal.model_copy(update={"from_probability": from_probability}))


def is_question(turn: Turn | None) -> bool:
    """A turn inside of the world."""
    return turn is not None and not turn.intent.startswith(OUTSIDE_PREFIX)


def main(arguments: list[str] | None = None) -> int:
    """Print the shares, and with --list every wrong answer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="reading_errors", description=__doc__)
    parser.add_argument("corpus", type=Path, help="a folder that duplex.train.corpus made")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/tiny"))
    parser.add_argument("--count", type=int, default=350, help="turns, drawn at random")
    parser.add_argument("--noise", type=float, metavar="DB", help="noise this far below the speech")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outside", action="store_true", help="questions outside its world instead of those inside")
    parser.add_argument(
        "--refuse-from", type=float, metavar="P", help="probability from which it refuses, instead of the checkpoint's"
    )
    parser.add_argument("--list", action="store_true", help="print every wrong answer")
    options = parser.parse_args(arguments)
    try:
        model = load_checkpoint(options.checkpoint, None)
        turns = [clip for clip in load_corpus(options.corpus) if clip.turn is not None]
        questions = [clip for clip in turns if is_question(clip.turn) != options.outside]
        if not model.adapter.dims.pieces:
            raise DuplexError(f"{options.checkpoint} writes no pieces that could be read")
        if options.refuse_from is not None:
            model = _refusing(model, options.refuse_from)
        if not questions:
            raise DuplexError(
                f"{options.corpus} holds no user turns {'outside' if options.outside else 'inside'} the world"
            )
    except (DuplexError, FileNotFoundError) as error:
        print(f"reading_errors: {error}", file=sys.stderr)
        return 1
    chosen = random.Random(options.seed).sample(questions, min(options.count, len(questions)))
    done = list(readings(model, chosen, options.noise, options.seed))
    for one in done:
        if options.list and not one.right:
            print(f"{one.voice}: {one.said!r} heard as {one.found!r}: {one.reply}")
    whole = [one for one in done if one.found == one.said]
    print(f"right                   {sum(one.right for one in done) / len(done):.3f} of {len(done)} turns")
    print(f"heard to the letter     {sum(one.heard == one.said for one in done) / len(done):.3f}")
    print(f"with the word search    {len(whole) / len(done):.3f}")
    print(f"of these answered wrong {sum(not one.right for one in whole) / max(1, len(whole)):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
