"""The text files of a checkpoint (train.yaml, model.json) read as the sizes they state, and written from sizes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from duplex.core.errors import CheckpointError
from duplex.model.adapter import AdapterDims
from duplex.model.codec import CodecEncoder, GeneratorDims, IstftDims
from duplex.model.encoder import EncoderDims
from duplex.model.speech_decoder import SpeechDecoderDims


class _Entries(BaseModel):
    """Entries we read; the official files hold many more, of training, which are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class TransformerEntries(_Entries):
    """encoder_conf.para_conf.transformer of train.yaml; the literals are the one kind of encoder we run."""

    dim: PositiveInt = Field(alias="transformer-attention-dim")
    heads: PositiveInt = Field(alias="transformer-attention-heads")
    feed_forward: PositiveInt = Field(alias="transformer-linear-units")
    blocks: PositiveInt = Field(alias="transformer-num-blocks")
    chunk: PositiveInt = Field(alias="transformer-chunk_size")
    left_chunks: PositiveInt = Field(alias="transformer-left_chunks")
    positions: Literal["rel-enc", "rel-distance"] = Field(default="rel-enc", alias="transformer-pos-enc-class")
    pre_norm: Literal[True] = Field(default=True, alias="transformer-normalize-before")
    input_layer: Literal["linear"] = Field(default="linear", alias="transformer-input-layer")
    feed_forward_kind: Literal["linear"] = Field(default="linear", alias="transformer-positionwise-layer-type")


class SubsamplingEntries(_Entries):
    """encoder_conf.para_conf.subsampling."""

    rate: Literal[4] = Field(default=4, alias="subsampling-rate")
    channels: PositiveInt | None = Field(default=None, alias="subsampling-channels")  # ours; official: the output dim


class ParaConf(_Entries):
    """encoder_conf.para_conf."""

    subsampling: SubsamplingEntries = SubsamplingEntries()
    transformer: TransformerEntries


class EncoderConf(_Entries):
    """encoder_conf."""

    para_conf: ParaConf


class Refusal(_Entries):
    """model_conf.refusal: what the LLM says where it has no answer, and how likely to it that is when it is said.

    Less than the likeliest reply may be enough: an answer that is wrong is worse than none.
    """

    text: Annotated[str, Field(pattern=r"\S")]
    from_probability: Annotated[float, Field(gt=0, le=1)]


class WordSearchEntries(_Entries):
    """model_conf.word_search: how a spoken turn's words are found with the n-gram model beside train.yaml.

    blank_piece: the adapter's piece where nothing is said. lm_weight: of the n-gram model's log probabilities beside
    the ears', and insertion_bonus: what every piece gains, as longer texts are less likely to that model.
    """

    blank_piece: NonNegativeInt
    lm_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    insertion_bonus: Annotated[float, Field(allow_inf_nan=False)]


class ModelConf(_Entries):
    """model_conf: adapter, prompts, state head and chat template."""

    adapter_kind: Literal["subsampling"] = Field(default="subsampling", alias="adpter_type")
    norm: Literal["layer", "batch"] = "batch"
    activation: Literal["gelu", "relu"] = Field(default="relu", alias="activation_func")
    kernel: PositiveInt = Field(default=5, alias="kernel_size")
    pieces: NonNegativeInt = 0  # ours
    cues: NonNegativeInt = 0  # ours
    encoder_dim: PositiveInt = Field(alias="enc_out_dim")
    llm_dim: PositiveInt = Field(alias="llm_embed_dim")
    prompts: PositiveInt = Field(alias="prompt_num")
    prompts_before_audio: Literal[True] = Field(default=True, alias="add_prompt_before")
    states: Annotated[int, Field(ge=3)] = Field(alias="predict_usr_state")
    interruption_class: Annotated[int, Field(ge=3)] | None = None  # ours
    typed_as_heard: bool = False  # ours
    refusal: Refusal | None = None  # ours
    word_search: WordSearchEntries | None = None  # ours
    chat_template: str


class TrainConfig(_Entries):
    """audiollm/train.yaml."""

    bins: PositiveInt = Field(default=80, alias="input_dim")
    is_json_cmvn: bool = True
    encoder_conf: EncoderConf
    listening: ModelConf = Field(alias="model_conf")

    @property
    def encoder(self) -> EncoderDims:
        """Sizes of the encoder."""
        parts = self.encoder_conf.para_conf
        t = parts.transformer
        return EncoderDims(
            bins=self.bins,
            dim=t.dim,
            heads=t.heads,
            feed_forward=t.feed_forward,
            blocks=t.blocks,
            chunk=t.chunk,
            left_chunks=t.left_chunks,
            position_kind=t.positions,
            subsampling_channels=parts.subsampling.channels,
        )

    @property
    def adapter(self) -> AdapterDims:
        """Sizes and kind of the adapter."""
        m = self.listening
        return AdapterDims(m.encoder_dim, m.llm_dim, m.kernel, m.norm, m.activation, m.pieces, m.cues)


class DecoderEntries(_Entries):
    """The third element of decoder/model.json."""

    dim: PositiveInt = Field(alias="transformer_attention_dim")
    heads: PositiveInt = Field(alias="transformer_attention_heads")
    feed_forward: PositiveInt = Field(alias="transformer_linear_units")
    blocks: PositiveInt = Field(alias="transformer_num_blocks")
    prefix: bool = Field(default=False, alias="kv_cache_prefix_finetune")
    symbols: NonNegativeInt = 0  # ours


class CodecEncoderEntries(_Entries):
    """Sizes of our codec encoder."""

    bins: PositiveInt
    dim: PositiveInt
    frames_per_token: PositiveInt
    blocks: PositiveInt
    kernel: PositiveInt


class CodecEntries(_Entries):
    """codec/model.json: the official HiFi-GAN unless `decoder` says "istft"."""

    decoder: Literal["hifigan", "istft"] = "hifigan"
    sample_rate: PositiveInt = Field(alias="sampling_rate")
    code_groups: Literal[1] = Field(default=1, alias="n_code_groups")
    residual_layers: Literal[1] = Field(default=1, alias="residul_layer")
    codes: PositiveInt = Field(alias="n_codes")
    speaker_codebooks: int = Field(default=0, ge=0, alias="global_code_num")
    speaker_tokens: list[int] = Field(default_factory=list, alias="global_tokens")
    resblock: str = "1"
    rates: tuple[int, ...] = Field(default=(), alias="upsample_rates")
    kernels: tuple[int, ...] = Field(default=(), alias="upsample_kernel_sizes")
    initial_channels: int = Field(default=0, alias="upsample_initial_channel")
    resblock_kernels: tuple[int, ...] = Field(default=(), alias="resblock_kernel_sizes")
    resblock_dilations: tuple[tuple[int, ...], ...] = Field(default=(), alias="resblock_dilation_sizes")
    istft: dict[str, int] | None = None
    encoder: CodecEncoderEntries | None = None

    def generator(self, input_dim: int) -> GeneratorDims:
        """Sizes of the HiFi-GAN generator for code embeddings of `input_dim` (stated only by the tensors)."""
        return GeneratorDims(
            input_dim,
            self.initial_channels,
            self.rates,
            self.kernels,
            self.resblock,
            self.resblock_kernels,
            self.resblock_dilations,
        )


Kind = TypeVar("Kind", bound=_Entries)


def read_train_config(path: Path) -> TrainConfig:
    """Read train.yaml. Raises CheckpointError naming the file and the entry."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return _validated(TrainConfig, loaded, path)


def read_decoder_dims(path: Path) -> SpeechDecoderDims:
    """Read decoder/model.json, [input dim, codes, {entries}]. Raises CheckpointError."""
    loaded = _read_json(path)
    if not isinstance(loaded, list) or len(loaded) != 3 or not all(isinstance(n, int) for n in loaded[:2]):
        raise CheckpointError(f"{path} is not [input dim, output dim, {{...}}]")
    entries = _validated(DecoderEntries, loaded[2], path)
    if loaded[0] != entries.dim:
        raise CheckpointError(f"{path}: input dim {loaded[0]} differs from transformer_attention_dim {entries.dim}")
    return SpeechDecoderDims(
        entries.dim,
        entries.heads,
        entries.feed_forward,
        entries.blocks,
        loaded[1],
        prefix=entries.prefix,
        symbols=entries.symbols,
    )


def read_codec_entries(path: Path) -> CodecEntries:
    """Read codec/model.json; `codes` stands for the official `n_codes` as well. Raises CheckpointError."""
    loaded = _read_json(path)
    if isinstance(loaded, dict):
        loaded.setdefault("n_codes", loaded.get("codes"))
    entries = _validated(CodecEntries, loaded, path)
    if entries.decoder == "istft" and entries.istft is None:
        raise CheckpointError(f"{path}: decoder is 'istft', but there is no entry 'istft'")
    if entries.decoder == "hifigan" and (not entries.rates or not entries.initial_channels):
        raise CheckpointError(f"{path}: upsample_rates or upsample_initial_channel is missing")
    if len(entries.speaker_tokens) != entries.speaker_codebooks:
        count = len(entries.speaker_tokens)
        raise CheckpointError(f"{path}: {count} global_tokens for {entries.speaker_codebooks} global codebooks")
    return entries


def istft_dims(entries: CodecEntries, path: Path) -> IstftDims:
    """The `istft` entry as sizes. Raises CheckpointError on an unknown or missing one."""
    given = entries.istft or {}
    known = set(asdict(IstftDims()))
    if set(given) != known:
        odd = sorted(set(given) ^ known)
        raise CheckpointError(f"{path}: missing or unknown istft entries {', '.join(odd)}")
    return IstftDims(**given)


def train_config(
    encoder: EncoderDims,
    adapter: AdapterDims,
    *,
    prompts: int,
    states: int,
    chat_template: str,
    json_cmvn: bool,
    interruption_class: int | None = None,
    typed_as_heard: bool = False,
    refusal: Refusal | None = None,
    word_search: WordSearchEntries | None = None,
) -> dict[str, Any]:
    """train.yaml's content for these sizes."""
    transformer = {
        "attention-dim": encoder.dim,
        "attention-heads": encoder.heads,
        "chunk_size": encoder.chunk,
        "input-dim": encoder.dim,
        "input-layer": "linear",
        "left_chunks": encoder.left_chunks,
        "linear-units": encoder.feed_forward,
        "normalize-before": True,
        "num-blocks": encoder.blocks,
        "output-dim": encoder.dim,
        "pos-enc-class": encoder.position_kind,
        "positionwise-layer-type": "linear",
    }
    subsampling = {"input-dim": encoder.bins, "output-dim": encoder.dim, "rate": 4}
    if encoder.subsampling_channels is not None:
        subsampling["channels"] = encoder.subsampling_channels
    return {
        "cmvn_file": None,
        "encoder_conf": {
            "overview_conf": {
                "encoder-input-dim": encoder.bins,
                "encoder-layer-config": "subsampling-transformer",
                "encoder-output-dim": encoder.dim,
            },
            "para_conf": {
                "subsampling": {f"subsampling-{name}": value for name, value in subsampling.items()},
                "transformer": {f"transformer-{name}": value for name, value in transformer.items()},
            },
        },
        "input_dim": encoder.bins,
        "is_json_cmvn": json_cmvn,
        "model_conf": {
            "activation_func": adapter.activation,
            "add_prompt_before": True,
            "adpter_type": "subsampling",
            "chat_template": chat_template,
            "enc_out_dim": adapter.encoder_dim,
            "kernel_size": adapter.kernel,
            "llm_embed_dim": adapter.llm_dim,
            "norm": adapter.norm,
            "predict_usr_state": states,
            "prompt_num": prompts,
            "task_type": "prompt_finetune",
            **({"pieces": adapter.pieces} if adapter.pieces else {}),
            **({"cues": adapter.cues} if adapter.cues else {}),
            **({} if interruption_class is None else {"interruption_class": interruption_class}),
            **({"typed_as_heard": True} if typed_as_heard else {}),
            **({} if refusal is None else {"refusal": refusal.model_dump()}),
            **({} if word_search is None else {"word_search": word_search.model_dump()}),
        },
    }


def decoder_config(dims: SpeechDecoderDims) -> list[Any]:
    """decoder/model.json's content for these sizes."""
    entries = {
        "idim": dims.dim,
        "odim": dims.codes,
        "kv_cache_prefix_finetune": int(dims.prefix),
        "transformer_attention_dim": dims.dim,
        "transformer_attention_heads": dims.heads,
        "transformer_linear_units": dims.feed_forward,
        "transformer_num_blocks": dims.blocks,
        **({"symbols": dims.symbols} if dims.symbols else {}),
    }
    return [dims.dim, dims.codes, entries]


def codec_config(
    dims: GeneratorDims | IstftDims,
    *,
    codes: int,
    sample_rate: int,
    speaker_tokens: list[int],
    encoder: CodecEncoder | None,
) -> dict[str, Any]:
    """codec/model.json's content for a decoder of these sizes."""
    content: dict[str, Any] = {
        "sampling_rate": sample_rate,
        "n_code_groups": 1,
        "residul_layer": 1,
        "n_codes": codes,
        "global_code_num": len(speaker_tokens),
        "global_tokens": speaker_tokens,
    }
    if isinstance(dims, IstftDims):
        content |= {"decoder": "istft", "istft": asdict(dims)}
    else:
        content |= {
            "resblock": dims.resblock,
            "upsample_rates": dims.rates,
            "upsample_kernel_sizes": dims.kernels,
            "upsample_initial_channel": dims.initial_channels,
            "resblock_kernel_sizes": dims.resblock_kernels,
            "resblock_dilation_sizes": dims.resblock_dilations,
        }
    if encoder is not None:
        content["encoder"] = {
            "bins": encoder.conv_pre.in_channels,
            "dim": encoder.conv_pre.out_channels,
            "frames_per_token": encoder.frames_per_token,
            "blocks": len(encoder.frame_blocks),
            "kernel": encoder.frame_blocks[0].depthwise.kernel_size[0],  # type: ignore[union-attr,index]
        }
    return content


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _validated(kind: type[Kind], loaded: object, path: Path) -> Kind:
    try:
        return kind.model_validate(loaded)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, p['loc']))}: {p['msg']} (got {p['input']!r:.80})" for p in error.errors()]
        raise CheckpointError(f"{path}: {'; '.join(told)}") from error
