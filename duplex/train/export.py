"""Write the trained parts as one checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from duplex.model.checkpoint import SpeechSettings, save_checkpoint
from duplex.model.codec import Codec
from duplex.model.speech_decoder import SpeechDecoder
from duplex.train.codec_stage import CodecTrainer
from duplex.train.listen_stage import INTERRUPTION_CLASS, ListenModel
from duplex.train.text_llm import TEMPLATE


def export(
    listen: ListenModel,
    decoder: SpeechDecoder,
    codec: CodecTrainer,
    llm_folder: Path,
    settings: SpeechSettings,
    folder: Path,
    *,
    eight_bit_speech: bool = False,
) -> None:
    """The checkpoint in the official layout, 16 bit (speech decoder and codec 8 where asked for), with its LLM inside
    `folder/llm`.
    """
    if (folder / "llm").resolve() != llm_folder.resolve():
        shutil.copytree(llm_folder, folder / "llm", dirs_exist_ok=True)
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
        eight_bit_speech=eight_bit_speech,
    )
