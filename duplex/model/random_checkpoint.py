"""Random checkpoints of any size in the official layout, for benchmarks and tests. They speak nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from duplex.model.adapter import Adapter, AdapterDims
from duplex.model.checkpoint import save_checkpoint
from duplex.model.checkpoint_files import write_safetensors
from duplex.model.cmvn import write_cmvn_kaldi
from duplex.model.codec import Codec, GeneratorDims, IstftDims, Quantizer, make_generator
from duplex.model.encoder import EncoderDims, SpeechEncoder
from duplex.model.settings import SpeechSettings
from duplex.model.speech_decoder import SpeechDecoder, SpeechDecoderDims

CHAT_TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<audio><|im_end|>\n<|im_start|>assistant\n"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CMVN_MEAN, CMVN_ISTD = 12.0, 0.25  # about those of log-mel features of int16-scaled speech


@dataclass(frozen=True)
class LlmDims:
    """Sizes of a Qwen2 language model (arXiv 2407.10671)."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    max_positions: int = 32768
    rope_theta: float = 1e6


@dataclass(frozen=True)
class CheckpointDims:
    """Sizes and file variants of a whole checkpoint.

    kaldi_cmvn: statistics only in a Kaldi text file, none among the tensors. wrapped_decoder: the decoder's state
    dict inside {"model": ...}. pickled: final.pt as the official files, otherwise final.safetensors.
    """

    llm: LlmDims
    encoder: EncoderDims
    decoder: SpeechDecoderDims
    codec: GeneratorDims | IstftDims
    speaker_tokens: tuple[int, ...] = ()
    prompts: int = 25
    states: int = 4
    adapter_kernel: int = 5
    adapter_norm: str = "layer"
    adapter_activation: str = "gelu"
    settings: SpeechSettings = field(default_factory=SpeechSettings)
    dtype: torch.dtype = torch.bfloat16
    pickled: bool = True
    kaldi_cmvn: bool = False
    wrapped_decoder: bool = False

    @property
    def adapter(self) -> AdapterDims:
        """Sizes of the adapter between encoder and LLM."""
        return AdapterDims(
            self.encoder.dim, self.llm.hidden, self.adapter_kernel, self.adapter_norm, self.adapter_activation
        )


TINY = CheckpointDims(
    llm=LlmDims(hidden=64, layers=2, heads=4, kv_heads=2, feed_forward=128, vocabulary=320),
    encoder=EncoderDims(dim=32, heads=4, feed_forward=64, blocks=2),
    decoder=SpeechDecoderDims(dim=16, heads=2, feed_forward=48, blocks=4, codes=64),
    codec=GeneratorDims(64, 256, (8, 5, 5, 3), (10, 11, 11, 5), "1", (3,), ((1, 3),)),
    speaker_tokens=(3, 17, 40, 9, 61, 22, 0, 55),
    prompts=5,
)

# Public facts of the official checkpoint (fixture README); its codec's residual blocks are HiFi-GAN V1's.
FULL_7B = CheckpointDims(
    llm=LlmDims(hidden=3584, layers=28, heads=28, kv_heads=4, feed_forward=18944, vocabulary=152064),
    encoder=EncoderDims(),
    decoder=SpeechDecoderDims(dim=896, heads=14, feed_forward=4864, blocks=4, codes=1024),
    codec=GeneratorDims(512, 512, (8, 5, 5, 3), (16, 11, 11, 5), "1", (3, 7, 11), ((1, 3, 5),) * 3),
    speaker_tokens=(3, 17, 40, 9, 61, 22, 0, 55),
)


def random_checkpoint(folder: Path, dims: CheckpointDims, seed: int = 0) -> None:
    """Write a checkpoint with random weights, its LLM in `folder/llm`; equal seeds give equal files.

    The LLM, by far the largest part, is written a layer at a time and never held as a whole.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write_speech_parts(folder, dims)
        _write_llm(folder / "llm", dims.llm, dims.dtype)
    if dims.kaldi_cmvn:
        _move_cmvn_to_kaldi(folder / "audiollm")
    if dims.pickled:
        _pickle(folder / "audiollm")
        _pickle(folder / "decoder", wrapped=dims.wrapped_decoder)
        _pickle(folder / "codec", grouped=True)


def _write_speech_parts(folder: Path, dims: CheckpointDims) -> None:
    encoder = SpeechEncoder(dims.encoder)
    encoder.global_cmvn.mean.fill_(CMVN_MEAN)
    encoder.global_cmvn.istd.fill_(CMVN_ISTD)
    input_dim = dims.codec.input_dim
    generator = make_generator(dims.codec)
    save_checkpoint(
        folder,
        encoder=encoder,
        adapter=Adapter(dims.adapter),
        prompt_embeddings=torch.randn(dims.prompts, dims.llm.hidden),
        state_head=nn.Linear(dims.llm.hidden, dims.states),
        speech_decoder=SpeechDecoder(dims.decoder),
        codec=Codec(
            Quantizer(dims.decoder.codes, input_dim, len(dims.speaker_tokens)),
            generator,
            speaker_tokens=list(dims.speaker_tokens),
        ),
        settings=dims.settings,
        chat_template=CHAT_TEMPLATE,
        dtype=dims.dtype,
    )


def _llm_shards(dims: LlmDims, dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    """The tensors of a Qwen2 model under their Hugging Face names: embedding, each layer, head."""
    kv_width = dims.hidden // dims.heads * dims.kv_heads

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.empty(rows, columns, dtype=dtype).normal_(std=columns**-0.5)

    def ones() -> Tensor:
        return torch.ones(dims.hidden, dtype=dtype)

    yield {"model.embed_tokens.weight": torch.empty(dims.vocabulary, dims.hidden, dtype=dtype).normal_()}
    for index in range(dims.layers):
        layer = {"input_layernorm.weight": ones(), "post_attention_layernorm.weight": ones()}
        for name, width in (("q", dims.hidden), ("k", kv_width), ("v", kv_width)):
            layer[f"self_attn.{name}_proj.weight"] = matrix(width, dims.hidden)
            layer[f"self_attn.{name}_proj.bias"] = torch.zeros(width, dtype=dtype)
        layer["self_attn.o_proj.weight"] = matrix(dims.hidden, dims.hidden)
        layer["mlp.gate_proj.weight"] = matrix(dims.feed_forward, dims.hidden)
        layer["mlp.up_proj.weight"] = matrix(dims.feed_forward, dims.hidden)
        layer["mlp.down_proj.weight"] = matrix(dims.hidden, dims.feed_forward)
        yield {f"model.layers.{index}.{name}": tensor for name, tensor in layer.items()}
    yield {"model.norm.weight": ones(), "lm_head.weight": matrix(dims.vocabulary, dims.hidden)}


def _write_llm(folder: Path, dims: LlmDims, dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shards = dims.layers + 2
    places: dict[str, str] = {}
    size = 0
    for number, tensors in enumerate(_llm_shards(dims, dtype), 1):
        name = f"model-{number:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, tensors)
        places |= dict.fromkeys(tensors, name)
        size += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    end_of_turn = _write_tokenizer(folder, dims.vocabulary)
    llm_config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": dims.hidden,
        "intermediate_size": dims.feed_forward,
        "max_position_embeddings": dims.max_positions,
        "num_attention_heads": dims.heads,
        "num_hidden_layers": dims.layers,
        "num_key_value_heads": dims.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_theta": dims.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_sliding_window": False,
        "vocab_size": dims.vocabulary,
        "eos_token_id": end_of_turn,
    }
    (folder / "config.json").write_text(json.dumps(llm_config, indent=1), encoding="utf-8")


def _write_tokenizer(folder: Path, vocabulary: int) -> int:
    """A tokenizer of single bytes and the chat's special tokens; returns the end-of-turn id."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary < len(alphabet) + len(SPECIAL_TOKENS):
        raise ValueError(f"a vocabulary of {vocabulary} is too small for bytes and special tokens")
    tokenizer = Tokenizer(models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    wrapped: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=SPECIAL_TOKENS[0], eos_token=SPECIAL_TOKENS[-1]
    )
    wrapped.save_pretrained(folder)
    return int(wrapped.eos_token_id)


def _move_cmvn_to_kaldi(folder: Path) -> None:
    path = folder / "final.safetensors"
    tensors = safetensors.torch.load_file(path)
    mean, istd = (tensors.pop(f"encoder.global_cmvn.{name}") for name in ("mean", "istd"))
    write_safetensors(path, tensors)
    write_cmvn_kaldi(folder / "global_cmvn", mean, istd)
    train_yaml = folder / "train.yaml"
    stated = train_yaml.read_text(encoding="utf-8")
    train_yaml.write_text(stated.replace("is_json_cmvn: true", "is_json_cmvn: false"), encoding="utf-8")


def _pickle(folder: Path, *, wrapped: bool = False, grouped: bool = False) -> None:
    """Turn final.safetensors into the final.pt of the official files."""
    path = folder / "final.safetensors"
    tensors = safetensors.torch.load_file(path)
    content: dict[str, object] = dict(tensors)
    if grouped:
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups.setdefault(group, {})[rest] = tensor
        content = dict(groups)
    torch.save({"model": content} if wrapped else content, folder / "final.pt")
    path.unlink()
