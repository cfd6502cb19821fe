"""Consecutive chunks of one session on different workers, with the real engine on the fixture checkpoint."""

from __future__ import annotations

import contextlib
import wave
from pathlib import Path

import numpy as np
import torch

from duplex.core.types import SamplingParams
from duplex.engine.engine import TorchEngine
from duplex.engine.steps import HearStep, ListenStep, PrefillStep, ReplyStep
from duplex.pool.pool import ModelPool
from duplex.pool.queue import StepKind
from tests.pool.test_pool import occupied

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures"
CHUNKS = 12


async def conversation(
    engine: TorchEngine, pcm: np.ndarray, workers: int
) -> tuple[list[object], list[int], torch.Tensor]:
    """Verdicts, reply tokens and KV-cache; of two workers each step gets the other one."""
    verdicts: list[object] = []
    turn = 0
    async with ModelPool([engine] * workers) as pool:

        async def run(kind: StepKind, step: object) -> object:
            nonlocal turn
            turn += 1
            async with occupied(pool, f"worker-{turn % 2}") if workers == 2 else contextlib.nullcontext():
                return await pool.submit(kind, step, deadline=0, session_id="s")  # type: ignore[call-overload]

        branch = engine.branches.acquire()
        hearing = engine.new_hear_state()
        await run(StepKind.PREFILL, PrefillStep(branch, "system", "You are a helpful assistant."))
        for index in range(CHUNKS):
            heard = await run(StepKind.HEAR, HearStep(hearing, pcm[index * 2560 : (index + 1) * 2560]))
            result = await run(StepKind.LISTEN, ListenStep(branch, heard.features, first=index == 0))
            verdicts.append((heard.speech_probs, result.probs, result.length))
        state = engine.new_reply_state(SamplingParams(max_text_tokens=12))
        while not state.finished:
            await run(StepKind.REPLY, ReplyStep(branch, state, max_tokens=3))
        cache = torch.stack([k[branch.slot, :, : branch.length] for k in engine.branches.k]).clone()
        engine.branches.release(branch)
    return verdicts, state.tokens, cache


async def test_any_worker_takes_the_next_step_of_any_session() -> None:
    engine = TorchEngine.load(FIXTURES / "freeze_tiny", FIXTURES / "llm_tiny", "cpu", slots=2, max_length=256)
    with wave.open(str(FIXTURES / "espeak_a.wav")) as file:
        pcm = np.frombuffer(file.readframes(CHUNKS * 2560), "<i2").astype(np.float32) / 32768
    one, one_tokens, one_cache = await conversation(engine, pcm, workers=1)
    two, two_tokens, two_cache = await conversation(engine, pcm, workers=2)
    assert two == one
    assert two_tokens == one_tokens
    assert torch.equal(two_cache, one_cache)
