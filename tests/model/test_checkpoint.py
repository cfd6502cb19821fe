"""Loading and writing checkpoints: every layout the official files come in, and errors that name the culprit."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from duplex.core.config import ROOT
from duplex.core.errors import CheckpointError
from duplex.model.adapter import Adapter
from duplex.model.caches import StreamCaches
from duplex.model.checkpoint import DuplexModel, load_checkpoint, save_checkpoint
from duplex.model.checkpoint_config import Refusal, WordSearchEntries, decoder_config
from duplex.model.checkpoint_files import SCALE, on_eight_bit_grid
from duplex.model.cmvn import read_cmvn, write_cmvn_json, write_cmvn_kaldi
from duplex.model.codec import CodecEncoder, IstftDecoder, IstftDims
from duplex.model.encoder import EncoderDims
from duplex.model.lexicon import Lexicon
from duplex.model.random_checkpoint import CHAT_TEMPLATE, FULL_7B, TINY, LlmDims, random_checkpoint
from duplex.model.settings import SpeechSettings
from duplex.model.speech_decoder import CODES_PER_SYMBOL, SpeechDecoder, SpeechDecoderDims
from duplex.model.word_search import WordSearch
from duplex.train.word_model import ngram_model
from tests.model.conftest import CHECKPOINT, LLM

PARTS = ("encoder", "adapter", "state_head", "speech_decoder", "codec")
OTHER = replace(
    TINY,
    llm=LlmDims(hidden=96, layers=3, heads=6, kv_heads=3, feed_forward=80, vocabulary=300),
    encoder=EncoderDims(
        dim=16, heads=2, feed_forward=24, blocks=3, chunk=4, left_chunks=5, position_kind="rel-distance"
    ),
    decoder=SpeechDecoderDims(dim=24, heads=3, feed_forward=40, blocks=2, codes=50),
    codec=IstftDims(input_dim=20, dim=24, token_blocks=1, frame_blocks=1),
    speaker_tokens=(),
    prompts=3,
    adapter_kernel=3,
    kaldi_cmvn=True,
    wrapped_decoder=True,
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The reference checkpoint, to be damaged."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def state_of(part: torch.nn.Module) -> dict[str, torch.Tensor]:
    return part.state_dict()


def assert_same(one: DuplexModel, other: DuplexModel, **tolerance: float) -> None:
    for part in PARTS:
        a, b = state_of(getattr(one, part)), state_of(getattr(other, part))
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)
    assert (one.encoder.dims, one.adapter.dims) == (other.encoder.dims, other.adapter.dims)
    assert (one.speech_decoder.dims, one.codec.generator.dims) == (
        other.speech_decoder.dims,
        other.codec.generator.dims,
    )
    assert (one.settings, one.chat.prefix, one.chat.suffix) == (other.settings, other.chat.prefix, other.chat.suffix)


def save(model: DuplexModel, folder: Path, **options: Any) -> None:
    parts = {part: getattr(model, part) for part in PARTS}
    save_checkpoint(
        folder,
        **parts,
        prompt_embeddings=model.prompt_embeddings,
        settings=model.settings,
        chat_template=yaml.safe_load((CHECKPOINT / "audiollm/train.yaml").read_text())["model_conf"]["chat_template"],
        **options,
    )


def runs(model: DuplexModel) -> None:
    """One chunk heard, one token written, one code and its audio made; sizes fit together."""
    caches = StreamCaches()
    for chunk in torch.randn(7, 1, 19, 80):
        rows = model.adapter.chunk(model.encoder.chunk(chunk, [caches]), [caches])
    assert rows.shape == (1, 2, model.llm.hidden_size)
    assert len(caches.adapter) == model.adapter.dims.convolutions
    pool = model.llm.new_pool(1, 64)
    hidden = model.llm.forward(pool, [pool.acquire()], [torch.cat([model.prompt_embeddings, rows[0]])])[0]
    assert torch.isfinite(model.state_head(hidden)).all()
    decoder = model.speech_decoder
    text = decoder.split(model.llm.embed(model.chat.suffix))[None]
    cache, _ = decoder.begin(text, decoder.split(hidden)[None])
    code = int(decoder.step(decoder.dims.sos, cache)[: decoder.dims.codes].argmax())
    audio = model.codec.decode(torch.tensor([[code, 0, 1]]))
    assert audio.shape == (1, 3 * model.codec.samples_per_token)
    assert torch.isfinite(audio).all()


def test_weights_are_upcast_and_cmvn_of_the_tensors_wins(model: DuplexModel) -> None:
    assert all(tensor.dtype == torch.float32 for part in PARTS for tensor in state_of(getattr(model, part)).values())
    from_file, _ = read_cmvn(CHECKPOINT / "audiollm" / "global_cmvn", 80, is_json=True)
    assert torch.equal(model.encoder.global_cmvn.mean, from_file.bfloat16().float())
    assert not torch.equal(model.encoder.global_cmvn.mean, from_file)
    assert not any(p.requires_grad for part in PARTS for p in getattr(model, part).parameters())
    assert not model.codec.training


def test_cmvn_file_counts_without_tensors(model: DuplexModel, copy: Path) -> None:
    edit_pt(copy / "audiollm", lambda state: [state.pop(f"encoder.global_cmvn.{name}") for name in ("mean", "istd")])
    mean, istd = read_cmvn(copy / "audiollm" / "global_cmvn", 80, is_json=True)
    loaded = load_checkpoint(copy, LLM)
    assert torch.equal(loaded.encoder.global_cmvn.mean, mean)
    assert torch.equal(loaded.encoder.global_cmvn.istd, istd)


def test_saved_and_loaded_again(model: DuplexModel, tmp_path: Path) -> None:
    save(model, tmp_path, dtype=torch.float32)
    shutil.copytree(LLM, tmp_path / "llm")
    again = load_checkpoint(tmp_path, None)
    assert_same(model, again)
    assert torch.equal(model.prompt_embeddings, again.prompt_embeddings)
    assert again.folder == tmp_path
    assert again.codec_encoder is None


def test_a_refusal_is_kept(model: DuplexModel, tmp_path: Path) -> None:
    assert model.refusal is None
    refusal = Refusal(text="I don't know that yet.", from_probability=0.05)
    save(model, tmp_path, refusal=refusal)
    assert load_checkpoint(tmp_path, LLM).refusal == refusal


def test_an_adapter_of_pieces_with_cues_and_a_class_for_interruptions_are_kept(
    model: DuplexModel, tmp_path: Path
) -> None:
    assert model.interruption_class is None
    assert model.word_search is None
    vocabulary = model.llm.embedding.weight.shape[0]
    ours = Adapter(replace(model.adapter.dims, pieces=vocabulary, cues=4))
    entries = WordSearchEntries(blank_piece=7, lm_weight=0.5, insertion_bonus=1.0)
    search = WordSearch(ngram_model([[1, 2], [2]], vocabulary), entries)
    save(replace(model, adapter=ours), tmp_path, interruption_class=3, word_search=search)
    loaded = load_checkpoint(tmp_path, LLM)
    assert loaded.interruption_class == 3
    assert loaded.word_search is not None
    assert loaded.word_search.entries == entries
    np.testing.assert_array_equal(loaded.word_search.model.piece, search.model.piece)
    assert (loaded.adapter.dims.pieces, loaded.adapter.dims.cues) == (vocabulary, 4)
    torch.testing.assert_close(loaded.adapter.project.weight, ours.project.weight, atol=1e-3, rtol=1e-2)
    save(replace(model, adapter=Adapter(replace(model.adapter.dims, pieces=vocabulary - 1))), tmp_path / "other")
    with pytest.raises(CheckpointError, match=f"LLM of {vocabulary - 1} pieces, this one has {vocabulary}"):
        load_checkpoint(tmp_path / "other", LLM)


def test_a_decoder_that_reads_symbols_is_kept_with_its_lexicon(model: DuplexModel, tmp_path: Path) -> None:
    lexicon = Lexicon(("ow", "z"), {"zoes": ("z", "ow", "z")})
    ours = SpeechDecoder(replace(model.speech_decoder.dims, symbols=258), lexicon)
    save(replace(model, speech_decoder=ours), tmp_path)
    loaded = load_checkpoint(tmp_path, LLM).speech_decoder
    assert loaded.lexicon == lexicon
    ids = loaded.lexicon.symbols_of("Zoes.")
    rows, places = loaded.read(torch.tensor(ids), model.llm.embedding)
    torch.testing.assert_close(rows, ours.symbol_embedding.weight[ids], atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(places, CODES_PER_SYMBOL * (torch.arange(4) + 0.5))
    other = tmp_path / "decoder" / "lexicon.json"
    Lexicon(("ow",), {"oh": ("ow",)}).write(other)
    with pytest.raises(CheckpointError, match=r"lexicon\.json has 257 symbols, the speech decoder reads 258"):
        load_checkpoint(tmp_path, LLM)
    other.unlink()
    with pytest.raises(CheckpointError, match=r"lexicon\.json is no lexicon"):
        load_checkpoint(tmp_path, LLM)
    (tmp_path / "decoder" / "model.json").write_text(json.dumps(decoder_config(model.speech_decoder.dims)))
    with pytest.raises(CheckpointError, match=r"unexpected tensors symbol_codes, symbol_embedding"):
        load_checkpoint(tmp_path, LLM)


def test_sixteen_bit_keeps_statistics_exact(model: DuplexModel, tmp_path: Path) -> None:
    save(model, tmp_path)
    again = load_checkpoint(tmp_path, LLM)
    assert_same(model, again, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.encoder.global_cmvn.istd, again.encoder.global_cmvn.istd)
    stored = safetensors.torch.load_file(tmp_path / "audiollm" / "final.safetensors")
    assert stored["adpter.project.weight"].dtype == torch.float16
    assert stat.S_IMODE((tmp_path / "codec" / "final.safetensors").stat().st_mode) & 0o044
    mean, istd = read_cmvn(tmp_path / "audiollm" / "global_cmvn", 80, is_json=True)
    torch.testing.assert_close(mean, model.encoder.global_cmvn.mean)
    torch.testing.assert_close(istd, model.encoder.global_cmvn.istd)


def test_sixteen_bit_does_not_overflow(model: DuplexModel, tmp_path: Path) -> None:
    with_large = torch.full_like(model.prompt_embeddings, 1e6)
    parts = {part: getattr(model, part) for part in PARTS}
    save_checkpoint(
        tmp_path, **parts, prompt_embeddings=with_large, settings=model.settings, chat_template=CHAT_TEMPLATE
    )
    assert torch.equal(load_checkpoint(tmp_path, LLM).prompt_embeddings, with_large)


def test_eight_bits_are_nearly_the_same_and_the_codebook_exact(model: DuplexModel, tmp_path: Path) -> None:
    save(model, tmp_path / "16")
    save(model, tmp_path / "8", eight_bit=True)
    again = load_checkpoint(tmp_path / "8", LLM)
    sixteen = load_checkpoint(tmp_path / "16", LLM)
    for part in ("encoder", "adapter", "speech_decoder"):
        for name, weight in state_of(getattr(model, part)).items():
            step = weight.abs().flatten(1).amax(1) / 127 if weight.dim() > 1 else torch.zeros(1)
            error = (state_of(getattr(again, part))[name] - weight).abs()
            assert (error <= 0.51 * step.reshape(-1, *[1] * (weight.dim() - 1)) + 1e-3 * weight.abs() + 1e-6).all(), (
                name
            )
    small = {part: getattr(again, part) for part in ("encoder", "adapter", "speech_decoder", "codec")}
    assert_same(replace(sixteen, **small), again)
    assert torch.equal(
        again.codec.quantizer.codebook.embedding.weight, sixteen.codec.quantizer.codebook.embedding.weight
    )
    for folder in ("audiollm", "decoder"):
        kept = safetensors.torch.load_file(tmp_path / "8" / folder / "final.safetensors")
        whole = (SCALE, "prompt_embeddings", "predictor_head")  # these and the scales stay as they are
        matrices = {
            name: t
            for name, t in kept.items()
            if t.dim() > 1 and t.numel() >= 1024 and not any(part in name for part in whole)
        }
        assert len(matrices) > 1
        assert {t.dtype for t in matrices.values()} == {torch.int8}
    save(again, tmp_path / "again", eight_bit=True)
    assert_same(load_checkpoint(tmp_path / "again", LLM), again, rtol=1e-6, atol=1e-9)


def test_a_matrix_on_the_grid_of_eight_bits() -> None:
    matrix = torch.cat([torch.randn(6, 50) * torch.logspace(-6, 3, 6)[:, None], torch.zeros(1, 50)])
    rounded = on_eight_bit_grid(matrix)
    largest = matrix.abs().amax(1, keepdim=True)
    assert ((rounded - matrix).abs() <= largest / 127 + 1e-12).all(), "a step is less than twice the least one"
    assert torch.equal(rounded.bfloat16().float(), rounded)
    assert torch.equal(on_eight_bit_grid(rounded), rounded)
    assert all(len(row.unique()) <= 255 for row in rounded)


def test_a_scale_without_its_eight_bits_is_named(model: DuplexModel, tmp_path: Path) -> None:
    save(model, tmp_path, eight_bit=True)
    path = tmp_path / "decoder" / "final.safetensors"
    tensors = safetensors.torch.load_file(path)
    scale = next(name for name in tensors if name.endswith(SCALE))
    safetensors.torch.save_file({**tensors, scale: tensors[scale][:-1].clone()}, path)
    with pytest.raises(CheckpointError, match=rf"decoder/final\.safetensors: {re.escape(scale)} .* no int8 tensor"):
        load_checkpoint(tmp_path, LLM)


def test_our_codec_encoder_is_kept(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, replace(OTHER, pickled=False), seed=2)
    loaded = load_checkpoint(tmp_path, None)
    encoder = CodecEncoder(80, 20, frames_per_token=4, blocks=2, kernel=7).eval()
    parts = {part: getattr(loaded, part) for part in PARTS}
    save_checkpoint(
        tmp_path,
        **parts,
        prompt_embeddings=loaded.prompt_embeddings,
        settings=loaded.settings,
        chat_template=CHAT_TEMPLATE,
        codec_encoder=encoder,
        dtype=torch.float32,
    )
    again = load_checkpoint(tmp_path, None)
    assert again.codec_encoder is not None
    mel = torch.randn(1, 80, 12)
    torch.testing.assert_close(again.codec_encoder(mel), encoder(mel))


def test_a_random_checkpoint_in_the_official_layout(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "a", TINY, seed=1)
    random_checkpoint(tmp_path / "b", TINY, seed=1)
    random_checkpoint(tmp_path / "c", TINY, seed=2)
    a, b, c = (load_checkpoint(tmp_path / name, None) for name in "abc")
    assert_same(a, b)
    assert not torch.equal(a.state_head.weight, c.state_head.weight)
    assert torch.equal(a.llm.embed([5]), b.llm.embed([5]))
    assert {path.name for path in (tmp_path / "a").rglob("final.*")} == {"final.pt"}
    assert a.llm.tokenizer.decode(a.llm.encode("héllo, 你好")) == "héllo, 你好"
    assert a.chat.end_of_turn == a.llm.encode("<|im_end|>")[0]
    runs(a)


def test_other_dims_two_convolutions_kaldi_cmvn_wrapped_decoder(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, OTHER, seed=3)
    names = torch.load(tmp_path / "audiollm" / "final.pt", weights_only=True).keys()
    assert not any("global_cmvn" in name for name in names)
    assert (tmp_path / "audiollm" / "global_cmvn").read_text().lstrip().startswith("[")
    assert list(torch.load(tmp_path / "decoder" / "final.pt", weights_only=True)) == ["model"]
    loaded = load_checkpoint(tmp_path, None)
    assert loaded.adapter.dims.convolutions == 2
    assert (loaded.encoder.dims, loaded.speech_decoder.dims) == (OTHER.encoder, OTHER.decoder)
    torch.testing.assert_close(loaded.encoder.global_cmvn.mean, torch.full((80,), 12.0))
    torch.testing.assert_close(loaded.encoder.global_cmvn.istd, torch.full((80,), 0.25))
    runs(loaded)


def test_half_precision_on_request(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, TINY)
    loaded = load_checkpoint(tmp_path, None, dtype=torch.bfloat16)
    assert loaded.encoder.enc[1].after_norm.weight.dtype == loaded.prompt_embeddings.dtype == torch.bfloat16
    assert loaded.codec.quantizer.codebook.embedding.weight.dtype == torch.float32


def test_the_full_size_is_that_of_the_public_facts() -> None:
    assert FULL_7B.adapter.convolutions == 1
    assert FULL_7B.llm.hidden == 4 * FULL_7B.decoder.dim
    assert FULL_7B.encoder == EncoderDims(dim=1024, heads=16, feed_forward=4096, blocks=24, chunk=4, left_chunks=16)


def edit_pt(folder: Path, change: Callable[[Any], object]) -> None:
    state = torch.load(folder / "final.pt", weights_only=True)
    change(state)
    torch.save(state, folder / "final.pt")


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_yaml(path: Path, change: Callable[[Any], object]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


TENSOR_DAMAGE: list[tuple[str, Callable[[Any], object], str]] = [
    ("audiollm", lambda s: s.pop("adpter.project.bias"), r"final\.pt: missing tensor adpter\.project\.bias"),
    ("audiollm", lambda s: s.pop("encoder.global_cmvn.istd"), r"missing tensor encoder\.global_cmvn\.istd"),
    ("audiollm", lambda s: s.update(extra=torch.zeros(2)), r"unexpected tensor extra"),
    ("audiollm", lambda s: s.update({"encoder.x": torch.zeros(2)}), r"unexpected tensor encoder\.x"),
    (
        "audiollm",
        lambda s: s.update({"predictor_head.bias": torch.zeros(7)}),
        r"mis-shaped tensor predictor_head\.bias \[7\] instead of \[4\]",
    ),
    ("audiollm", lambda s: s.pop("prompt_embeddings.weight"), r"missing tensor prompt_embeddings\.weight"),
    ("audiollm", lambda s: s.update(note="hello"), r"note is a str, not a tensor"),
    ("decoder", lambda s: s.pop("norm.weight"), r"missing tensor norm\.weight"),
    (
        "decoder",
        lambda s: s.update({"embedding.weight": torch.zeros(60, 16)}),
        r"mis-shaped tensor embedding\.weight \[60, 16\] instead of \[68, 16\]",
    ),
    ("codec", lambda s: s["generator"].pop("conv_pre.weight_g"), r"missing tensor generator\.conv_pre\.param"),
    ("codec", lambda s: s.pop("quantizer"), r"missing tensor quantizer\."),
    ("codec", lambda s: s.update(discriminator={"a": torch.zeros(1)}), r"unexpected tensor discriminator\.a"),
]


@pytest.mark.parametrize(("part", "damage", "message"), TENSOR_DAMAGE)
def test_a_wrong_tensor_is_named(copy: Path, part: str, damage: Callable[[Any], object], message: str) -> None:
    edit_pt(copy / part, damage)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(copy, LLM)


def test_the_official_codec_encoder_and_task_embeddings_may_be_absent(copy: Path) -> None:
    edit_pt(copy / "codec", lambda state: state.pop("encoder"))
    edit_pt(copy / "audiollm", lambda state: state.pop("task_embeddings.weight"))
    assert load_checkpoint(copy, LLM).codec_encoder is None


SEARCH = {"blank_piece": 0, "lm_weight": 0.5, "insertion_bonus": 1.0}


def damage_train(change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda folder: edit_yaml(folder / "audiollm" / "train.yaml", change)


def damage_json(file: str, change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda folder: edit_json(folder / file, change)


FILE_DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "decoder" / "final.pt").unlink(), r"decoder has neither final\.pt nor final\.safetensors"),
    (lambda f: (f / "decoder" / "final.pt").write_bytes(b"not a pickle"), r"decoder/final\.pt cannot be read"),
    (lambda f: (f / "codec" / "final.safetensors").write_bytes(b"\1"), r"codec/final\.safetensors cannot be read"),
    (lambda f: (f / "server.json").write_text("{"), r"server\.json cannot be read"),
    (lambda f: (f / "audiollm" / "train.yaml").write_text("a: [1"), r"train\.yaml cannot be read"),
    (damage_json("server.json", lambda s: s.update(decoder_topk=3)), r"'decoder_topk'; did you mean 'decoder_top_k'"),
    (damage_json("server.json", lambda s: s.update(decoder_chunk_size=0)), r"server\.json: decoder_chunk_size"),
    (damage_train(lambda t: t["model_conf"].pop("prompt_num")), r"train\.yaml: model_conf\.prompt_num"),
    (damage_train(lambda t: t["model_conf"].update(adpter_type="cnn")), r"model_conf\.adpter_type"),
    (damage_train(lambda t: t["model_conf"].update(norm="batch")), r"tensors? adpter\.bn2\.running_mean"),
    (damage_train(lambda t: t["model_conf"].update(enc_out_dim=33)), r"enc_out_dim 33"),
    (damage_train(lambda t: t["model_conf"].update(interruption_class=4)), r"interruption_class 4 is none of the 4"),
    (damage_train(lambda t: t["model_conf"].update(cues=3)), r"3 cues are not one for each of 4 states"),
    (damage_train(lambda t: t["model_conf"].update(cues=4)), r"tensors? adpter\.cues\.0\.bias"),
    (damage_train(lambda t: t["model_conf"].update(interruption_class=2)), r"model_conf\.interruption_class"),
    (damage_train(lambda t: t["model_conf"].update(word_search={})), r"word_search\.blank_piece"),
    (damage_train(lambda t: t["model_conf"].update(word_search=SEARCH | {"lm_weight": -1})), r"lm_weight"),
    (damage_train(lambda t: t["model_conf"].update(word_search=SEARCH)), r"ngrams\.safetensors is no n-gram model"),
    (damage_train(lambda t: t["model_conf"].update(refusal={"text": "No."})), r"refusal\.from_probability"),
    (
        damage_train(lambda t: t["model_conf"].update(refusal={"text": "No.", "from_probability": 1.5})),
        r"refusal\.from_probability",
    ),
    (
        damage_train(lambda t: t["model_conf"].update(refusal={"text": " ", "from_probability": 0.5})),
        r"refusal\.text",
    ),
    (damage_train(lambda t: t["model_conf"].update(chat_template="hello")), r"chat template"),
    (damage_json("decoder/model.json", lambda d: d.pop()), r"decoder/model\.json is not"),
    (damage_json("decoder/model.json", lambda d: d[2].pop("transformer_num_blocks")), r"transformer_num_blocks"),
    (damage_json("codec/model.json", lambda c: c.update(global_tokens=[1])), r"1 global_tokens for 8"),
    (damage_json("codec/model.json", lambda c: c.update(global_tokens=[99] * 8)), r"outside codebooks of 64"),
    (damage_json("codec/model.json", lambda c: c.update(decoder="istft")), r"no entry 'istft'"),
    (damage_json("codec/model.json", lambda c: c.update(n_code_groups=2)), r"n_code_groups"),
    (damage_json("codec/model.json", lambda c: c.pop("upsample_rates")), r"upsample_rates"),
]


@pytest.mark.parametrize(("damage", "message"), FILE_DAMAGE)
def test_a_wrong_file_is_named(copy: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(copy, LLM)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load_checkpoint(tmp_path / "none", None)
    with pytest.raises(CheckpointError, match="--llm"):
        load_checkpoint(CHECKPOINT, None)


def test_an_llm_of_another_size_is_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, OTHER)
    with pytest.raises(CheckpointError, match="hidden size 64, this one has 96"):
        load_checkpoint(CHECKPOINT, tmp_path / "llm")


def test_pickles_run_no_code(copy: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch evil",)

    torch.save({"a": Evil()}, copy / "decoder" / "final.pt")
    with pytest.raises(CheckpointError, match=r"final\.pt cannot be read"):
        load_checkpoint(copy, LLM)
    assert not Path("evil").exists()


def test_server_settings_default_to_the_official_ones() -> None:
    settings = SpeechSettings()
    assert (settings.decoder_first_chunk_size, settings.decoder_chunk_size, settings.decoder_N) == (20, 40, 2401)


def kaldi_binary(rows: list[list[float]], kind: str = "F") -> bytes:
    width = len(rows[0])
    values = struct.pack(f"<{2 * width}{'f' if kind == 'F' else 'd'}", *rows[0], *rows[1])
    return b"\0B" + kind.encode() + b"M " + struct.pack("<bibi", 4, 2, 4, width) + values


def test_cmvn_formats_agree(tmp_path: Path) -> None:
    mean, istd = torch.tensor([10.0, -2.0, 0.5]), torch.tensor([0.5, 2.0, 1.0])
    write_cmvn_json(tmp_path / "json", mean, istd)
    write_cmvn_kaldi(tmp_path / "text", mean, istd)
    frames = 50
    sums = [*(mean * frames).tolist(), float(frames)]
    squares = [*((istd.square().reciprocal() + mean.square()) * frames).tolist(), 0.0]
    (tmp_path / "single").write_bytes(kaldi_binary([sums, squares]))
    (tmp_path / "double").write_bytes(kaldi_binary([sums, squares], "D"))
    (tmp_path / "one_line").write_text("[ " + " ".join(map(str, [*sums, *squares])) + " ]")
    for name in ("json", "text", "single", "double", "one_line"):
        read_mean, read_istd = read_cmvn(tmp_path / name, 3, is_json=name == "json")
        torch.testing.assert_close(read_mean, mean)
        torch.testing.assert_close(read_istd, istd)


@pytest.mark.parametrize(
    ("content", "is_json"),
    [
        (b"{}", True),
        (b"[1, 2]", True),
        (b'{"mean_stat": [1], "var_stat": [1], "frame_num": 1}', True),
        (b'{"mean_stat": [1, 1, 1], "var_stat": [1, 1, 1], "frame_num": 0}', True),
        (b"1 2 3", False),
        (b"[ 1 2 x\n 3 4 5 ]", False),
        (b"[ 1 2\n 3 ]", False),
        (b"\0BXM ", False),
        (b"\0BFM \4", False),
        (kaldi_binary([[1.0] * 4, [1.0] * 4])[:-1], False),
    ],
)
def test_broken_cmvn_is_named(tmp_path: Path, content: bytes, is_json: bool) -> None:
    path = tmp_path / "global_cmvn"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="global_cmvn"):
        read_cmvn(path, 3, is_json=is_json)


def test_the_shipped_checkpoint_stays_under_40_mb() -> None:
    folder = ROOT / "checkpoints" / "tiny"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 40e6


def test_the_shipped_voice_has_no_seams_and_keeps_soft_beginnings() -> None:
    """With so much context on both sides a chunk's audio is that of the whole (test_speech_parity)."""
    model = load_checkpoint(ROOT / "checkpoints" / "tiny", None)
    assert isinstance(model.codec.generator, IstftDecoder)
    assert model.settings.decoder_chunk_overlap_size >= model.codec.generator.context_tokens
    assert model.settings.decoder_N == 0
    assert model.settings.decoder_lead_amplitude < 0.01
