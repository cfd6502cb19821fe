"""What a training leaves behind and takes up again: notes, locks, logs, means; and what it refuses to begin."""

import fcntl
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from duplex.core.errors import ConfigError
from duplex.train import cli, codec_stage
from duplex.train.cli import main
from duplex.train.codec_stage import OPEN_STEPS, CodecTrainer
from duplex.train.loop import LoopOptions, _Log, alone, train, trained_weights
from duplex.train.presets import PRESETS


def test_what_cannot_be_trained_is_said_before_anything_is_made(tmp_path, capsys, monkeypatch):
    asked = ["tokenizer", "--preset", "smoke", "--work", str(tmp_path / "work")]
    assert main([*asked, "--start-from", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is no checkpoint to start from" in capsys.readouterr().err
    assert main([*asked, "--device", "cuda:99"]) == 1
    assert "--device cuda:99" in capsys.readouterr().err
    for option in ("--workers", "--threads"):
        with pytest.raises(SystemExit):
            main([*asked, option, "-1"])
        assert "at least 0, not -1" in capsys.readouterr().err
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert main(["evaluate", "--work", str(tmp_path / "work")]) == 1
    assert "evaluate needs pocketsphinx" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_training_does_not_write_over_the_shipped_checkpoint(tmp_path, monkeypatch):
    outs = []

    def pipeline(preset, work, out, *_):
        outs.append(out)
        raise ConfigError("enough")

    monkeypatch.setattr(cli, "Pipeline", pipeline)
    assert main(["all", "--preset", "smoke", "--work", str(tmp_path), "--device", "cpu"]) == 1
    assert outs == [Path("checkpoints/mine")]


def test_two_trainings_in_one_folder_are_kept_apart(tmp_path):
    with alone(tmp_path), pytest.raises(ConfigError, match="another process trains here"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_a_log_goes_on_where_its_state_was_saved(tmp_path):
    (tmp_path / "log.csv").write_text("20,loss,2\n40,loss,1.5\n60,loss,1.2\n80,lo")
    log = _Log(tmp_path, 50)
    log.add(51, {"loss": 1.4})
    assert (tmp_path / "log.csv").read_text().split() == ["20,loss,2", "40,loss,1.5", "51,loss,1.4"]
    log.plot()
    assert (tmp_path / "curve.png").exists()


def test_tied_weights_have_one_mean(tmp_path):
    module = torch.nn.ModuleDict(
        {"read": torch.nn.Linear(3, 3, bias=False), "write": torch.nn.Linear(3, 3, bias=False)}
    )
    module["write"].weight = module["read"].weight
    options = LoopOptions(steps=30, learning_rate=0.1, warmup=1, averaging=0.99)
    train("t", module, iter(lambda: 0, 1), lambda _: {"loss": module["read"].weight.square().sum()}, tmp_path, options)
    weights = trained_weights(tmp_path / "state.pt")
    torch.testing.assert_close(weights["write.weight"], weights["read.weight"])
    torch.testing.assert_close(weights["read.weight"], module["read"].weight.detach())


def test_a_codec_that_goes_on_hears_other_excerpts(tmp_path, monkeypatch):
    seeds = []

    def no_segments(clips, batch, tokens, hop, seed):
        seeds.append(seed)
        return iter(())

    monkeypatch.setattr(codec_stage, "segments", no_segments)
    monkeypatch.setattr(codec_stage, "train", lambda *_, **__: None)
    for steps in (0, 3):
        if steps:
            torch.save({"step": steps}, tmp_path / "state.pt")
        codec_stage.run([], tmp_path, PRESETS["smoke"].codec, 64, LoopOptions(4, 1e-3), 1)
    assert seeds == [1, 4]


def test_a_codec_taken_up_just_before_its_codebook_comes_in_gathers_first():
    trainer = CodecTrainer(PRESETS["smoke"].codec, PRESETS["smoke"].codes)
    trainer.step.fill_(OPEN_STEPS - 1)
    audio = torch.randn(16, 36 * trainer.generator.samples_per_token) * 0.1
    steps = 0
    while int(trainer.step) < OPEN_STEPS:
        with torch.no_grad():
            trainer(audio)
        steps += 1
        assert steps < 20
    assert steps == math.ceil(codec_stage.GATHERED / (16 * 36))
    assert trainer.quantizer.codebook.embedding.weight.isfinite().all()


def test_a_synthesis_that_is_killed_leaves_its_folder_free(tmp_path):
    command = [sys.executable, "bin/train.py", "users", "--preset", "smoke", "--workers", "2", "--device", "cpu"]
    with subprocess.Popen([*command, "--work", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        lock = tmp_path / "corpus" / "asr" / ".lock"
        deadline = time.monotonic() + 180
        while not (begun := list(lock.parent.glob("*.index.jsonl"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    assert begun
    deadline = time.monotonic() + 60
    with lock.open() as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
