"""The whole training path in miniature: every stage runs, resumes, and the result loads and answers."""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tokenizers import models
from transformers import AutoModelForCausalLM

from duplex.audio.features import CHUNK_FRAMES, NEW_FRAMES
from duplex.core.errors import ConfigError
from duplex.core.types import SamplingParams
from duplex.core.words import plain_words
from duplex.engine.engine import TorchEngine
from duplex.engine.offline import Conversation
from duplex.model.adapter import Adapter, AdapterDims, as_pieces
from duplex.model.checkpoint import load_checkpoint
from duplex.model.checkpoint_config import decoder_config
from duplex.model.codec import GeneratorDims, IstftDims
from duplex.model.encoder import EncoderDims
from duplex.model.lexicon import BYTES, Lexicon
from duplex.model.llm import load_tokenizer
from duplex.model.speech_decoder import CACHE_BLOCK, SpeechDecoder, SpeechDecoderDims
from duplex.model.word_search import NgramModel
from duplex.train import barge_in, cli, codec_stage, ctc_stage, hearing_errors, reading_errors, speak_stage, text_llm
from duplex.train.calibration import calibration, calibration_error, listening_half
from duplex.train.cli import claim_folder, main
from duplex.train.codec_stage import OPEN_STEPS, CodecTrainer, MelFrames
from duplex.train.corpus import Utterance, load_corpus
from duplex.train.ctc_stage import (
    CtcModel,
    characters,
    ctc_loss,
    greedy_tokens,
    spelled,
    stream_features,
)
from duplex.train.dialogue_writer import IGNORED, PROMPT_POSITIONS, DialogueWriter
from duplex.train.disguise import _warp, disguised
from duplex.train.head_stage import PASSES, calibrate, fit
from duplex.train.heard import dialogues_of, heard_dialogues
from duplex.train.listen_stage import Spoken, hear_like
from duplex.train.loop import (
    AVERAGED_AT_FIRST,
    LoopOptions,
    _is_hidden_matrix,
    _Muon,
    share_at,
    steps_done,
    train,
    trained_weights,
)
from duplex.train.pipeline import NEEDS, STAGES, Pipeline, _restore
from duplex.train.presets import LARGEST_MATRIX_RATE, PRESETS, Preset, preset_for, shortened, with_larger_batches
from duplex.train.scenarios import DONT_CARE, load_pools
from duplex.train.side_by_side import GIVE_WAY, MoreThreads, start, stop
from duplex.train.speak_stage import (
    FOREIGN_HIDDEN,
    Batch,
    _hidden,
    codes_of,
    codes_of_symbols,
    decoder_loss,
    hidden_rows,
)
from duplex.train.speak_stage import Spoken as Said
from duplex.train.state_stage import state_items
from duplex.train.text_llm import (
    USER_WEIGHT,
    batches,
    greedy_replies,
    heard_examples,
    language_loss,
    new_model,
    practice,
)
from duplex.train.tokenizer import with_frequent_words
from duplex.train.warm_start import WarmStart
from duplex.train.workers import NICENESS
from duplex.train.world import Turn


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of the smoke preset, from nothing."""
    work = tmp_path_factory.mktemp("work")
    out = work / "checkpoint"
    asked = ["all", "--preset", "smoke", "--work", str(work), "--out", str(out), "--device", "cpu", "--jobs", "2"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(asked) == 0
    (work / "said").write_text(said.getvalue())
    return work, out


def test_stages_side_by_side_have_logs_and_wait_for_what_they_need(trained):
    work, _ = trained
    assert NEEDS.keys() == {path.stem for path in (work / "logs").iterdir()}
    said = (work / "said").read_text()
    began, ended = ({stage: said.index(f"stage {stage}: {what}") for stage in NEEDS} for what in ("begun", "done"))
    assert all(ended[needed] < began[stage] for stage, needs in NEEDS.items() for needed in needs)
    assert max(began["tokenizer"], began["data"]) < min(ended.values())
    assert re.search(r"stage export: begun.*\nstage export: alone now, with \d+ threads\n", said)
    assert "alone" not in said[: min(ended.values())]


def _until_three_threads(stage):
    deadline = time.monotonic() + 60
    while torch.get_num_threads() != 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(torch.get_num_threads())


def test_a_stage_takes_more_threads_when_it_is_told_to(tmp_path):
    more = MoreThreads(3)
    process = start(_until_three_threads, "data", tmp_path / "log", 1, more)
    more.tell()
    process.join()
    assert (tmp_path / "log").read_text().split() == ["3"]


def _says_how_nice(stage):
    print(os.nice(0))


def test_stages_that_the_ears_do_not_wait_for_give_way(tmp_path):
    assert set(NEEDS).issuperset(GIVE_WAY)
    niceness = {}
    for stage in ("text", "adapter"):
        process = start(_says_how_nice, stage, tmp_path / stage, 1)
        process.join()
        niceness[stage] = int((tmp_path / stage).read_text())
    assert niceness["text"] == min(niceness["adapter"] + NICENESS, 19)


def test_the_ears_begin_when_more_speech_is_made_for_them():
    order = list(NEEDS)
    assert order.index("data") < order.index("users") < order.index("ctc")


def _ends_untold(stage):
    time.sleep(0.1)  # so that its thread is waiting to be told by then


def test_a_stage_that_has_ended_holds_nobody_up(tmp_path):
    more = MoreThreads(3)
    process = start(_ends_untold, "data", tmp_path / "log", 1, more)
    process.join()
    assert process.exitcode == 0
    telling = threading.Thread(target=more.tell, daemon=True)
    telling.start()
    telling.join(timeout=10)
    assert not telling.is_alive()


def _forked_and_killed(held, stage):
    """A stage that leaves a process behind, as workers are, and is killed; both hold the pipe `held` open."""
    os.open(held, os.O_WRONLY)
    if os.fork() == 0:
        signal.pause()
    print("about to be killed")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_stage_that_is_killed_is_seen_and_takes_its_processes_along(tmp_path):
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    process = start(functools.partial(_forked_and_killed, tmp_path / "held"), "data", tmp_path / "log", 1)
    deadline = time.monotonic() + 60
    while process.exitcode is None and time.monotonic() < deadline:
        wait([process.sentinel], timeout=0.2)
    assert process.exitcode == -signal.SIGKILL
    assert "about to be killed" in (tmp_path / "log").read_text()
    with pytest.raises(BlockingIOError):  # what the stage forked still holds the pipe
        os.read(reader, 1)
    stop([process])
    assert wait([reader], timeout=60) == [reader]
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize("jobs", ["0", "-1", "6", "two"])
def test_more_stages_at_a_time_than_can_be_are_refused(jobs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["all", "--preset", "smoke", "--jobs", jobs, "--work", str(tmp_path)])
    assert "--jobs" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_stage_that_fails_is_named_and_the_others_are_stopped(tmp_path, capsys):
    (tmp_path / "corpus").write_text("no folder")
    asked = ["all", "--preset", "smoke", "--work", str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "2"]
    assert main([*asked, "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert "stage data failed" in error
    assert "NotADirectoryError" in error
    assert not multiprocessing.active_children()
    assert not (tmp_path / "ctc").exists()


def test_trainings_of_another_length_need_a_folder_of_their_own(trained, tmp_path, capsys):
    work, _ = trained
    assert main(["export", "--preset", "smoke", "--length", "0.5", "--work", str(work), "--out", str(tmp_path)]) == 1
    assert "trainings of length 1.0" in capsys.readouterr().err
    claim_folder(tmp_path / "new", 0.5)
    claim_folder(tmp_path / "new", 0.5)
    with pytest.raises(ConfigError, match=r"length 0\.5"):
        claim_folder(tmp_path / "new", 1.0)
    with pytest.raises(ConfigError, match=r"length 0\.5, batches times 8 a folder"):
        claim_folder(tmp_path / "new", 0.5, 8)
    with pytest.raises(ConfigError, match=r"length 0\.5, for a GPU a folder"):
        claim_folder(tmp_path / "new", 0.5, for_gpu=True)
    with pytest.raises(ConfigError, match=r"length 0\.5, preset smoke a folder"):
        claim_folder(tmp_path / "new", 0.5, preset="smoke")
    with pytest.raises(ConfigError, match=r"length 0\.5, seed 2 a folder"):
        claim_folder(tmp_path / "new", 0.5, seed=2)
    with pytest.raises(ConfigError, match=r"length 0\.5, from /.*tiny a folder"):
        claim_folder(tmp_path / "new", 0.5, start_from=Path("checkpoints/tiny"))


def test_a_shortened_preset_keeps_sizes_and_rates():
    tiny = PRESETS["tiny"]
    short = shortened(tiny, 0.1)
    assert shortened(tiny, 1.0) == tiny
    assert short.asr_hours == pytest.approx(tiny.asr_hours / 10)
    assert (short.test_hours, short.encoder, short.adapter_batch) == (tiny.test_hours, tiny.encoder, tiny.adapter_batch)
    assert short.heard_steps.steps * 10 == tiny.heard_steps.steps
    assert short.heard_steps.matrix_rate == tiny.heard_steps.matrix_rate
    assert 1 - short.heard_steps.averaging == pytest.approx(10 * (1 - tiny.heard_steps.averaging))
    shortest = shortened(tiny, 0.001)
    assert shortest.codec_steps.steps > shortest.codes_fixed_after > OPEN_STEPS
    assert shortest.ctc_steps.steps > shortest.character_steps > 100
    assert shortest.adapter_steps.warmup <= shortest.adapter_steps.steps
    assert shortest.said_dialogues == short.said_dialogues < tiny.said_dialogues
    smoke = PRESETS["smoke"]
    assert shortened(smoke, 0.5).codec_steps.steps <= smoke.codec_steps.steps


def test_larger_batches_hold_as_much_in_fewer_steps():
    tiny = PRESETS["tiny"]
    large = with_larger_batches(tiny, 8)
    assert with_larger_batches(tiny, 1) == tiny
    assert large.batch_scale == 8
    assert large.heard_steps.steps * 8 == tiny.heard_steps.steps
    assert large.heard_steps.matrix_rate == pytest.approx(LARGEST_MATRIX_RATE)
    assert large.heard_steps.learning_rate / tiny.heard_steps.learning_rate == pytest.approx(
        LARGEST_MATRIX_RATE / tiny.heard_steps.matrix_rate
    )
    assert with_larger_batches(tiny, 2).adapter_steps.matrix_rate == pytest.approx(
        tiny.adapter_steps.matrix_rate * math.sqrt(2)
    )
    assert large.text_steps.matrix_rate == tiny.text_steps.matrix_rate
    assert 1 - large.heard_steps.averaging == pytest.approx(8 * (1 - tiny.heard_steps.averaging))
    assert large.character_steps * 8 == tiny.character_steps
    assert (large.codec_steps, large.codes_fixed_after) == (tiny.codec_steps, tiny.codes_fixed_after)
    with pytest.raises(ConfigError, match="at least as large"):
        with_larger_batches(tiny, 0)


def test_a_gpu_gets_another_schedule_for_the_same_sizes():
    tiny, on_gpu = PRESETS["tiny"], preset_for("tiny", "cuda")
    assert preset_for("tiny", "cpu") == tiny
    assert preset_for("smoke", "cuda") == PRESETS["smoke"]
    for size in ("llm", "encoder", "adapter_kernel", "codes", "codec", "decoder", "eight_bit", "speech"):
        assert getattr(on_gpu, size) == getattr(tiny, size)
    assert set(on_gpu.voices) == set(tiny.voices)
    assert on_gpu.batch_scale > tiny.batch_scale
    assert on_gpu.adapter_steps.steps < tiny.adapter_steps.steps


def test_a_gpus_schedule_does_not_go_on_with_a_cpus_trainings(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_check_device", lambda device: None)
    claim_folder(tmp_path, 1.0)
    assert main(["text", "--preset", "tiny", "--device", "cuda", "--work", str(tmp_path)]) == 1
    assert "length 1.0, for a GPU" in capsys.readouterr().err


def test_batches_are_as_many_times_as_large_as_asked_for(trained):
    work, _ = trained
    corpus = load_corpus(work / "corpus" / "asr") * 20

    def utterances(scale):
        some = itertools.islice(ctc_stage.batches(corpus, 1, batch_sec=30 * scale), 8)
        return sum(len(texts) for _, texts in some)

    assert 2 * utterances(1) < utterances(3) < 4 * utterances(1)
    said = [Said("a", torch.zeros(1, 4), torch.zeros(100, dtype=torch.long))] * 1000
    assert [len(next(speak_stage.groups(said, 1, scale))) for scale in (1, 3)] == [45, 135]


def test_a_training_of_no_length_is_refused(tmp_path, capsys):
    assert main(["text", "--preset", "smoke", "--length", "0", "--work", str(tmp_path)]) == 1
    assert "above 0 and at most 1" in capsys.readouterr().err


def test_stages_come_after_those_they_need():
    order = list(NEEDS)
    assert all(order.index(needed) < order.index(stage) for stage, needs in NEEDS.items() for needed in needs)


def test_trained_checkpoint_answers(trained):
    _, out = trained
    engine = TorchEngine.load(out, slots=2, max_length=512)
    speech = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    with Conversation(engine, sampling=SamplingParams(max_text_tokens=4), offline=True) as conversation:
        answer = conversation.hear(speech)
    assert answer.tokens or answer.text == ""
    assert len(answer.probs) == math.ceil(16000 / 2560)
    assert all(abs(sum(probs) - 1) < 1e-4 for _, probs in answer.probs)
    assert engine.facts.tells_interruptions
    assert engine.model.adapter.dims.pieces == engine.model.llm.embedding.num_embeddings


def test_every_stage_leaves_a_log_a_curve_and_its_time(trained):
    work, _ = trained
    for stage, steps in (
        ("text_llm", 4),
        ("ctc", 4),
        ("adapter", 2),
        ("heard", 2),
        ("state", 2),
        ("codec", 4),
        ("speech", 4),
    ):
        assert (work / stage / "curve.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((work / stage / "time.json").read_text())["steps"] == steps


def test_the_head_is_fitted_to_kept_turns_and_nothing_else_moves(trained, tmp_path, capsys):
    work, out = trained
    kept = torch.load(work / "head" / "read.pt", weights_only=True)
    count = len(kept["wanted"])
    assert int(kept["turns"]) >= PRESETS["smoke"].head_turns
    assert kept["hidden"].shape == (count, PRESETS["smoke"].llm.hidden)
    assert kept["heard"].shape == (count, 2 * PRESETS["smoke"].encoder.dim)
    assert bool(((kept["wanted"] != -100) | (kept["interrupting"] != -100)).all())
    pipeline = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")
    (before, _), (after, _) = (pipeline._listen_model(stage) for stage in ("state", "head"))
    for name, value in before.state_dict().items():
        fitted = name.startswith(("state_head.", "adapter.cues."))
        assert torch.equal(value, after.state_dict()[name]) != fitted, name
    means = fit(before, {key: value for key, value in kept.items() if key != "turns"}, seed=1)
    assert len(means) == PASSES
    assert means[-1] < means[0]


def test_an_interruption_comes_as_true_as_it_is_probable(trained):
    """Scale and shift do to logits what makes their mean probability the share of interruptions."""
    work, out = trained
    model, _ = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")._listen_model("state")
    hidden, heard = torch.randn(4000, PRESETS["smoke"].llm.hidden), torch.randn(4000, 2 * PRESETS["smoke"].encoder.dim)
    read = {"hidden": hidden.half(), "heard": heard.half(), "wanted": torch.full((4000,), -100)}

    def probability():
        logits = model.state_head(read["hidden"].float()) + model.adapter.cues(read["heard"].float())
        return logits.detach()[:, 3].sigmoid(), logits.detach()[:, :3]

    before, decisions = probability()
    true = torch.sigmoid(0.5 * torch.logit(before) - 1.0)
    calibrate(model, {**read, "interrupting": torch.bernoulli(true, generator=torch.Generator().manual_seed(1)).long()})
    after, kept = probability()
    assert calibration_error(before, torch.bernoulli(true).bool()) > 0.1
    assert float((after - true).abs().mean()) < 0.03
    assert torch.equal(decisions, kept)


def test_a_finished_stage_is_not_run_again(trained, capsys):
    work, out = trained
    before = (work / "ctc" / "state.pt").stat().st_mtime_ns
    assert main(["ctc", "--preset", "smoke", "--work", str(work), "--out", str(out), "--device", "cpu"]) == 0
    assert (work / "ctc" / "state.pt").stat().st_mtime_ns == before


def test_training_can_begin_with_a_finished_checkpoint(trained, tmp_path):
    """With steps that move nothing, every stage hands on the weights it began with."""
    _, out = trained
    (tmp_path / "corpus").symlink_to(trained[0] / "corpus")
    again = Pipeline(_standing_still(PRESETS["smoke"]), tmp_path, tmp_path / "out", 5, "cpu", start_from=out)
    for stage in STAGES:
        again.run(stage)
    before, after = load_checkpoint(out, None), load_checkpoint(tmp_path / "out", None)
    torch.testing.assert_close(after.llm.model.state_dict(), before.llm.model.state_dict(), rtol=0, atol=0)
    for part in ("encoder", "adapter", "state_head", "speech_decoder"):
        torch.testing.assert_close(getattr(after, part).state_dict(), getattr(before, part).state_dict())
    torch.testing.assert_close(after.codec.generator.state_dict(), before.codec.generator.state_dict())
    torch.testing.assert_close(after.prompt_embeddings, before.prompt_embeddings)
    torch.testing.assert_close(after.llm.embed([5, 6]), before.llm.embed([5, 6]))


def test_an_llm_with_two_embeddings_hands_on_the_one_it_reads(trained, tmp_path):
    """Of a checkpoint whose output embeddings are its own, training with tied ones keeps the input's."""
    _, out = trained
    other = tmp_path / "untied"
    shutil.copytree(out, other)
    llm = AutoModelForCausalLM.from_pretrained(out / "llm", tie_word_embeddings=False, dtype=torch.float32)
    read = llm.get_input_embeddings().weight.detach().clone()
    llm.lm_head.weight = torch.nn.Parameter(torch.zeros_like(read))
    llm.save_pretrained(other / "llm")
    tied = AutoModelForCausalLM.from_pretrained(out / "llm", dtype=torch.float32)
    with torch.no_grad():
        tied.get_input_embeddings().weight.zero_()
    WarmStart(other).text(tied)
    torch.testing.assert_close(tied.get_input_embeddings().weight, read)
    torch.testing.assert_close(tied.lm_head.weight, read)


def test_a_decoder_that_reads_symbols_goes_on_from_one_that_reads_pieces(trained, tmp_path):
    """What writes codes is taken over, what reads text stays fresh."""
    _, out = trained
    other = tmp_path / "pieces"
    shutil.copytree(out, other)
    dims = dataclasses.replace(PRESETS["smoke"].decoder, dim=64, heads=4)
    pieces = SpeechDecoder(dims)
    safetensors.torch.save_file(pieces.state_dict(), other / "decoder" / "final.safetensors")
    (other / "decoder" / "model.json").write_text(json.dumps(decoder_config(dims)))
    fresh = SpeechDecoder(dataclasses.replace(dims, symbols=BYTES))
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    WarmStart(other).decoder(fresh)
    for name, value in fresh.state_dict().items():
        reads = name.startswith(("symbol_", "layers_pre_nn"))
        torch.testing.assert_close(value, before[name] if reads else pieces.state_dict()[name])


def test_a_run_that_goes_on_masks_with_the_mean_frame(trained, tmp_path, monkeypatch):
    """Workers are made before the weights are loaded by the loop."""
    work, _ = trained
    shutil.copytree(work / "ctc", tmp_path / "ctc")
    seen = []

    def made_for(device, clips, fill):
        seen.append(fill.clone())
        return disguised(clips, fill)

    monkeypatch.setattr(ctc_stage, "made_for", made_for)
    monkeypatch.setattr(ctc_stage, "in_processes", lambda made, seed, workers: iter([next(made(seed))]))
    preset, corpus = PRESETS["smoke"], load_corpus(work / "corpus" / "asr")
    options = dataclasses.replace(preset.ctc_steps, steps=preset.ctc_steps.steps + 1)
    model = ctc_stage.run(
        corpus,
        corpus[:2],
        tmp_path / "ctc",
        preset.encoder,
        load_tokenizer(work / "llm"),
        options,
        1,
        character_steps=0,
    )
    [fill] = seen
    assert fill.abs().sum() > 0
    assert torch.equal(fill, model.encoder.global_cmvn.mean)


def test_a_larger_encoder_begins_by_hearing_the_same(trained):
    _, out = trained
    dims = PRESETS["smoke"].encoder
    large = dataclasses.replace(dims, blocks=dims.blocks + 2, feed_forward=dims.feed_forward + 32)
    deeper = CtcModel(large, 320).eval()
    warm = WarmStart(out)
    warm.ctc(deeper)
    features = torch.randn(1, 3 + 2 * 16, 80)
    with torch.inference_mode():
        torch.testing.assert_close(deeper.encoder(features), warm.checkpoint.encoder(features))


def test_a_larger_llm_begins_by_saying_the_same(trained):
    _, out = trained
    dims = PRESETS["smoke"].llm
    warm = WarmStart(out)
    large = dataclasses.replace(dims, layers=dims.layers + 2, feed_forward=dims.feed_forward + 32)
    larger = new_model(large, load_tokenizer(out / "llm")).eval()
    warm.text(larger)
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(out / "llm", dtype=torch.float32)(ids).logits
        torch.testing.assert_close(larger(ids).logits, expected)
    added = larger.model.layers[dims.layers]
    assert added.mlp.up_proj.weight.any()
    assert not added.mlp.down_proj.weight.any()


def test_a_checkpoint_of_other_sizes_is_refused(trained, tmp_path, capsys):
    _, out = trained
    (tmp_path / "corpus").symlink_to(trained[0] / "corpus")
    asked = ["--preset", "tiny", "--work", str(tmp_path), "--start-from", str(out), "--device", "cpu"]
    assert main(["text", *asked]) == 1
    assert "run the stage 'tokenizer' first" in capsys.readouterr().err
    assert main(["tokenizer", *asked]) == 0
    assert main(["text", *asked]) == 1
    assert "llm does not fit the preset" in capsys.readouterr().err


def _standing_still(preset: Preset) -> Preset:
    none = {
        name: dataclasses.replace(getattr(preset, name), steps=1, learning_rate=0.0, matrix_rate=0.0)
        for name in (
            "text_steps",
            "ctc_steps",
            "adapter_steps",
            "heard_steps",
            "state_steps",
            "codec_steps",
            "decoder_steps",
        )
    }
    return dataclasses.replace(preset, head_turns=0, **none)


def test_a_stage_without_its_forerunner_says_so(tmp_path, capsys):
    assert main(["export", "--preset", "smoke", "--work", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "run the stage 'tokenizer' first" in capsys.readouterr().err


def test_training_goes_on_where_it_stopped(tmp_path):
    torch.manual_seed(0)
    target = torch.randn(4, 3)

    def fresh() -> torch.nn.Linear:
        torch.manual_seed(1)
        return torch.nn.Linear(4, 3)

    def run(module: torch.nn.Module, steps: int, folder: str) -> None:
        def loss_of(_: object) -> dict[str, torch.Tensor]:
            return {"loss": (module(torch.eye(4)) - target).square().mean()}

        options = LoopOptions(steps=steps, learning_rate=0.05, warmup=1, floor=1.0, bf16=False)
        train("t", module, iter(lambda: 0, 1), loss_of, tmp_path / folder, options)

    whole = fresh()
    run(whole, 60, "whole")
    run(fresh(), 30, "parts")
    second = torch.nn.Linear(4, 3)
    run(second, 60, "parts")
    torch.testing.assert_close(second.weight, whole.weight)
    assert (second(torch.eye(4)) - target).square().mean() < 0.5 * (fresh()(torch.eye(4)) - target).square().mean()


def test_the_mean_of_the_weights_is_scored_and_left_behind(tmp_path):
    """The loss pulls the weight up by about one rate a step: the mean lags, also over an interruption."""
    scored: list[float] = []

    def run(steps: int) -> torch.nn.Linear:
        module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(module.weight)
        options = LoopOptions(
            steps=steps, learning_rate=0.1, warmup=1, floor=1.0, weight_decay=0.0, bf16=False, averaging=0.9
        )

        def score() -> dict[str, float]:
            scored.append(float(module.weight.detach()))
            return {"weight": scored[-1]}

        train(
            "t", module, iter(lambda: 0, 1), lambda _: {"loss": -module.weight.sum()}, tmp_path, options,
            evaluate=score, evaluate_every=steps,
        )  # fmt: skip
        return module

    run(60)
    module = run(120)
    last = float(torch.load(tmp_path / "state.pt", weights_only=True)["module"]["weight"])
    assert last == pytest.approx(12.0, rel=0.01)
    expected = 0.0
    for step in range(1, 121):
        decay = min(0.9, step / (step + AVERAGED_AT_FIRST))
        expected = decay * expected + (1 - decay) * 0.1 * step
    mean = float(module.weight.detach())
    assert mean == pytest.approx(expected, rel=0.01)
    assert mean < last - 0.5
    assert scored[-1] == mean
    torch.testing.assert_close(trained_weights(tmp_path / "state.pt")["weight"], module.weight.detach())


def test_a_dialogue_whose_beginning_is_missing_is_not_heard():
    first, second, other = (Turn(text, "yes", "fact.snow", ()) for text in ("one", "two", "three"))

    def clip(turn, *context):
        return Utterance(np.zeros(16, np.int16), "", "", turn, context)

    corpus = [
        clip(second, first),
        clip(first),
        clip(second, first),
        clip(None),
        clip(other, first, second),
        clip(other),
    ]
    assert dialogues_of(corpus) == [[1, 2, 4], [5]]


def test_workers_make_what_is_learned_from(trained, tmp_path):
    """Batches from two processes train the stages that take them."""
    work, out = trained
    steps = {"text_llm": 4, "ctc": 4, "adapter": 2, "heard": 2, "state": 2}
    shutil.copytree(work, tmp_path / "work")
    for folder in steps:
        shutil.rmtree(tmp_path / "work" / folder)
    pipeline = Pipeline(PRESETS["smoke"], tmp_path / "work", out, seed=1, device="cpu", workers=2)
    for stage in ("text", "ctc", "adapter", "heard", "state"):
        pipeline.run(stage)
    for folder, count in steps.items():
        rows = [line.split(",") for line in (tmp_path / "work" / folder / "log.csv").read_text().splitlines()]
        assert all(math.isfinite(float(value)) for _, _, value in rows)
        assert steps_done(tmp_path / "work" / folder) == count


def test_the_words_of_users_are_counted_once(trained, tmp_path):
    """Anew for a training that begins with a checkpoint: the world may have changed. Without them there is no search."""
    work, out = trained
    kept = NgramModel.read(work / "ngrams.safetensors")
    writer = DialogueWriter(load_tokenizer(work / "llm"))
    text = next(clip.text for clip in load_corpus(work / "corpus" / "asr") if clip.turn is not None)
    assert kept.log_probability(writer.encode(text)) > kept.log_probability(writer.encode(text)[::-1])
    np.testing.assert_array_equal(load_checkpoint(out, None).word_search.model.piece, kept.piece)
    shutil.copytree(work / "llm", tmp_path / "llm")
    warm = Pipeline(replace(PRESETS["smoke"], said_dialogues=40), tmp_path, out, 1, "cpu", start_from=out)
    with pytest.raises(FileNotFoundError, match="run the stage 'words' first"):
        warm._search(writer)
    warm.run("words")
    assert 0 < len(warm._search(writer).model.piece) < len(kept.piece)


def test_the_ears_words_are_counted_by_voice(trained, capsys):
    work, out = trained
    assert hearing_errors.main([str(work / "corpus" / "asr_test"), "--checkpoint", str(out), "--count", "6"]) == 0
    clean = capsys.readouterr().out
    assert "all " in clean
    assert "in 6 utterances" in clean
    assert hearing_errors.main([str(work / "nothing"), "--checkpoint", str(out)]) == 1
    assert "no corpus shards" in capsys.readouterr().err
    model = load_checkpoint(out, None)
    clip = load_corpus(work / "corpus" / "asr_test")[0]
    said = dataclasses.replace(clip, text=hearing_errors.heard_text(model, np.pad(clip.samples(), (3200, 6400))))
    if said.text:
        [(voice, wrong, words)] = hearing_errors.word_errors_by_voice(model, [said], None, 1)
        assert (wrong, words) == (0, len(plain_words(said.text).split()))
    [(voice, wrong, words)] = hearing_errors.word_errors_by_voice(
        model, [dataclasses.replace(clip, text="xylo phone")], None, 1
    )
    assert clip.voice.startswith(f"{voice}:")
    assert wrong >= 2 == words


def test_wrong_answers_are_counted_beside_what_was_heard(trained, capsys):
    work, out = trained
    corpus = work / "corpus" / "asr_test"
    assert reading_errors.main([str(corpus), "--checkpoint", str(out), "--count", "3", "--list"]) == 0
    *wrong, right, heard, found, missed = capsys.readouterr().out.splitlines()
    assert len(wrong) == 3  # a model of the smoke preset says nothing right
    assert right.split()[:4] == ["right", "0.000", "of", "3"]
    assert found.startswith("with the word search")
    assert [line.split()[-1] for line in (heard, found, missed)] == ["0.000"] * 3
    assert reading_errors.main([str(work / "nothing"), "--checkpoint", str(out)]) == 1
    assert "no corpus shards" in capsys.readouterr().err


def test_what_is_outside_the_world_is_asked_apart(trained, capsys, monkeypatch):
    work, out = trained
    clips = [clip for clip in load_corpus(work / "corpus" / "asr_test") if clip.turn is not None]
    intents = ("outside.health", "spell", "outside.people")
    refused = (("don't know",),)
    clips = [
        replace(c, turn=replace(c.turn, intent=name, answer=refused)) for c, name in zip(clips, intents, strict=False)
    ]
    monkeypatch.setattr(reading_errors, "load_corpus", lambda _: clips)
    for options, turns in ((["--outside"], 2), ([], 1)):
        assert reading_errors.main([str(work), "--checkpoint", str(out), *options]) == 0
        assert f"0.000 of {turns} turns" in capsys.readouterr().out
    asked = [str(work), "--checkpoint", str(out), "--outside", "--refuse-from"]
    assert reading_errors.main([*asked, "1e-300"]) == 0
    assert "1.000 of 2 turns" in capsys.readouterr().out
    assert reading_errors.main([*asked, "0"]) == 1
    assert "above 0 and at most 1, not 0.0" in capsys.readouterr().err
    clips[:] = clips[1:2]
    assert reading_errors.main([str(work), "--checkpoint", str(out), "--outside"]) == 1
    assert "no user turns outside the world" in capsys.readouterr().err


def test_interruptions_are_counted_by_what_is_asked_for(trained, capsys):
    work, out = trained
    assert barge_in.main([str(work / "corpus"), "--checkpoint", str(out), "--count", "3"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("barge_in_probability | interruptions")
    shares = [[0.0 if cell == "-" else float(cell) for cell in row.split(" | ")] for row in rows]
    assert [row[0] for row in shares] == sorted(row[0] for row in shares)
    for column in (1, 3, 4, 5):
        told = [row[column] for row in shares]
        assert told == sorted(told, reverse=True)
        assert all(0.0 <= share <= 1.0 for share in told)
    assert barge_in.main([str(work / "nothing"), "--checkpoint", str(out)]) == 1
    assert "no corpus shards" in capsys.readouterr().err


def test_frequent_words_take_the_places_of_rare_pieces():
    pieces = [
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((letter, -4.0) for letter in "abcdemoprt"),
        ("\u2581tomato", -9.0),
        ("\u2581car", -5.0),
    ]
    words = Counter({"came": 90, "car": 40, "tomato": 3, "more": 2})
    places = with_frequent_words(pieces, words)
    assert [piece for piece, _ in places] == [*(piece for piece, _ in pieces[:-2]), "\u2581came", "\u2581car"]
    model = models.Unigram(places, unk_id=0)
    cut = {word: [token.value for token in model.tokenize("\u2581" + word)] for word in words}
    assert cut["came"] == ["\u2581came"]
    assert cut["car"] == ["\u2581car"]
    assert "".join(cut["tomato"]) == "\u2581tomato"


def test_rate_warms_up_and_falls():
    options = LoopOptions(steps=100, learning_rate=3.0, warmup=10, floor=0.1)
    rates = [share_at(step, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_ctc_text_round_trip_and_collapse():
    assert spelled(characters("What's 7 up?")) == "what's  up"
    log_probs = torch.full((6, 29), -9.0)
    for frame, symbol in enumerate([0, 3, 3, 0, 3, 5]):
        log_probs[frame, symbol] = 0.0
    assert greedy_tokens(log_probs) == [3, 3, 5]


def test_ctc_model_sees_four_frames_a_chunk():
    model = CtcModel(EncoderDims(dim=16, heads=2, feed_forward=32, blocks=1), vocabulary=40).eval()
    features = stream_features(np.zeros(3 * 2560 + 1, np.float32))
    assert features.shape == (3 + 16 * 4, 80)
    by_character, by_piece = model(features[None])
    assert by_character.shape == (1, 16, 29)
    assert by_piece.shape == (1, 16, 41)


def test_an_adapter_begins_as_the_ctc_head_of_its_encoder():
    torch.manual_seed(0)
    dim, vocabulary, blank = 24, 12, 3  # symbol 4, blank as a piece, is never said
    head = torch.nn.Linear(dim, vocabulary + 1)
    adapter = Adapter(AdapterDims(dim, 16, kernel=9, pieces=vocabulary)).eval()
    frames = torch.zeros(1, 40, dim)  # every other frame speaks, clearly of one thing
    for position, symbol in enumerate(said := [5, 0, 9, 7, 0, 1, 12]):
        frames[0, 2 * position] = 6.0 * head.weight[symbol].detach() / head.weight[symbol].norm()
    with torch.inference_mode():
        untaught = adapter(frames)[0, : len(said), :vocabulary].argmax(-1)
        hear_like(adapter, head, blank)
        heard = adapter(frames)[0, : len(said), :vocabulary].argmax(-1)
        wanted = head(frames[0, 0 : 2 * len(said) : 2]).argmax(-1)
    assert [blank if symbol == 0 else symbol - 1 for symbol in wanted.tolist()] == heard.tolist()
    assert untaught.tolist() != heard.tolist()


def test_an_adapter_of_two_convolutions_begins_as_it_is():
    adapter = Adapter(AdapterDims(4, 32, pieces=12))
    before = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
    hear_like(adapter, torch.nn.Linear(4, 13), 3)
    torch.testing.assert_close(dict(adapter.state_dict()), before)


def test_ctc_takes_any_id_for_the_blank():
    log_probs = torch.full((1, 6, 5), -9.0)
    log_probs[0, torch.arange(6), torch.tensor([2, 4, 4, 2, 0, 2])] = -0.01
    by_two = ctc_loss(log_probs, [[4, 0]], torch.tensor([6]), blank=2)
    assert by_two < 0.1
    assert ctc_loss(log_probs, [[4, 0]], torch.tensor([6]), blank=3) > 1.0


def test_states_and_interruptions_are_learned_where_they_are_judged(trained):
    work, _ = trained
    model, _ = Pipeline(PRESETS["smoke"], work, work / "checkpoint", seed=1, device="cpu")._listen_model("state")
    hidden, cues = torch.randn(2, 5, model.state_head.in_features), torch.randn(2, 3, 4)
    chunks = torch.tensor([[0, 1, 0, 1, -100], [0, 3, 2, -100, 1], [1, 2, 1, 2, 0], [1, 4, 1, -100, -100]])
    judged = model._state_logits(hidden, cues, chunks)
    losses = model.state_losses(judged, chunks)
    logits = model.state_head(hidden)
    for position, heard in ((1, 0), (3, 2)):
        logits[0, position] += cues[0, heard]
    logits[1, 2] += cues[1, 1]
    log_probs = torch.log_softmax(torch.stack([logits[0, 1], logits[1, 2]])[:, :3], dim=-1)
    state = -(log_probs[0, 1] + log_probs[1, 2]) / 2
    taking = -(torch.sigmoid(logits[0, 3, 3]).log() + (1 - torch.sigmoid(logits[1, 2, 3])).log()) / 2
    torch.testing.assert_close(losses["state"], state)
    torch.testing.assert_close(losses["interruption"], taking)
    assert all(torch.isfinite(loss) for loss in model.state_losses(judged[3:], chunks[3:]).values())


def test_timed_items_are_judged_chunk_by_chunk(trained):
    work, _ = trained
    writer = DialogueWriter(load_tokenizer(work / "llm"))
    pools = load_pools(*(work / "corpus" / name for name in ("asr", "split_turns", "backchannels", "noise")))
    for item in itertools.islice(state_items(pools, writer, 3), 60):
        chunks = (len(item.features) - CHUNK_FRAMES) // NEW_FRAMES + 1
        assert len(item.labels) == len(item.interrupting) == chunks
        told = [label for label in item.interrupting if label != DONT_CARE]
        if item.reply is None:
            assert set(told) <= {0}
        else:
            assert set(told) <= {1}
            assert told == item.interrupting[len(item.interrupting) - len(told) :]


@torch.inference_mode()
def test_in_training_a_turns_words_are_read_again_before_the_reply(trained):
    """The LLM thinks of the reply as if the words that the search finds stood at the turn's end."""
    work, out = trained
    model, writer = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")._listen_model("head")
    model.eval()
    generator = torch.Generator().manual_seed(3)
    items = [
        Spoken(torch.zeros(0), "", [*writer.chat.prefix], reply, [0] * (n // 2), [-100] * (n // 2))
        for n, reply in ((6, "Yes."), (4, None))
    ]
    adapted = 9 * torch.randn(2, 6, model.adapter.dims.pieces + model.prompt_embeddings.shape[1], generator=generator)
    hidden, wanted, chunks = model.think(items, writer, adapted, [12, 8])
    read = as_pieces(adapted[0], model.llm.get_input_embeddings().weight)
    [words] = model.search.words(adapted[:1, :, : model.adapter.dims.pieces], [6])
    assert words
    reply = writer.encode("Yes.")
    embedding = model.llm.get_input_embeddings()
    ends = [embedding(torch.tensor(ids)) for ids in (writer.chat.prefix, words, [*writer.chat.suffix, *reply])]
    whole = torch.cat([ends[0], model.prompt_embeddings, read, *ends[1:]])
    alone = model.llm.model(inputs_embeds=whole[None]).last_hidden_state[0]
    torch.testing.assert_close(hidden[0, : len(whole)], alone, rtol=1e-3, atol=1e-4)
    last = len(whole) - len(reply) - 1
    assert wanted[0, last : len(whole)].tolist() == [*reply, writer.chat.end_of_turn]
    assert set(wanted[0, :last].tolist()) == {IGNORED} == set(wanted[1].tolist())
    assert chunks[:, :2].tolist() == [[0, len(ends[0]) + 5 + at] for at in (1, 3, 5)] + [
        [1, len(ends[0]) + 5 + at] for at in (1, 3)
    ]


def test_calibration_error_is_the_distance_between_probability_and_share():
    assert calibration_error(torch.tensor([0.75] * 4), torch.tensor([True, True, True, False])) == 0.0
    assert calibration_error(torch.tensor([0.95] * 4), torch.tensor([True, True, False, False])) == pytest.approx(0.45)
    two = torch.tensor([0.05, 0.05, 1.0, 1.0]), torch.tensor([False, False, True, False])
    assert calibration_error(*two) == pytest.approx(0.5 * 0.05 + 0.5 * 0.5)


def test_a_checkpoint_is_judged_on_timed_turns(trained):
    """As training sees it: what the exported checkpoint gets wrong here is what its own listening half does."""
    work, out = trained
    pools = load_pools(*(work / "corpus" / name for name in ("asr", "split_turns", "backchannels", "noise")))
    figures = calibration(out, pools, 8, 3)
    assert set(figures) == {"respond_calibration_error", "interruption_calibration_error"}
    model, writer = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")._listen_model("head")
    items = [*itertools.islice(state_items(pools, writer, 3), 8)]
    logits, wanted, _ = model.eval().judged(items, writer)
    exported = listening_half(out)[0].judged(items, writer)[0]
    asked = wanted != IGNORED
    before, after = (given[asked, :3].softmax(-1)[:, 1] for given in (logits, exported))
    torch.testing.assert_close(after, before, atol=2e-2, rtol=0)  # the checkpoint's weights are rounded to 8 bit
    assert figures["respond_calibration_error"] == pytest.approx(calibration_error(after, wanted[asked] == 1), abs=1e-4)


def test_a_warped_axis_moves_a_peak_by_its_factor():
    mel = torch.linspace(0, 1, 80)
    features = torch.exp(-((mel - 0.5) ** 2) / 0.002)[None]
    peaks = []
    for step in (-8, 0, 8):
        warped = features @ _warp(step, step)
        peaks.append(float((warped * torch.arange(80)).sum() / warped.sum()))
    assert peaks[1] == pytest.approx(39.5, abs=0.1)
    assert peaks[2] + 2 < peaks[1] < peaks[0] - 2


def test_the_two_ends_of_an_axis_are_warped_by_factors_of_their_own():
    mixed, low, high = _warp(8, -8), _warp(8, 8), _warp(-8, -8)
    assert torch.allclose(mixed[:, 0], low[:, 0], atol=0.1)
    assert torch.allclose(mixed[:, -1], high[:, -1], atol=0.1)
    assert torch.allclose(mixed.sum(0), torch.ones(80), atol=1e-5)


def test_hidden_matrices_are_told_from_the_rest():
    model = CtcModel(EncoderDims(dim=16, heads=2, feed_forward=32, blocks=1), vocabulary=40)
    names = {name for name, p in model.named_parameters() if _is_hidden_matrix(name, p)}
    assert "encoder.enc.1.encoders.0.self_attn.linear_q.weight" in names
    assert "encoder.enc.1.encoders.0.feed_forward.w_1.weight" in names
    assert not any("norm" in name or "bias" in name or "heads." in name or "embed" in name for name in names)


def test_muon_takes_the_steps_of_the_one_in_torch():
    """Matrices of one shape are turned together, and each of them as if it were alone."""
    torch.manual_seed(0)
    ours = [
        torch.nn.Parameter(0.1 * torch.randn(shape)) for shape in ((12, 12), (12, 12), (24, 12), (12, 24), (24, 12))
    ]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in ours]
    began = [matrix.detach().clone() for matrix in ours]
    muon = _Muon(ours, 0.02, 0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for step in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        if step == 2:
            ours[1].grad = theirs[1].grad = None
        muon.step()
        reference.step()
    for a, b, before in zip(ours, theirs, began, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
        assert (a - before).abs().max() > 0.01


def test_training_with_muon_goes_on_where_it_stopped(tmp_path):
    def run(steps: int, folder: str) -> torch.nn.Module:
        torch.manual_seed(1)
        module = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False)), torch.nn.Linear(4, 1))

        def loss_of(_: object) -> dict[str, torch.Tensor]:
            return {"loss": (module(torch.eye(4)) - torch.arange(4.0)[:, None]).square().mean()}

        options = LoopOptions(steps, learning_rate=0.05, warmup=1, floor=1.0, bf16=False, matrix_rate=0.02)
        train("t", module, iter(lambda: 0, 1), loss_of, tmp_path / folder, options)
        return module

    whole = run(60, "whole")
    run(30, "parts")
    parts = run(60, "parts")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert ((whole(torch.eye(4)) - torch.arange(4.0)[:, None]).square().mean() < 0.5).item()


def test_slow_parts_move_at_a_share_of_the_rate(tmp_path):
    module = torch.nn.ModuleDict({"fast": torch.nn.Linear(4, 4), "slow": torch.nn.Linear(4, 4)})
    before = {name: p.detach().clone() for name, p in module.named_parameters()}

    def loss_of(_: object) -> dict[str, torch.Tensor]:
        return {"loss": sum(part(torch.eye(4)).sum() for part in module.values())}

    options = LoopOptions(2, learning_rate=0.1, warmup=1, bf16=False, weight_decay=0.0, slow_parts=("slow",))
    train("t", module, iter(lambda: 0, 1), loss_of, tmp_path, options)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in module.named_parameters()}
    assert moved["slow.weight"] == pytest.approx(options.slow_share * moved["fast.weight"], rel=1e-3)
    assert moved["fast.weight"] > 0


def test_mel_frames_match_the_hop():
    assert MelFrames(150)(torch.zeros(2, 24000)).shape == (2, 80, 160)


def test_the_official_kind_of_codec_trains_too(tmp_path):
    dims = GeneratorDims(16, 32, (8, 5, 5, 3), (16, 11, 11, 5), "1", (3,), ((1, 3),))
    times = np.arange(48_000) / 16_000
    clips = [(8000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16) for hertz in (150, 220, 330)]
    options = LoopOptions(steps=12, learning_rate=2e-3, warmup=1, matrix_rate=0.0, bf16=False)
    trainer = codec_stage.run(clips, tmp_path, dims, 32, options, 1)
    torch.manual_seed(1)
    untrained = CodecTrainer(dims, 32).eval()
    audio = next(codec_stage.segments(clips, 4, 12, 600, 2))
    with torch.inference_mode():
        assert trainer.codes(audio).shape == (4, 12)
        assert trainer.eval()(audio)["mel"] < untrained(audio)["mel"]


def test_codes_stand_still_while_the_codecs_decoder_learns_on():
    torch.manual_seed(3)
    trainer = CodecTrainer(
        IstftDims(input_dim=16, dim=24, token_blocks=1, frame_blocks=1), 32, fixed_after=OPEN_STEPS + 1
    )
    trainer.step.fill_(OPEN_STEPS)  # the codebook is in use
    audio = torch.randn(2, 12 * trainer.generator.samples_per_token) * 0.1
    for fixed in (False, True):
        trainer.zero_grad()
        table = trainer.quantizer.codebook.embedding.weight.clone()
        trainer(audio)["loss"].backward()
        assert torch.equal(table, trainer.quantizer.codebook.embedding.weight) is fixed
        assert all((p.grad is None) is fixed for p in trainer.encoder.parameters())
        assert all(p.grad is not None for p in trainer.generator.parameters())


@pytest.mark.parametrize("symbols", [0, BYTES])
def test_teacher_forcing_equals_streaming_with_padding(symbols):
    torch.manual_seed(0)
    dims = SpeechDecoderDims(dim=16, heads=2, feed_forward=32, blocks=2, codes=20, symbols=symbols)
    decoder = SpeechDecoder(dims).eval()
    text, prefix = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    codes = torch.randint(20, (2, 6))
    places = torch.rand(2, 5).cumsum(1) * 3 if symbols else None
    with torch.inference_mode():
        both = decoder(text, torch.tensor([5, 3]), prefix, torch.tensor([2, 4]), codes, places)
        for row, (t, p) in enumerate(((5, 2), (3, 4))):
            own = None if places is None else places[row, :t]
            cache, _ = decoder.begin(text[row : row + 1, :t], prefix[row : row + 1, :p], own)
            fed = [decoder.dims.sos, *codes[row].tolist()]
            for step, token in enumerate(fed):
                torch.testing.assert_close(decoder.step(token, cache), both[row, step], rtol=1e-4, atol=1e-5)


def test_streaming_goes_on_past_the_first_block_of_positions():
    torch.manual_seed(0)
    decoder = SpeechDecoder(SpeechDecoderDims(dim=16, heads=2, feed_forward=32, blocks=2, codes=20)).eval()
    text, prefix = torch.randn(1, 3, 16), torch.randn(1, 2, 16)
    codes = torch.randint(20, (1, 2 * CACHE_BLOCK + 5))
    with torch.inference_mode():
        whole = decoder(text, torch.tensor([3]), prefix, torch.tensor([2]), codes)[0]
        cache, _ = decoder.begin(text, prefix)
        streamed = torch.stack([decoder.step(token, cache) for token in [decoder.dims.sos, *codes[0].tolist()]])
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-5)


def test_how_long_a_symbol_lasts_is_read_from_a_corpus():
    rng = random.Random(0)
    lasting = {"a": 4, "b": 1, ".": 10}
    texts = ["".join(rng.choices("ab", k=rng.randint(3, 12))) + "." for _ in range(4000)]
    clips = [Said(text, torch.zeros(1, 4), torch.zeros(sum(lasting[letter] for letter in text))) for text in texts]
    found = codes_of_symbols(clips, Lexicon().symbols_of, BYTES)
    for letter, codes in lasting.items():
        assert float(found[ord(letter)]) == pytest.approx(codes, abs=0.3)
    mean = sum(len(clip.codes) for clip in clips) / sum(len(text) for text in texts)
    assert float(found[ord("z")]) == pytest.approx(mean)


def test_clips_are_coded_together_as_they_are_alone(trained):
    work, out = trained
    codec = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")._codec()
    clips = [clip.pcm for clip in load_corpus(work / "corpus" / "agent")[:6]]
    clips += [clips[0][::-1].copy(), clips[1][:-50]]  # as long as the first, and about as long as the second
    for together, clip in zip(codes_of(codec, clips), clips, strict=True):
        assert len(together) == -(-len(clip) * 3 // (2 * codec.generator.samples_per_token))
        assert torch.equal(together, codes_of(codec, [clip])[0])


def test_replies_are_found_together_as_they_are_alone(trained):
    work, _ = trained
    llm = AutoModelForCausalLM.from_pretrained(work / "heard" / "llm", dtype=torch.float32).eval()
    writer = DialogueWriter(load_tokenizer(work / "llm"))
    prompts = [
        writer.write(dialogue, random.Random(3)).ids for dialogue in itertools.islice(practice(random.Random(3)), 5)
    ]
    assert len({len(prompt) for prompt in prompts}) > 1
    limits = [3, 9, 5, 9, 1]
    for prompt, limit, reply in zip(prompts, limits, greedy_replies(llm, writer, prompts, limits), strict=True):
        said: list[int] = []
        while len(said) < limit:
            piece = int(llm(torch.tensor([[*prompt, *said]])).logits[0, -1].argmax())
            if piece == writer.chat.end_of_turn:
                break
            said.append(piece)
        assert reply == writer.decode(said)


def test_prompts_begin_as_what_announces_audio_to_the_llm(trained):
    work, out = trained
    model, writer = Pipeline(PRESETS["smoke"], work, out, 1, "cpu")._listen_model("adapter")
    announces = model.llm.get_input_embeddings().weight[writer.audio_start]
    assert model.prompt_embeddings.shape == (PROMPT_POSITIONS, len(announces))
    assert all(torch.equal(row, announces) for row in model.prompt_embeddings)


def test_hidden_states_are_the_same_alone_and_in_a_batch(trained):
    work, _ = trained
    llm = AutoModelForCausalLM.from_pretrained(work / "llm").eval()
    asked = [([5, 6, 7, 8, 9], [1, 4]), ([10, 11], [0]), ([12, 13, 14], [2, 1, 0])]
    for together, one in zip(hidden_rows(llm, asked), asked, strict=True):
        torch.testing.assert_close(together, hidden_rows(llm, [one])[0])
        assert together.shape == (len(one[1]), llm.config.hidden_size)


def test_what_the_llm_thought_is_swapped_or_blurred_in_training_alone():
    torch.manual_seed(0)
    batch = [Said("a", torch.full((row + 1, 4), float(row + 1)), torch.tensor([1])) for row in range(4)]

    def hidden(*, corrupt):
        states, rows = _hidden(Batch.of(batch, lambda text: list(text.encode()), 2), corrupt=corrupt)
        return [state[:count] for state, count in zip(states, rows.tolist(), strict=True)]

    for rows, clip in zip(hidden(corrupt=False), batch, strict=True):
        torch.testing.assert_close(rows, clip.hidden)
    foreign = 0
    for _ in range(50):
        for row, rows in enumerate(hidden(corrupt=True)):
            other = batch[row - 1].hidden
            swapped = rows.shape == other.shape and torch.equal(rows, other)
            foreign += swapped
            assert swapped or (rows.shape == batch[row].hidden.shape and not torch.equal(rows, batch[row].hidden))
    assert foreign / 200 == pytest.approx(FOREIGN_HIDDEN, abs=0.12)


@pytest.mark.parametrize("symbols", [0, BYTES])
def test_clips_are_learned_from_together_as_they_are_alone(symbols):
    torch.manual_seed(0)
    dims = SpeechDecoderDims(dim=16, heads=2, feed_forward=32, blocks=2, codes=20, symbols=symbols)
    decoder, embedding = SpeechDecoder(dims).eval(), torch.nn.Embedding(256, 32)
    if symbols:
        decoder.symbol_codes.uniform_(1.0, 4.0)
    clips = [Said("ab", torch.randn(2, 32), torch.arange(7)), Said("abcde", torch.randn(4, 32), torch.arange(11))]

    def loss(batch):
        together = Batch.of(batch, lambda text: list(text.encode()), dims.eos)
        return float(decoder_loss(decoder, embedding, together, corrupt=False)["loss"])

    with torch.inference_mode():
        alone = (loss(clips[:1]) * 8 + loss(clips[1:]) * 12) / 20
        together = loss(clips)
    assert together == pytest.approx(alone, rel=1e-5)


def test_presets_fit_the_size_promise():
    """Parameters of the shipped preset, of the LLM in 16 bit and else in 8, stay under 40 MB."""
    from duplex.model.codec import make_generator
    from duplex.model.encoder import SpeechEncoder

    preset = PRESETS["tiny"]
    llm = preset.llm
    adapter = AdapterDims(preset.encoder.dim, llm.hidden, preset.adapter_kernel, pieces=llm.vocabulary)
    block = (
        llm.hidden * (2 * llm.hidden + 2 * llm.hidden * llm.kv_heads // llm.heads) + 3 * llm.hidden * llm.feed_forward
    )
    text = llm.layers * block + llm.vocabulary * llm.hidden
    decoder, codec = SpeechDecoder(preset.decoder), make_generator(preset.codec)
    others = (SpeechEncoder(preset.encoder), Adapter(adapter), decoder, codec)
    assert preset.eight_bit
    assert 2 * text + sum(p.numel() for m in others for p in m.parameters()) < 40e6


def test_positions_that_predict_nothing_count_for_nothing(trained):
    work, _ = trained
    llm = AutoModelForCausalLM.from_pretrained(work / "llm", dtype=torch.float32).eval()
    ids = torch.arange(24).reshape(2, 12)
    kinds = torch.tensor([[0, 1, 1, 0, 2, 2, 2, 0, 0, 1, 2, 0]] * 2)
    targets = torch.where(kinds > 0, ids + 1, IGNORED)
    losses = language_loss(llm, llm.get_input_embeddings()(ids), targets, kinds)
    logits = llm(ids).logits
    for name, kind in (("reply", 2), ("user", 1)):
        expected = torch.nn.functional.cross_entropy(logits[kinds == kind], targets[kinds == kind])
        torch.testing.assert_close(losses[name], expected)
    torch.testing.assert_close(losses["loss"], losses["reply"] + USER_WEIGHT * losses["user"])


def test_the_llm_goes_on_with_what_the_ears_make_of_the_corpus(trained):
    """Whole dialogues, each turn with as many positions as its recording has, doubts where the user speaks."""
    work, _ = trained
    pipeline = Pipeline(PRESETS["smoke"], work, work / "checkpoint", seed=1, device="cpu")
    model, writer = pipeline._ears("adapter")
    model.search = pipeline._search(writer)
    corpus = load_corpus(work / "corpus" / "asr")
    whole = dialogues_of(corpus)
    assert sorted(number for dialogue in whole for number in dialogue) == [
        number for number, clip in enumerate(corpus) if clip.turn is not None
    ]
    stream = heard_dialogues(model, corpus, seed=1)
    dialogues, again = (list(itertools.islice(stream, len(whole))) for _ in range(2))

    def turns(heard):
        return sorted(repr([turn.turn for turn in dialogue]) for dialogue in heard)

    assert turns(dialogues) == turns(again) == sorted(repr([corpus[i].turn for i in of]) for of in whole)
    assert {tuple(h.first) for d in dialogues for h in d} != {tuple(h.first) for d in again for h in d}
    assert all(len(heard.first) == len(heard.second) == len(heard.doubt) for d in dialogues for heard in d)
    assert all(0 <= doubt <= 0.5 for d in dialogues for heard in d for doubt in heard.doubt)
    examples = list(heard_examples(writer, dialogues, 3))
    written = sum(kind == 1 for example in examples for kind in example.kinds)
    turns_heard = [heard for dialogue in dialogues for heard in dialogue]
    assert written == sum(len(heard.first) + len(heard.words) for heard in turns_heard)
    assert any(heard.words for heard in turns_heard)
    assert all(kind == 1 for e in examples for kind, doubt in zip(e.kinds, e.doubt, strict=True) if doubt)
    ids, targets, kinds, second, doubt = next(batches(iter(examples), 2000, 1, 96))
    assert ids.shape == targets.shape == kinds.shape == second.shape == doubt.shape


def test_a_tokenizer_stays_what_its_weights_know(trained, tmp_path):
    kept = tmp_path / "llm" / "tokenizer.json"
    kept.parent.mkdir()
    kept.write_text("of an LLM that is trained already")
    Pipeline(PRESETS["smoke"], tmp_path, tmp_path / "out", 1, "cpu", trained[1]).tokenizer()
    assert kept.read_text() == "of an LLM that is trained already"


def test_a_half_trained_stage_is_named(trained, tmp_path, capsys):
    work, _ = trained
    module = CodecTrainer(PRESETS["smoke"].codec, PRESETS["smoke"].codes)
    _restore(module, work / "codec", PRESETS["smoke"])
    assert capsys.readouterr().err == ""
    _restore(module, work / "codec", PRESETS["tiny"])
    assert "codec is at step 4 of 7000" in capsys.readouterr().err


def test_heard_reads_other_dialogues_than_text(trained, tmp_path, monkeypatch):
    seeds = []
    work = tmp_path / "work"
    shutil.copytree(trained[0], work)
    monkeypatch.setattr(text_llm, "run", lambda *arguments, **_: seeds.append(arguments[4]))
    pipeline = Pipeline(PRESETS["smoke"], work, tmp_path / "out", 1, "cpu")
    pipeline.text()
    pipeline.heard()
    assert len(set(seeds)) == 2
