"""Hidden states to codec tokens to audio, against the reference's numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from duplex.model.checkpoint import DuplexModel
from duplex.model.codec import Codec, IstftDecoder, IstftDims, Quantizer
from duplex.model.sampling import CodeSampler
from duplex.model.settings import SpeechSettings
from duplex.model.vocoder import StreamingVocoder, VocoderSettings, find_lowest_energy_cut
from tests.model.conftest import Tensors, assert_near

KV_ATOL = 5e-3  # the fixture's tolerance for the speech decoder's keys and values


def spoken_codes(model: DuplexModel, case: Tensors, name: str, limit: int) -> list[int]:
    """Generate as the reference did, comparing every step."""
    decoder = model.speech_decoder
    pad = decoder.dims.eos + 1
    sampler = CodeSampler(1, 1.1, -1, seed=0, barred=(decoder.dims.bos, decoder.dims.sos, pad))
    text, prefix = case[f"{name}.embeds"], case[f"{name}.prefix"]
    assert_near(decoder.pre_network(text), case[f"{name}.pre_nn_out"])
    cache, out = decoder.begin(text, prefix)
    assert_near(out, case[f"{name}.prefill_out"], atol=KV_ATOL)
    codes: list[int] = []
    token = decoder.dims.sos
    positions = case[f"{name}.positions"].tolist()
    assert positions[0] == [0, text.shape[1]]
    for expected, position in zip(case[f"{name}.step_logits"], positions[1:], strict=True):
        assert position == [cache.length - cache.prefix_length] * 2
        logits = decoder.step(token, cache)
        assert_near(logits, expected, atol=KV_ATOL)
        token = sampler.sample(logits, codes)
        if token == decoder.dims.eos:
            break
        codes.append(token)
    return codes[:limit]


@pytest.mark.parametrize("name", ["std", "thr"])
def test_codes_of_a_whole_reply(model: DuplexModel, full: Tensors, meta: dict[str, Any], name: str) -> None:
    stated = meta["q2"]["full"][name]
    codes = spoken_codes(model, full, name, stated["cap"])
    assert codes == full[f"{name}.tokens"].tolist()
    assert len(codes) == stated["n_tokens"]


@pytest.mark.parametrize("segment", range(6))
def test_codes_of_each_segment(model: DuplexModel, pieces: Tensors, meta: dict[str, Any], segment: int) -> None:
    codes = spoken_codes(model, pieces, f"seg{segment}", meta["q2"]["e2e_cap"])
    assert codes == pieces[f"seg{segment}.tokens"].tolist()


def test_keys_and_values_of_prefix_and_prefill(model: DuplexModel, full: Tensors) -> None:
    cache, _ = model.speech_decoder.begin(full["std.embeds"], full["std.prefix"])
    prefix = cache.prefix_length
    assert prefix == full["std.prefix_k"].shape[3]
    assert cache.length == full["std.kv_k_after_prefill"].shape[3]
    for kept, name in ((cache.k, "k"), (cache.v, "v")):
        rows = torch.stack([row[:, :, : cache.length] for row in kept])
        assert_near(rows[:, :, :, :prefix], full[f"std.prefix_{name}"], atol=KV_ATOL)
        assert_near(rows, full[f"std.kv_{name}_after_prefill"], atol=KV_ATOL)


def test_teacher_forced_logits_equal_streamed_ones(model: DuplexModel, full: Tensors) -> None:
    text, prefix = full["std.embeds"], full["std.prefix"]
    lengths = torch.tensor([text.shape[1]])
    logits = model.speech_decoder(text, lengths, prefix, lengths, full["std.tokens"][None])
    assert_near(logits[0], full["std.step_logits"], atol=KV_ATOL)


def test_speaking_without_prefix_starts_at_position_zero(model: DuplexModel, full: Tensors) -> None:
    cache, out = model.speech_decoder.begin(full["std.embeds"], None)
    assert (cache.prefix_length, cache.length) == (0, out.shape[1])
    assert torch.isfinite(model.speech_decoder.step(model.speech_decoder.dims.sos, cache)).all()


def test_vocoder(model: DuplexModel, full: Tensors) -> None:
    speaker = model.codec.quantizer.speaker(model.codec.speaker_tokens)
    assert speaker is not None
    assert_near(speaker, full["global_emb"])
    codes = full["std.tokens"][None]
    assert_near(model.codec.quantizer.embed(codes[:, :8])[0].T, full["std.quant_emb"])
    wave = model.codec.decode(codes)[0]
    assert_near(wave, full["std.whole_wave"])
    assert model.codec.samples_per_token * codes.shape[1] == len(wave)


@pytest.mark.parametrize("case", range(5))
def test_segment_search(case: int, units: Tensors, meta: dict[str, Any]) -> None:
    stated = meta["units"]["find_min_cases"][case]
    pending, arrived = units[f"find_min.{case}.buffer_in"], units[f"find_min.{case}.syn"]
    cut = find_lowest_energy_cut(pending, arrived, stated["N"], stated["threshold"])
    assert (cut is None) == stated["out_is_none"]
    assert (-1 if cut is None else cut) == units[f"find_min.{case}.out_len"]
    audio = torch.cat([pending, arrived])
    assert torch.equal(audio[cut or 0 :], units[f"find_min.{case}.buffer_out"])


def reference_settings(threshold: float) -> VocoderSettings:
    """Those of the fixture's runs, which had no first-pack rules."""
    return VocoderSettings(first_chunk=40, threshold_first=threshold, threshold=threshold, window=2401, trim_lead=False)


def streamed(vocoder: StreamingVocoder, codes: list[int]) -> list[tuple[int, torch.Tensor]]:
    """Audio let out, with the number of codes pushed by then."""
    out = [(count, vocoder.push(code)) for count, code in enumerate(codes, 1)]
    ready = [(count, audio) for count, audio in out if audio is not None]
    rest = vocoder.flush()
    return [*ready, (len(codes), rest)] if len(rest) else ready


@pytest.mark.parametrize("name", ["std", "thr", "seg0", "seg1", "seg2", "seg3", "seg4", "seg5"])
def test_streaming_vocoder(model: DuplexModel, full: Tensors, pieces: Tensors, meta: dict[str, Any], name: str) -> None:
    case, threshold = (pieces, 0.01) if name.startswith("seg") else (full, meta["q2"]["full"][name]["seg_threshold"])
    vocoder = StreamingVocoder(model.codec, reference_settings(threshold))
    out = streamed(vocoder, case[f"{name}.tokens"].tolist())
    assert vocoder.calls == case[f"{name}.codec_call_tokens"].tolist()
    assert [count for count, _ in out] == case[f"{name}.seg_after_tokens"].tolist()
    assert [len(audio) for _, audio in out] == case[f"{name}.seg_samples"].tolist()
    whole = model.codec.decode(case[f"{name}.tokens"][None])[0]
    assert_near(torch.cat([audio for _, audio in out]), whole)
    if name == "std":
        assert_near(torch.cat([audio for _, audio in out]), full["std.stream_wave"])


def istft_codec() -> Codec:
    torch.manual_seed(4)
    dims = IstftDims(input_dim=24, dim=32, token_blocks=2, frame_blocks=2, kernel=5)
    return Codec(Quantizer(32, 24), IstftDecoder(dims)).eval()


@pytest.mark.parametrize(("first_chunk", "chunk"), [(8, 20), (1, 1), (40, 7)])
def test_audio_streamed_without_search_equals_whole(first_chunk: int, chunk: int) -> None:
    codec = istft_codec()
    overlap = codec.generator.context_tokens  # type: ignore[union-attr]
    settings = VocoderSettings(first_chunk, chunk, overlap, search=False, trim_lead=False)
    codes = torch.randint(0, 32, (75,), generator=torch.Generator().manual_seed(1))
    vocoder = StreamingVocoder(codec, settings)
    out = streamed(vocoder, codes.tolist())
    assert out[0][0] == first_chunk + overlap
    sizes = [len(audio) // codec.samples_per_token for _, audio in out[:-1]]
    assert sizes[0] == first_chunk
    assert all(after == min(chunk, 2 * before) for before, after in pairwise(sizes))
    whole = codec.decode(codes[None])[0].clamp(-1, 1)
    torch.testing.assert_close(torch.cat([audio for _, audio in out]), whole, rtol=0, atol=1e-5)


def test_context_tokens_are_as_many_as_audio_depends_on() -> None:
    codec = istft_codec()
    reach: int = codec.generator.context_tokens  # type: ignore[union-attr, assignment]
    codes = torch.zeros(1, 60, dtype=torch.long)
    changed = codes.clone()
    changed[0, 30] = 5
    difference = (codec.decode(codes) - codec.decode(changed))[0].abs().unflatten(0, (60, -1)).amax(dim=1)
    touched = (difference > 1e-6).nonzero().flatten()
    assert 0 < 30 - int(touched[0]) <= reach
    assert 0 < int(touched[-1]) - 30 <= reach


def test_settings_of_server_json(model: DuplexModel) -> None:
    vocoder = StreamingVocoder.from_settings(model.codec, model.settings)
    assert vocoder.settings == VocoderSettings(20, 40, 10, 2401, 0.1, 0.015, search=True, trim_lead=True)
    off = model.settings.model_copy(update={"decoder_N": 0})
    assert not StreamingVocoder.from_settings(model.codec, off).settings.search


def test_first_pack_rules_hold_until_something_was_spoken(model: DuplexModel, full: Tensors) -> None:
    codes = full["std.tokens"].tolist()
    vocoder = StreamingVocoder(model.codec, VocoderSettings(first_chunk=20, threshold_first=1.0, threshold=0.015))
    out = streamed(vocoder, codes)
    assert out[0][0] == 30  # first chunk and overlap
    assert float(out[0][1][0].abs()) >= 0.03  # the quiet lead is gone
    whole = model.codec.decode(full["std.tokens"][None])[0]
    audio = torch.cat([piece for _, piece in out])
    assert 0 < vocoder.trimmed < len(whole)
    assert_near(audio, whole[vocoder.trimmed :])
    # The next segment of the reply is no first pack: normal chunk, nothing cut.
    before = len(vocoder.calls)
    again = streamed(vocoder, codes)
    assert vocoder.calls[before] == 50
    assert_near(torch.cat([piece for _, piece in again]), whole)


def test_a_soft_beginning_is_kept_where_the_checkpoint_says_so(model: DuplexModel, full: Tensors) -> None:
    codes = full["std.tokens"]
    whole = model.codec.decode(codes[None])[0]
    settings = model.settings.model_copy(update={"decoder_lead_amplitude": 0.004, "decoder_N": 0})
    vocoder = StreamingVocoder.from_settings(model.codec, settings)
    audio = torch.cat([piece for _, piece in streamed(vocoder, codes.tolist())])
    first = int((whole.abs() >= 0.004).nonzero()[0])
    assert first < int((whole.abs() >= 0.03).nonzero()[0])
    assert vocoder.trimmed == first
    assert_near(audio, whole[first:])


def test_a_first_chunk_shorter_than_the_search_window_is_spoken(model: DuplexModel, full: Tensors) -> None:
    settings = VocoderSettings(first_chunk=2, chunk=40, overlap=2, window=2401, threshold_first=1.0, threshold=1.0)
    assert settings.first_chunk * model.codec.samples_per_token < settings.window
    out = streamed(StreamingVocoder(model.codec, settings), full["std.tokens"].tolist())
    assert out[0][0] < 10


def test_silence_is_no_first_pack() -> None:
    codec = istft_codec()
    codec.generator.conv_post.weight.data.zero_()  # type: ignore[union-attr, operator]
    codec.generator.conv_post.bias.data.fill_(-20.0)  # type: ignore[union-attr, operator]
    vocoder = StreamingVocoder(codec, VocoderSettings(4, 4, 2, search=False))
    assert streamed(vocoder, [0] * 20) == []
    assert not vocoder.spoken
    assert vocoder.trimmed == 20 * codec.samples_per_token


def test_audio_stays_within_full_scale() -> None:
    codec = istft_codec()
    codec.generator.conv_post.bias.data.fill_(4.0)  # type: ignore[union-attr, operator]
    out = streamed(StreamingVocoder(codec, VocoderSettings(4, 4, 2, search=False)), [1, 2, 3] * 6)
    audio = torch.cat([piece for _, piece in out])
    assert float(audio.abs().max()) == 1.0


def test_an_empty_segment_has_no_audio(model: DuplexModel) -> None:
    vocoder = StreamingVocoder.from_settings(model.codec, SpeechSettings())
    assert vocoder.flush().shape == (0,)
    assert vocoder.calls == []
