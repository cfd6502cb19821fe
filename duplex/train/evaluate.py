"""Figures of a checkpoint on voices that training never heard, with phrasings it knows and with new ones."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from duplex.audio.recogniser import Recogniser
from duplex.core.types import SamplingParams
from duplex.engine.engine import TorchEngine
from duplex.engine.offline import Answer, Conversation
from duplex.engine.steps import PrefillStep, ReplyStep, StepFailure
from duplex.train.augment import augment
from duplex.train.calibration import calibration
from duplex.train.corpus import Utterance
from duplex.train.delivery import delivery, outer_phones
from duplex.train.plans import HELDOUT
from duplex.train.scenarios import ClipPools
from duplex.train.testset import OUTSIDE_PREFIX
from duplex.train.voices import AGENT_VOICE, synthesize
from duplex.train.world import Turn, all_replies, answer_is_right
from duplex.train.world.strangers import strangers_dialogues

SAMPLE_RATE = 16000
END_WITHIN_SEC = 0.64
OUTSIDE_EVERY = 3  # questions one more that lies outside the world
GRAMMAR_SENTENCES = 20_000


@dataclass
class Result:
    """One question: the reply, whether it was right, and when the turn was taken, seconds after the last sample."""

    utterance: Utterance
    answer: Answer
    right: bool
    taken_after_sec: float | None


def ask(engine: TorchEngine, utterance: Utterance, rng: random.Random, condition: str) -> Result:
    """Put one recording to a fresh conversation that holds its context as text."""
    assert utterance.turn is not None
    pcm = utterance.samples()
    if condition == "noisy":
        pcm = augment(pcm, rng, 1.0)
    lead = rng.randint(int(0.3 * SAMPLE_RATE), int(0.8 * SAMPLE_RATE))
    with Conversation(engine) as conversation:
        for turn in utterance.context:
            say_before(engine, conversation, turn.user, turn.reply)
        answer = conversation.hear(np.pad(pcm, (lead, 0)))
    taken = None if answer.decision_sample is None else (answer.decision_sample - lead - len(pcm)) / SAMPLE_RATE
    return Result(utterance, answer, answer_is_right(utterance.turn, answer.text), taken)


def ask_typed(engine: TorchEngine, utterance: Utterance) -> str:
    """The reply to the same question, typed."""
    assert utterance.turn is not None
    with Conversation(engine) as conversation:
        for turn in utterance.context:
            say_before(engine, conversation, turn.user, turn.reply)
        return conversation.type(utterance.text, speak=False).text


def say_before(engine: TorchEngine, conversation: Conversation, user: str, reply: str) -> None:
    """Put a finished exchange into the conversation as text."""
    _check(engine.prefill([PrefillStep(conversation.branch, "user", user)])[0])
    state = engine.new_reply_state(SamplingParams(), forced_text=reply)
    while not state.finished:
        _check(engine.reply([ReplyStep(conversation.branch, state, max_tokens=64)])[0])


def evaluate(
    engine: TorchEngine,
    known: Sequence[Utterance],
    new: Sequence[Utterance],
    timed: ClipPools,
    count: int,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    """All figures, of `count` questions a condition; written to `out` as JSON where given.

    People ask few questions that lie outside the world, so a third as many of these are asked besides.

    clean and noisy: phrasings that training knows (`known`); new_phrasings: others (`new`), clean; strangers: what people
    who never saw a phrasing would say; calibration errors on scenarios made of `timed`. All in new voices.
    """
    rng = random.Random(seed)
    figures: dict[str, Any] = {"questions": count, "checkpoint": engine.facts.checkpoint}
    answered: dict[str, list[Result]] = {}
    outside_too: dict[str, tuple[str, list[Utterance]]] = {}
    for name, corpus, condition in (
        ("clean", known, "clean"),
        ("noisy", known, "noisy"),
        ("new_phrasings", new, "clean"),
    ):
        drawn = random.Random(seed)
        usable = [u for u in corpus if u.turn is not None]
        chosen = drawn.sample(usable, min(count, len(usable)))
        answered[name] = [ask(engine, u, rng, condition) for u in tqdm(chosen, desc=name, mininterval=5.0)]
        figures |= {f"{name}_{key}": value for key, value in _shares(answered[name]).items()}
        asked_already = set(map(id, chosen))
        others = [u for u in usable if _outside(u) and id(u) not in asked_already]
        outside_too[name] = condition, drawn.sample(others, min(count // OUTSIDE_EVERY, len(others)))
    clean = answered["clean"]
    for name in ("clean", "new_phrasings"):
        asked = [(r, ask_typed(engine, r.utterance)) for r in answered[name] if not _outside(r.utterance)]
        figures[f"{name}_typed_right_in_world"] = _share([answer_is_right(_turn(r), text) for r, text in asked])
        figures[f"{name}_same_typed_as_spoken"] = _share([r.answer.text == text for r, text in asked])
    figures |= _strangers(engine, count, rng)
    for name, (condition, utterances) in outside_too.items():
        refused = [r.right for r in answered[name] if _outside(r.utterance)]
        more = tqdm(utterances, desc=f"{name}, outside", mininterval=5.0)
        refused += [ask(engine, u, rng, condition).right for u in more]
        figures |= {f"{name}_refused_outside": _share(refused), f"{name}_outside_questions": len(refused)}
    figures |= calibration(engine.model.folder, timed, 2 * count, seed)
    figures["wrong_examples"] = [
        {"user": r.utterance.text, "voice": r.utterance.voice, "reply": r.answer.text} for r in clean if not r.right
    ][:25]
    spoken = [r for r in clean if len(r.answer.pcm)]
    rate = engine.facts.output_sample_rate
    recognisers = {"": Recogniser(), "_world_grammar": Recogniser([*all_replies(rng, GRAMMAR_SENTENCES)])}
    source = [(r.answer.text, synthesize(r.answer.text, AGENT_VOICE), SAMPLE_RATE) for r in spoken]
    made = [(r.answer.text, r.answer.pcm, rate) for r in spoken]
    for name, recogniser in recognisers.items():
        figures[f"reply_word_error{name}"] = recogniser.word_error_rate(made)
        figures[f"source_voice_word_error{name}"] = recogniser.word_error_rate(source)
    for name, voice in (("reply", made), ("source_voice", source)):
        figures |= {f"{name}_{key}": value for key, value in delivery(voice).items()}
    figures |= {f"reply_{key}": value for key, value in outer_phones(made, source).items()}
    audio = sum(len(r.answer.pcm) for r in clean) / rate
    compute = sum(r.answer.stage_ms.get("reply", 0) + r.answer.stage_ms.get("speak", 0) for r in clean) / 1000
    figures["speaking_real_time_factor"] = round(compute / max(audio, 1e-9), 4)
    listening = [r.answer.stage_ms.get("listen", 0) / max(1, r.answer.stage_calls.get("listen", 1)) for r in clean]
    figures["listen_chunk_ms"] = round(statistics.median(listening), 2)
    first = [r.answer.first_audio_ms for r in clean if r.answer.first_audio_ms is not None]
    figures["first_audio_after_decision_ms"] = round(statistics.median(first), 1) if first else None
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures | {"at": time.strftime("%Y-%m-%d")}, indent=1))
    return figures


def _strangers(engine: TorchEngine, count: int, rng: random.Random) -> dict[str, float | None]:
    """What strangers would say: all of it typed, some of it spoken."""
    said = [
        Utterance(np.zeros(0, np.int16), dialogue.turns[-1].user, "", dialogue.turns[-1], tuple(dialogue.turns[:-1]))
        for dialogue in strangers_dialogues()
    ]
    typed = [(u, ask_typed(engine, u)) for u in tqdm(said, desc="strangers typed", mininterval=5.0)]
    results = []
    for utterance in tqdm(rng.sample(said, min(count, len(said))), desc="strangers", mininterval=5.0):
        voice = HELDOUT.voice(rng)
        pcm = np.round(synthesize(utterance.text, voice) * 32767.0).astype(np.int16)
        results.append(ask(engine, replace(utterance, pcm=pcm, voice=str(voice)), rng, "clean"))
    figures: dict[str, float | None] = {}
    for name, right in (
        ("strangers_typed", [(u, u.turn is not None and answer_is_right(u.turn, text)) for u, text in typed]),
        ("strangers", [(result.utterance, result.right) for result in results]),
    ):
        figures[f"{name}_right_in_world"] = _share([is_right for u, is_right in right if not _outside(u)])
        figures[f"{name}_refused_outside"] = _share([is_right for u, is_right in right if _outside(u)])
    return figures


def _shares(results: Sequence[Result]) -> dict[str, float | None]:
    taken = [r.taken_after_sec for r in results]
    decided = [t for t in taken if t is not None and t >= 0]
    return {
        "right_in_world": _share([r.right for r in results if not _outside(r.utterance)]),
        "end_within_640_ms": _share([t is not None and 0 <= t <= END_WITHIN_SEC for t in taken]),
        "taken_before_end": _share([t is not None and t < 0 for t in taken]),
        "end_median_sec": round(statistics.median(decided), 3) if decided else None,
    }


def _turn(result: Result) -> Turn:
    assert result.utterance.turn is not None
    return result.utterance.turn


def _outside(utterance: Utterance) -> bool:
    return utterance.turn is not None and utterance.turn.intent.startswith(OUTSIDE_PREFIX)


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None


def _check(result: object) -> None:
    if isinstance(result, StepFailure):
        raise result.error
