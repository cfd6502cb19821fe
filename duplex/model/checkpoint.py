"""A checkpoint folder in the official layout, as modules, and back.

    audiollm/train.yaml, global_cmvn, final.pt    encoder, adapter, prompt embeddings, state head
    decoder/model.json, final.pt                  speech decoder
    codec/model.json, final.pt                    codec
    server.json                                   sampling of codes and vocoding
    llm/                                          a Hugging Face causal LM, here or elsewhere

Any final.pt may be a final.safetensors, in which our own checkpoints may hold matrices in 8 bit (`in_eight_bits`).
Loading is strict: a tensor that is missing, unexpected or of the wrong shape is an error that names it and its file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import Tensor, nn

from duplex.audio.features import CHUNK_FRAMES
from duplex.core.errors import CheckpointError
from duplex.model import checkpoint_config as config
from duplex.model.adapter import Adapter
from duplex.model.caches import StreamCaches
from duplex.model.chat import ChatFormat
from duplex.model.checkpoint_files import (
    TensorFile,
    in_eight_bits,
    load_module,
    narrowed,
    read_tensor_file,
    stored,
    write_tensor_file,
)
from duplex.model.cmvn import read_cmvn, write_cmvn_json
from duplex.model.codec import Codec, CodecEncoder, HifiGanGenerator, IstftDecoder, Quantizer
from duplex.model.encoder import SpeechEncoder
from duplex.model.lexicon import Lexicon
from duplex.model.llm import CausalLanguageModel
from duplex.model.settings import SpeechSettings
from duplex.model.speech_decoder import SpeechDecoder
from duplex.model.word_search import WordSearch

__all__ = ["DuplexModel", "SpeechSettings", "load_checkpoint", "save_checkpoint"]

# Names inside audiollm/final.pt; the adapter's is misspelt in the official files.
ENCODER, ADAPTER, PROMPTS, STATE_HEAD = "encoder.", "adpter.", "prompt_embeddings.", "predictor_head."
TASKS = "task_embeddings.weight"  # of another way of training; present in some files, never used
LEXICON = "lexicon.json"
GENERATOR, QUANTIZER, CODEC_ENCODER = "generator.", "quantizer.", "encoder."
CODE_TABLE = "quantizer_modules.0.embedding.weight"
NGRAM_MODEL = "ngrams.safetensors"  # beside train.yaml
# weight_norm's two tensors: in the files, and in torch's parametrization.
WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


@dataclass(frozen=True, eq=False)
class DuplexModel:
    """The parts of one checkpoint, in evaluation mode and without gradients.

    prompt_embeddings [prompts, llm_dim]; state_head Linear(llm_dim, states); settings from server.json.
    interruption_class: the state head's logit that tells whether the user is taking the floor from the speaking agent;
    None in official checkpoints.
    typed_as_heard: the LLM knows users' turns as a recogniser writes them, so that typed ones are put like that (ours).
    refusal: what is said instead of an answer that the LLM is not sure of; None: it says what it likes best (ours).
    word_search: finds the words of a spoken turn, which the LLM reads once more before it replies; None in official
    checkpoints (ours).
    codec_encoder: audio to codes, where the checkpoint has one of the kind we can run.
    """

    encoder: SpeechEncoder
    adapter: Adapter
    prompt_embeddings: Tensor
    state_head: nn.Linear
    chat: ChatFormat
    llm: CausalLanguageModel
    speech_decoder: SpeechDecoder
    codec: Codec
    settings: SpeechSettings
    folder: Path
    codec_encoder: CodecEncoder | None = None
    interruption_class: int | None = None
    typed_as_heard: bool = False
    refusal: config.Refusal | None = None
    word_search: WordSearch | None = None


@dataclass(frozen=True, eq=False)
class _Listening:
    encoder: SpeechEncoder
    adapter: Adapter
    prompt_embeddings: Tensor
    state_head: nn.Linear
    chat_template: str
    interruption_class: int | None
    typed_as_heard: bool
    refusal: config.Refusal | None
    word_search: WordSearch | None


def load_checkpoint(
    folder: Path,
    llm: Path | None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    packed: bool = True,
) -> DuplexModel:
    """Load a checkpoint folder and its LLM (`folder/llm` when `llm` is None) onto `device`.

    Weights are kept in `dtype`, but for the codec: phase and inverse Fourier transform want float32. In float32 on a CPU
    they are `packed` for `cpu_kernels` as well, where these can run them.
    Raises CheckpointError naming the tensor, entry or file that is wrong.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}")
    settings = SpeechSettings.read(folder / "server.json")
    listening = _load_listening(folder / "audiollm")
    speech_decoder = _load_speech_decoder(folder / "decoder")
    codec, codec_encoder = _load_codec(folder / "codec")
    if llm is None and not (folder / "llm").is_dir():
        raise CheckpointError(f"{folder} has no llm folder inside: name the language model's folder (--llm)")
    packed = packed and torch.device(device).type == "cpu" and dtype == torch.float32
    language_model = CausalLanguageModel.load(
        folder / "llm" if llm is None else llm, device=device, dtype=dtype, packed=packed
    )
    _check_fit(listening, speech_decoder, codec, language_model, folder)
    for module in (listening.encoder, listening.adapter, listening.state_head, speech_decoder):
        _frozen(module).to(device=device, dtype=dtype)
    listening.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as its convolutions run
    _frozen(codec).to(device)
    if codec_encoder is not None:
        _frozen(codec_encoder).to(device)
    if packed:
        for part in (listening.encoder, listening.adapter, speech_decoder):
            part.pack()
        _warm_up(listening, speech_decoder)
    return DuplexModel(
        encoder=listening.encoder,
        adapter=listening.adapter,
        prompt_embeddings=listening.prompt_embeddings.to(device=device, dtype=dtype),
        state_head=listening.state_head,
        chat=ChatFormat.from_template(listening.chat_template, language_model.encode),
        llm=language_model,
        speech_decoder=speech_decoder,
        codec=codec,
        settings=settings,
        folder=folder,
        codec_encoder=codec_encoder,
        interruption_class=listening.interruption_class,
        typed_as_heard=listening.typed_as_heard,
        refusal=listening.refusal,
        word_search=listening.word_search,
    )


def save_checkpoint(
    folder: Path,
    *,
    encoder: SpeechEncoder,
    adapter: Adapter,
    prompt_embeddings: Tensor,
    state_head: nn.Linear,
    speech_decoder: SpeechDecoder,
    codec: Codec,
    settings: SpeechSettings,
    chat_template: str,
    codec_encoder: CodecEncoder | None = None,
    interruption_class: int | None = None,
    typed_as_heard: bool = False,
    refusal: config.Refusal | None = None,
    word_search: WordSearch | None = None,
    dtype: torch.dtype = torch.float16,
    eight_bit: bool = False,
) -> None:
    """Write trained parts as a checkpoint that `load_checkpoint` reads; the LLM's folder is the caller's to write.

    Sizes come from the modules' own `dims`. Weights are stored as safetensors in `dtype`, statistics (CMVN, batch
    norms) in their own type; the CMVN is written as a JSON file as well. With `eight_bit` matrices take 8 bits a
    weight, but for the codebook (codes are found by the distance to it), prompts and state head.
    """
    small = in_eight_bits if eight_bit else dict[str, Tensor]
    listening = {
        **small({**stored(encoder, ENCODER, dtype), **stored(adapter, ADAPTER, dtype)}),
        PROMPTS + "weight": narrowed(prompt_embeddings, dtype),
        **stored(state_head, STATE_HEAD, dtype),
    }
    write_tensor_file(folder / "audiollm", listening)
    train_yaml = config.train_config(
        encoder.dims,
        adapter.dims,
        prompts=prompt_embeddings.shape[0],
        states=state_head.out_features,
        chat_template=chat_template,
        json_cmvn=True,
        interruption_class=interruption_class,
        typed_as_heard=typed_as_heard,
        refusal=refusal,
        word_search=None if word_search is None else word_search.entries,
    )
    if word_search is not None:
        word_search.model.write(folder / "audiollm" / NGRAM_MODEL)
    (folder / "audiollm" / "train.yaml").write_text(
        yaml.safe_dump(train_yaml, allow_unicode=True, sort_keys=True), encoding="utf-8"
    )
    cmvn = encoder.global_cmvn
    write_cmvn_json(folder / "audiollm" / "global_cmvn", cmvn.mean, cmvn.istd)

    write_tensor_file(folder / "decoder", small(stored(speech_decoder, "", dtype)))
    _write_json(folder / "decoder" / "model.json", config.decoder_config(speech_decoder.dims))
    if speech_decoder.dims.symbols:
        speech_decoder.lexicon.write(folder / "decoder" / LEXICON)

    codec_tensors = stored(codec.generator, GENERATOR, dtype)
    if codec_encoder is not None:
        codec_tensors |= stored(codec_encoder, CODEC_ENCODER, dtype)
    codec_tensors = small(_renamed(codec_tensors, {new: old for old, new in WEIGHT_NORM.items()}))
    write_tensor_file(folder / "codec", {**codec_tensors, **stored(codec.quantizer, QUANTIZER, dtype)})
    codec_entries = config.codec_config(
        codec.generator.dims,
        codes=codec.codes,
        sample_rate=codec.sample_rate,
        speaker_tokens=codec.speaker_tokens,
        encoder=codec_encoder,
    )
    _write_json(folder / "codec" / "model.json", codec_entries)
    _write_json(folder / "server.json", settings.model_dump())


def _load_listening(folder: Path) -> _Listening:
    train = config.read_train_config(folder / "train.yaml")
    source = read_tensor_file(folder)
    encoder = SpeechEncoder(train.encoder)
    encoder_tensors = source.take(ENCODER)
    _add_cmvn(encoder_tensors.tensors, folder / "global_cmvn", train.encoder.bins, is_json=train.is_json_cmvn)
    load_module(encoder, encoder_tensors, ENCODER)
    if train.adapter.encoder_dim != train.encoder.dim:
        raise CheckpointError(
            f"{folder / 'train.yaml'}: enc_out_dim {train.adapter.encoder_dim} differs from the encoder's "
            f"transformer-attention-dim {train.encoder.dim}"
        )
    if train.adapter.cues not in (0, train.listening.states):
        raise CheckpointError(
            f"{folder / 'train.yaml'}: {train.adapter.cues} cues are not one for each of {train.listening.states} states"
        )
    adapter = Adapter(train.adapter)
    load_module(adapter, source.take(ADAPTER), ADAPTER)
    entries = train.listening
    state_head = nn.Linear(entries.llm_dim, entries.states)
    load_module(state_head, source.take(STATE_HEAD), STATE_HEAD)
    prompts = nn.Embedding(entries.prompts, entries.llm_dim)
    load_module(prompts, source.take(PROMPTS), PROMPTS)
    source.tensors.pop(TASKS, None)
    source.refuse_rest()
    interruption = entries.interruption_class
    if interruption is not None and interruption >= entries.states:
        raise CheckpointError(
            f"{folder / 'train.yaml'}: interruption_class {interruption} is none of the {entries.states} states"
        )
    search = None
    if entries.word_search is not None:
        search = WordSearch.load(folder / NGRAM_MODEL, entries.word_search, entries.pieces)
    return _Listening(
        encoder,
        adapter,
        prompts.weight.detach(),
        state_head,
        entries.chat_template,
        interruption,
        entries.typed_as_heard,
        entries.refusal,
        search,
    )


@torch.inference_mode()
def _warm_up(listening: _Listening, decoder: SpeechDecoder) -> None:
    """Compile what `cpu_kernels` has for these parts now, not in somebody's first turn; the LLM has been tried out."""
    caches = [StreamCaches()]
    features = torch.zeros(1, CHUNK_FRAMES, listening.encoder.dims.bins)
    listening.adapter.chunk(listening.encoder.chunk(features, caches), caches)
    cache, _ = decoder.begin(torch.zeros(1, 1, decoder.dims.dim), torch.zeros(1, 1, decoder.dims.dim))
    decoder.step(decoder.dims.sos, cache)


def _add_cmvn(tensors: dict[str, Tensor], path: Path, bins: int, *, is_json: bool) -> None:
    """Statistics from the file where the tensors bring none; those of the tensors win (fixture quirk 2)."""
    names = ("global_cmvn.mean", "global_cmvn.istd")
    if not any(name in tensors for name in names):
        tensors.update(zip(names, read_cmvn(path, bins, is_json=is_json), strict=True))


def _load_speech_decoder(folder: Path) -> SpeechDecoder:
    dims = config.read_decoder_dims(folder / "model.json")
    lexicon = Lexicon.read(folder / LEXICON) if dims.symbols else Lexicon()
    if dims.symbols not in (0, lexicon.symbols):
        raise CheckpointError(
            f"{folder / LEXICON} has {lexicon.symbols} symbols, the speech decoder reads {dims.symbols}"
        )
    decoder = SpeechDecoder(dims, lexicon)
    load_module(decoder, read_tensor_file(folder), "")
    return decoder


def _load_codec(folder: Path) -> tuple[Codec, CodecEncoder | None]:
    path = folder / "model.json"
    entries = config.read_codec_entries(path)
    source = read_tensor_file(folder)
    codes = source.take(QUANTIZER)
    if CODE_TABLE not in codes.tensors:
        raise CheckpointError(f"{source.path}: missing tensor {QUANTIZER}{CODE_TABLE}")
    input_dim = codes.tensors[CODE_TABLE].shape[-1]
    quantizer = Quantizer(entries.codes, input_dim, entries.speaker_codebooks)
    load_module(quantizer, codes, QUANTIZER)
    outside = [token for token in entries.speaker_tokens if not 0 <= token < entries.codes]
    if outside:
        raise CheckpointError(f"{path}: global_tokens {outside} are outside codebooks of {entries.codes}")
    generator: HifiGanGenerator | IstftDecoder
    given = source.take(GENERATOR)
    if entries.decoder == "istft":
        generator = IstftDecoder(config.istft_dims(entries, path))
    else:
        generator = HifiGanGenerator(entries.generator(input_dim))
        given = TensorFile(given.path, _renamed(given.tensors, WEIGHT_NORM))
    load_module(generator, given, GENERATOR)
    encoder = None
    encoder_tensors = source.take(CODEC_ENCODER)
    if entries.encoder is not None:  # an encoder not described there is the official one, which is never run
        encoder = CodecEncoder(**entries.encoder.model_dump())
        load_module(encoder, encoder_tensors, CODEC_ENCODER)
    source.refuse_rest()
    codec = Codec(quantizer, generator, sample_rate=entries.sample_rate, speaker_tokens=entries.speaker_tokens)
    return codec, encoder


def _check_fit(
    listening: _Listening, decoder: SpeechDecoder, codec: Codec, llm: CausalLanguageModel, folder: Path
) -> None:
    llm_dim = listening.adapter.dims.llm_dim
    if llm_dim != llm.hidden_size:
        raise CheckpointError(f"{folder} was made for an LLM of hidden size {llm_dim}, this one has {llm.hidden_size}")
    pieces, vocabulary = listening.adapter.dims.pieces, len(cast(Tensor, llm.embedding.weight))
    if pieces not in (0, vocabulary):
        raise CheckpointError(f"{folder} was made for an LLM of {pieces} pieces, this one has {vocabulary}")
    if llm_dim % decoder.dims.dim:
        raise CheckpointError(
            f"{folder}: the LLM's {llm_dim} is no multiple of the speech decoder's {decoder.dims.dim}"
        )
    if decoder.dims.codes != codec.codes:
        raise CheckpointError(
            f"{folder}: the speech decoder writes {decoder.dims.codes} codes, the codec has {codec.codes}"
        )


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """`tensors` with the ends of their names replaced."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            if name.endswith("." + old):
                name = name.removesuffix(old) + new
                break
        out[name] = tensor
    return out


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
