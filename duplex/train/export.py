"""Write the trained parts as one checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import safetensors.torch

from duplex.model.checkpoint import SpeechSettings, save_checkpoint
from duplex.model.checkpoint_config import Refusal
from duplex.model.checkpoint_files import on_eight_bit_grid, write_safetensors
from duplex.model.codec import Codec
from duplex.model.speech_decoder import SpeechDecoder
from duplex.model.word_search import WordSearch
from duplex.train.codec_stage import CodecTrainer
from duplex.train.dialogue_writer import TEMPLATE
from duplex.train.listen_stage import INTERRUPTION_CLASS, ListenModel
from duplex.train.world.talk import UNKNOWN_REPLY

# Users ask about anything, training seldom does; so it refuses long before that is the likeliest to it.
REFUSED_FROM = 0.05


def export(
    listen: ListenModel,
    decoder: SpeechDecoder,
    codec: CodecTrainer,
    llm_folder: Path,
    settings: SpeechSettings,
    folder: Path,
    *,
    word_search: WordSearch,
    eight_bit: bool = False,
) -> None:
    """The checkpoint in the official layout with its LLM inside `folder/llm`; its matrices 8 bit where asked for, all
    else 16.
    """
    if (folder / "llm").resolve() != llm_folder.resolve():
        shutil.copytree(llm_folder, folder / "llm", dirs_exist_ok=True)
    if eight_bit:
        round_llm(folder / "llm")
    save_checkpoint(
        folder,
        encoder=listen.encoder,
        adapter=listen.adapter,
        prompt_embeddings=listen.prompt_embeddings.detach(),
        state_head=listen.state_head,
        speech_decoder=decoder,
        codec=Codec(codec.quantizer, codec.generator, sample_rate=24000),
        codec_encoder=codec.encoder,
        settings=settings,
        chat_template=TEMPLATE,
        interruption_class=INTERRUPTION_CLASS,
        typed_as_heard=True,
        word_search=word_search,
        refusal=Refusal(text=UNKNOWN_REPLY, from_probability=REFUSED_FROM),
        eight_bit=eight_bit,
    )


def round_llm(folder: Path) -> None:
    """Round the matrices of a language model's blocks to 8 bit where they lie; its file stays what it was."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    blocks = {name for name, tensor in tensors.items() if ".layers." in name and tensor.dim() == 2}
    write_safetensors(path, {n: on_eight_bit_grid(t) if n in blocks else t for n, t in tensors.items()})
