"""All stages in order, each resumable, from nothing to a checkpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from duplex.model.adapter import Adapter, AdapterDims
from duplex.model.checkpoint import SpeechSettings
from duplex.model.lexicon import Lexicon
from duplex.model.llm import load_tokenizer
from duplex.model.speech_decoder import SpeechDecoder, SpeechDecoderDims
from duplex.model.word_search import WordSearch
from duplex.train import codec_stage, ctc_stage, head_stage, listen_stage, speak_stage, text_llm
from duplex.train.codec_stage import CodecTrainer
from duplex.train.corpus import GrowingCorpus, Kind, build_corpus, load_corpus
from duplex.train.ctc_stage import CtcModel
from duplex.train.dialogue_writer import DialogueWriter
from duplex.train.export import export
from duplex.train.heard import heard_dialogues
from duplex.train.listen_stage import ListenModel
from duplex.train.loop import LoopOptions, alone, fresh, steps_done, trained_weights
from duplex.train.plans import HELDOUT, Cast
from duplex.train.presets import Preset
from duplex.train.pronunciation import world_lexicon
from duplex.train.scenarios import ClipPools, load_pools
from duplex.train.state_stage import state_items
from duplex.train.text_llm import quicken
from duplex.train.tokenizer import copy_tokenizer
from duplex.train.warm_start import WarmStart
from duplex.train.word_model import model_of_users, search_entries
from duplex.train.workers import APART, in_processes

NEEDS: dict[str, tuple[str, ...]] = {  # of every stage those whose results it begins with
    "tokenizer": (),
    "data": (),
    "users": ("data",),
    "ctc": ("data", "tokenizer"),  # and hears more of the users' corpus as it grows, like `adapter`
    "text": ("tokenizer",),
    "adapter": ("ctc",),
    "words": ("tokenizer",),
    "heard": ("adapter", "text", "words"),
    "state": ("heard", "users"),
    "head": ("state",),
    "agent": (),
    "codec": ("agent",),
    "speech": ("codec", "text"),
    "export": ("head", "speech"),
}
STAGES = tuple(NEEDS)

HEARD_SEED = APART // 2  # beside the run's, or stage `heard` would read the dialogues again that `text` has read

_SCORED_HOURS = 0.1  # of what is evaluated on, which the encoder's first words are scored on

# Of what is evaluated on: kind, share of the preset's hours, and what its seed has beside the preset's.
_EVALUATED: dict[str, tuple[Kind, float, int]] = {
    "unseen_voices": ("unseen_voices", 1.0, 7),
    "asr_test": ("asr", 1.0, 6),
    "split_turns_test": ("split_turns", 0.25, 8),
    "backchannels_test": ("backchannels", 0.05, 9),
    "noise_test": ("noise", 0.05, 10),
}


class Pipeline:
    """The stages of one run; `work` holds corpora, logs and intermediate weights.

    `start_from`: a checkpoint whose weights every stage begins with; None: nothing. `workers`: processes that
    synthesize, and make batches while the model learns from the last ones; 0: the one that trains.
    """

    def __init__(
        self,
        preset: Preset,
        work: Path,
        out: Path,
        seed: int,
        device: str,
        start_from: Path | None = None,
        workers: int = 0,
    ) -> None:
        self.preset = preset
        self.work = work
        self.out = out
        self.seed = seed
        self.device = device
        self.workers = workers
        self.llm_folder = work / "llm"  # tokenizer, and the LLM of stage `text`
        self.ngrams = work / "ngrams.safetensors"  # what people say
        self.heard_llm_folder = work / "heard" / "llm"  # the one that goes into the checkpoint
        self.warm = None if start_from is None else WarmStart(start_from)

    def run(self, stage: str) -> None:
        """Run one stage. Raises KeyError for an unknown one, FileNotFoundError when an earlier one is missing."""
        steps: dict[str, Callable[[], None]] = {
            "tokenizer": self.tokenizer,
            "data": self.data,
            "text": self.text,
            "users": self.users,
            "ctc": self.ctc,
            "adapter": self.adapter,
            "words": self.words,
            "heard": self.heard,
            "state": self.state,
            "head": self.head,
            "agent": self.agent,
            "codec": self.codec,
            "speech": self.speech,
            "export": self.export,
        }
        # cuDNN's attention plans anew for every shape, which takes longer than a small model's whole step.
        torch.backends.cuda.enable_cudnn_sdp(False)
        began = time.monotonic()
        steps[stage]()
        print(f"stage {stage}: done in {time.monotonic() - began:.0f} s", flush=True)

    def corpus(self, name: str) -> Path:
        """Folder of one corpus."""
        return self.work / "corpus" / name

    def tokenizer(self) -> None:
        """The LLM's pieces."""
        if self.warm is not None and not (self.llm_folder / "tokenizer.json").exists():
            copy_tokenizer(self.warm.folder / "llm", self.llm_folder)
        p = self.preset
        text_llm.provide_tokenizer(
            self.work / "tokenizer", self.llm_folder, p.llm.vocabulary, self.seed, p.word_dialogues
        )

    def data(self) -> None:
        """What the ears begin with: the first hours of the users' corpus, and what their first words are scored on."""
        p = self.preset
        self._synthesize("asr", "asr", min(p.first_hours, p.asr_hours))
        self._evaluation_corpus("asr_test", min(_SCORED_HOURS, p.test_hours))

    def users(self) -> None:
        """The rest of the users' corpus, and what timed turns are made of."""
        p = self.preset
        self._synthesize("asr", "asr", p.asr_hours)
        self._synthesize("split_turns", "split_turns", p.split_turn_hours)
        self._synthesize("backchannels", "backchannels", p.event_hours)
        self._synthesize("noise", "noise", 2 * p.event_hours)
        self.evaluation_data()

    def agent(self) -> None:
        """The agent's corpus."""
        self._synthesize("agent", "agent", self.preset.agent_hours)

    def _synthesize(self, name: str, kind: Kind, hours: float, seed: int = 0, cast: Cast | None = None) -> None:
        """One corpus, by default of the voices that are trained on."""
        build_corpus(
            kind, self.corpus(name), hours, self.seed + seed, cast=cast or Cast(voices=self.preset.voices),
            shard_clips=self.preset.shard_clips, workers=self.workers,
        )  # fmt: skip

    def evaluation_data(self) -> dict[str, Path]:
        """Synthesize what training never hears: known phrasings in new voices, new phrasings in new voices, and what
        timed turns are made of.
        """
        hours = self.preset.test_hours
        return {name: self._evaluation_corpus(name, hours * share) for name, (_, share, _) in _EVALUATED.items()}

    def _evaluation_corpus(self, name: str, hours: float) -> Path:
        kind, _, seed = _EVALUATED[name]
        self._synthesize(name, kind, hours, seed, HELDOUT)
        return self.corpus(name)

    def text(self) -> None:
        """The text LLM."""
        self._tokenizer()
        text_llm.run(
            self.work / "text_llm", self.llm_folder, self.preset.llm, self.preset.text_steps, self.seed,
            device=self.device, workers=self.workers, start_from=fresh if self.warm is None else self.warm.text,
            batch_scale=self.preset.batch_scale,
        )  # fmt: skip

    def ctc(self) -> None:
        """CTC pre-training of the encoder."""
        ctc_stage.run(
            GrowingCorpus(self.corpus("asr")), load_corpus(self.corpus("asr_test")),
            self.work / "ctc", self.preset.encoder, self._tokenizer(), self.preset.ctc_steps, self.seed,
            character_steps=self.preset.character_steps if self.warm is None else 0, device=self.device,
            workers=self.workers, start_from=fresh if self.warm is None else self.warm.ctc,
            batch_sec=self.preset.ctc_batch_sec * self.preset.batch_scale,
        )  # fmt: skip

    def adapter(self) -> None:
        """Adapter on single utterances, without the LLM, with the encoder moving along."""
        model, writer = self._ears("ctc")
        corpus, fill = GrowingCorpus(self.corpus("asr")), model.encoder.global_cmvn.mean.cpu()
        size = self.preset.adapter_batch * self.preset.batch_scale
        listen_stage.run(
            model, writer,
            lambda number: listen_stage.clip_batches(corpus, writer, size, number, self.device, fill),
            self.work / "adapter", self.preset.adapter_steps, name="adapter", seed=self.seed,
            trained=(model.encoder, model.heads.characters, *model.adapter.piece_parts()), with_llm=False,
            device=self.device, workers=self.workers,
        )  # fmt: skip

    def words(self) -> None:
        """The n-gram model of what the world's users say."""
        if self.ngrams.exists():
            return
        writer, vocabulary = DialogueWriter(tokenizer := self._tokenizer()), len(tokenizer)
        model = model_of_users(writer.encode, vocabulary, self.seed, self.preset.said_dialogues)
        model.write(self.ngrams)

    def heard(self) -> None:
        """The text LLM again, now with what encoder and adapter make of the users' corpus as well."""
        model, writer = self._ears("adapter")
        model.search = self._search(writer)
        corpus = load_corpus(self.corpus("asr"))

        def go_on(llm: Any) -> None:
            _restore(llm, self.work / "text_llm", self.preset)

        copy_tokenizer(self.llm_folder, self.heard_llm_folder)
        text_llm.run(
            self.work / "heard", self.heard_llm_folder, self.preset.llm, self.preset.heard_steps, self.seed + HEARD_SEED,
            device=self.device, workers=self.workers, start_from=go_on,
            heard=lambda seed: heard_dialogues(model, corpus, seed, self.workers, self.preset.batch_scale),
            batch_scale=self.preset.batch_scale,
        )  # fmt: skip

    def state(self) -> None:
        """State head, prompt embeddings and the adapter's rest on timed turns; all others stand still."""
        model, writer = self._listen_model("adapter")
        pools, size = self._pools(), self.preset.state_batch * self.preset.batch_scale
        listen_stage.run(
            model, writer,
            lambda number: listen_stage.spoken_batches(state_items(pools, writer, number), size, number),
            self.work / "state", self.preset.state_steps, name="state", seed=self.seed,
            trained=(model.prompt_embeddings, model.state_head, *model.adapter.rest_parts()), with_llm=True,
            device=self.device, workers=self.workers,
        )  # fmt: skip

    def head(self) -> None:
        """State head and cues alone, fitted to what they read in many timed turns."""
        folder = self.work / "head"
        if (folder / "state.pt").exists():
            return
        model, writer = self._listen_model("state")
        size = self.preset.state_batch * self.preset.batch_scale

        def read(pools: ClipPools, turns: int, file: Path) -> head_stage.Read:
            def made(seed: int) -> Iterator[listen_stage.SpokenBatch]:
                items = state_items(pools, writer, seed)
                return listen_stage.spoken_batches(items, size, seed)

            def ahead(done: int) -> Iterator[listen_stage.SpokenBatch]:
                return in_processes(made, self.seed + 1 + done, self.workers)

            return head_stage.read_turns(model, writer, ahead, turns, file)

        with alone(folder):
            self._fit_head(model, read, folder)

    def _fit_head(
        self, model: ListenModel, read: Callable[[ClipPools, int, Path], head_stage.Read], folder: Path
    ) -> None:
        if self.preset.head_turns:
            kept = read(self._pools(), self.preset.head_turns, folder / "read.pt")
            means = head_stage.fit(model, kept, self.seed)
            print("loss of every pass:", *(f"{mean:.4f}" for mean in means), flush=True)
            others = load_pools(
                *map(self.corpus, ("unseen_voices", "split_turns_test", "backchannels_test", "noise_test"))
            )
            line = head_stage.calibrate(model, read(others, self.preset.calibration_turns, folder / "calibration.pt"))
            print("interruption's logit: times {:.3f}, plus {:.3f}".format(*line), flush=True)
        torch.save({"module": model.state_dict()}, folder / "state.tmp")
        (folder / "state.tmp").replace(folder / "state.pt")

    def _pools(self) -> ClipPools:
        return load_pools(*(self.corpus(name) for name in ("asr", "split_turns", "backchannels", "noise")))

    def codec(self) -> None:
        """Codec on the agent's voice."""
        clips = [clip.pcm for clip in load_corpus(self.corpus("agent"))]
        p = self.preset
        codec_stage.run(
            clips, self.work / "codec", p.codec, p.codes, p.codec_steps, self.seed, device=self.device,
            fixed_after=p.codes_fixed_after, start_from=fresh if self.warm is None else self.warm.codec,
        )  # fmt: skip

    def speech(self) -> None:
        """Speech decoder on the agent's voice, and on what the LLM of stage `text` thinks of what is said."""
        llm, writer = self._llm(self.llm_folder)
        items = speak_stage.prepare(
            load_corpus(self.corpus("agent")),
            self._codec().to(self.device),
            llm,
            writer,
            self.work / "speech" / "items.pt",
            self.seed,
        )
        speak_stage.run(
            items, llm, writer.encode, self.work / "speech", *self._decoder(), self.preset.decoder_steps, self.seed,
            device=self.device, workers=self.workers, start_from=fresh if self.warm is None else self.warm.decoder,
            batch_scale=self.preset.batch_scale,
        )  # fmt: skip

    def export(self) -> None:
        """Write the checkpoint."""
        listen, writer = self._listen_model("head")
        decoder = SpeechDecoder(*self._decoder())
        _restore(decoder, self.work / "speech", self.preset)
        settings = SpeechSettings(**self.preset.speech)  # type: ignore[arg-type]
        export(
            listen, decoder, self._codec(), self.heard_llm_folder, settings, self.out,
            word_search=self._search(writer), eight_bit=self.preset.eight_bit,
        )  # fmt: skip

    def _tokenizer(self) -> Any:
        if not (self.llm_folder / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{self.llm_folder} holds no tokenizer: run the stage 'tokenizer' first")
        return load_tokenizer(self.llm_folder)

    def _llm(self, folder: Path) -> tuple[Any, DialogueWriter]:
        """A trained LLM, which stands still."""
        from transformers import AutoModelForCausalLM

        tokenizer = self._tokenizer()
        if not (folder / "config.json").is_file():
            stage = "heard" if folder == self.heard_llm_folder else "text"
            raise FileNotFoundError(f"{folder} holds no LLM: run the stage '{stage}' first")
        llm: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return self._standing_still(llm), DialogueWriter(tokenizer)

    def _standing_still(self, llm: Any) -> Any:
        llm.to(self.device).eval()
        quicken(llm, self.device)
        llm.requires_grad_(False)
        return llm

    def _ears(self, stage: str) -> tuple[ListenModel, DialogueWriter]:
        """What turns speech into pieces as `stage` left it ("ctc": with a fresh adapter), around an LLM that is not
        trained, whose sizes alone matter to it.
        """
        tokenizer = self._tokenizer()
        torch.manual_seed(self.seed)
        llm = self._standing_still(text_llm.new_model(self.preset.llm, tokenizer))
        return self._around(llm, DialogueWriter(tokenizer), stage)

    def _listen_model(self, stage: str) -> tuple[ListenModel, DialogueWriter]:
        """The listening half as `stage` left it ("adapter": with fresh prompts where training began with nothing), around
        the LLM of stage `heard`.
        """
        model, writer = self._around(*self._llm(self.heard_llm_folder), stage)
        model.search = self._search(writer)
        if stage == "adapter" and self.warm is None:
            model.begin_prompts()
        return model, writer

    def _around(self, llm: Any, writer: DialogueWriter, stage: str) -> tuple[ListenModel, DialogueWriter]:
        ctc = CtcModel(self.preset.encoder, len(self._tokenizer()))
        dims = AdapterDims(
            self.preset.encoder.dim,
            self.preset.llm.hidden,
            self.preset.adapter_kernel,
            pieces=len(self._tokenizer()),
            cues=listen_stage.STATE_CLASSES,
        )
        torch.manual_seed(self.seed)
        model = ListenModel(ctc.encoder, ctc.heads, Adapter(dims), llm, writer.audio_start)
        if stage == "ctc":
            _restore(ctc, self.work / "ctc", self.preset)
            if self.warm is None:
                listen_stage.hear_like(model.adapter, model.heads.pieces, writer.blank)
            else:
                self.warm.listen(model)
        else:
            _restore(model, self.work / stage, self.preset)
        return model.to(self.device), writer

    def _decoder(self) -> tuple[SpeechDecoderDims, Lexicon]:
        """Sizes of the speech decoder, and its lexicon: that of the checkpoint begun with, or of the agent's voice."""
        path = self.work / "lexicon.json"
        if not path.exists():
            old = None if self.warm is None else self.warm.checkpoint.speech_decoder
            lexicon = old.lexicon if old is not None and old.dims.symbols else world_lexicon(self.preset.word_dialogues)
            lexicon.write(path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        lexicon = Lexicon.read(path)
        return replace(self.preset.decoder, symbols=lexicon.symbols), lexicon

    def _search(self, writer: DialogueWriter) -> WordSearch:
        if not self.ngrams.is_file():
            raise FileNotFoundError(f"{self.ngrams} is missing: run the stage 'words' first")
        return WordSearch.load(self.ngrams, search_entries(writer.blank), len(self._tokenizer()))

    def _codec(self) -> CodecTrainer:
        codec = CodecTrainer(self.preset.codec, self.preset.codes)
        _restore(codec, self.work / "codec", self.preset)
        return codec.eval()


_STEPS_OF = {  # folder of a stage: its entry of a preset
    "text_llm": "text_steps",
    "ctc": "ctc_steps",
    "adapter": "adapter_steps",
    "state": "state_steps",
    "codec": "codec_steps",
    "speech": "decoder_steps",
}


def _restore(module: nn.Module, folder: Path, preset: Preset) -> None:
    state_file = folder / "state.pt"
    if not state_file.exists():
        raise FileNotFoundError(f"{state_file} is missing: run the stage {folder.name!r} first")
    options: LoopOptions | None = getattr(preset, _STEPS_OF.get(folder.name, ""), None)
    if options is not None and (done := steps_done(folder)) < options.steps:
        print(f"{folder} is at step {done} of {options.steps}: going on with what there is", file=sys.stderr)
    module.load_state_dict(trained_weights(state_file))
