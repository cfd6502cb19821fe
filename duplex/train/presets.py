"""Named recipes: sizes, amounts of data and steps of every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from duplex.core.errors import ConfigError
from duplex.model.codec import GeneratorDims, IstftDims
from duplex.model.encoder import DISTANCE_POSITIONS, EncoderDims
from duplex.model.speech_decoder import SpeechDecoderDims
from duplex.train.codec_stage import OPEN_STEPS
from duplex.train.corpus import CLIPS_PER_SHARD
from duplex.train.ctc_stage import BATCH_SEC
from duplex.train.loop import LoopOptions
from duplex.train.text_llm import TextLlmDims
from duplex.train.voices import TRAIN_VOICES, Voice, voices_of

LARGEST_MATRIX_RATE = 0.02  # that any batches are learned from at
_WARMUP_MOST = 10  # a shortened training warms up for at most one in so many of its steps


@dataclass(frozen=True)
class Preset:
    """Everything that tells one training from another but the seed. Hours are hours of synthesized speech."""

    asr_hours: float
    first_hours: float  # of asr_hours, before ears begin to learn; they hear the others as these are made
    agent_hours: float
    split_turn_hours: float
    event_hours: float  # of backchannels; twice as much of noises
    test_hours: float
    llm: TextLlmDims
    encoder: EncoderDims
    codes: int
    codec: GeneratorDims | IstftDims
    decoder: SpeechDecoderDims
    text_steps: LoopOptions
    ctc_steps: LoopOptions
    character_steps: int  # of ctc_steps
    adapter_steps: LoopOptions
    heard_steps: LoopOptions
    state_steps: LoopOptions
    head_turns: int  # timed turns that state head and cues are fitted to at last,
    calibration_turns: int  # and in voices kept from training, the probability of an interruption
    codec_steps: LoopOptions
    codes_fixed_after: int  # of codec_steps
    decoder_steps: LoopOptions
    ctc_batch_sec: float = BATCH_SEC
    adapter_batch: int = 16
    state_batch: int = 16
    batch_scale: int = 1  # times these, and what other stages learn from in a step
    shard_clips: int = CLIPS_PER_SHARD
    adapter_kernel: int = 5
    word_dialogues: int = 40_000  # of the world that tokenizer and lexicon take its words from
    said_dialogues: int = 300_000  # of the world whose words the n-gram model counts
    eight_bit: bool = True  # how the checkpoint's matrices are stored
    speech: dict[str, float] = field(default_factory=dict)  # entries of server.json
    voices: tuple[Voice, ...] = TRAIN_VOICES  # of the users


TINY = Preset(
    asr_hours=60,  # much less is learned by heart
    first_hours=3,
    agent_hours=18.8,
    split_turn_hours=4.5,
    event_hours=1.2,
    test_hours=0.6,
    llm=TextLlmDims(),
    encoder=EncoderDims(
        dim=192, heads=4, feed_forward=768, blocks=7, position_kind=DISTANCE_POSITIONS, subsampling_channels=64
    ),
    adapter_batch=24,
    adapter_kernel=9,  # wide enough to know that a piece was written already
    codes=1024,
    codec=IstftDims(input_dim=128, dim=192, token_blocks=3, frame_blocks=3),
    decoder=SpeechDecoderDims(dim=256, heads=4, feed_forward=640, blocks=4, codes=1024),
    text_steps=LoopOptions(steps=5000, learning_rate=2e-3, matrix_rate=0.02, averaging=0.998),
    ctc_steps=LoopOptions(steps=12000, learning_rate=1.5e-3, warmup=100, matrix_rate=0.02),
    character_steps=2400,
    adapter_steps=LoopOptions(steps=24000, learning_rate=1.2e-3, warmup=100, matrix_rate=0.012, averaging=0.9985),
    heard_steps=LoopOptions(steps=10000, learning_rate=1.3e-3, warmup=100, matrix_rate=0.013, averaging=0.998),
    state_steps=LoopOptions(
        steps=2500,
        learning_rate=2e-3,
        warmup=30,
        slow_parts=("adapter.rest", "prompt_embeddings"),
        slow_share=0.02,
        averaging=0.99,
    ),
    head_turns=30_000,
    calibration_turns=1_600,
    codec_steps=LoopOptions(steps=7000, learning_rate=2e-3, warmup=150, matrix_rate=0.02),
    codes_fixed_after=1800,
    decoder_steps=LoopOptions(steps=3200, learning_rate=1.5e-3, warmup=100, matrix_rate=0.014, averaging=0.998),
    speech={
        "decoder_first_chunk_size": 8,
        "decoder_chunk_size": 20,
        "decoder_chunk_overlap_size": 10,
        "decoder_top_k": 1,
        "decoder_penalty_window_size": -1,
        "decoder_penalty": 1.1,
        "decoder_N": 0,
        "decoder_seg_threshold_first_pack": 0.1,
        "decoder_seg_threshold": 0.015,
        "decoder_lead_amplitude": 0.004,  # what a soft "f" or "th" begins with
    },
)

# The same sizes in about ten minutes on a GPU, most of whose steps take as long as starting their kernels does: batches
# are larger by far, and steps fewer. Synthesis on a dozen cores is the other limit; of the natural voices, the slowest
# engine's are asked for less often.
TINY_ON_GPU = replace(
    TINY,
    asr_hours=36,
    first_hours=2,
    agent_hours=8,
    split_turn_hours=2,
    event_hours=0.6,
    voices=(*TRAIN_VOICES, *voices_of("flite", "pico")),
    batch_scale=8,
    ctc_batch_sec=2 * BATCH_SEC,
    adapter_batch=48,
    shard_clips=100,
    text_steps=LoopOptions(steps=3600, learning_rate=2e-3, matrix_rate=0.02, averaging=0.995),
    ctc_steps=LoopOptions(steps=700, learning_rate=1.5e-3, warmup=50, matrix_rate=0.02),
    character_steps=200,
    adapter_steps=LoopOptions(steps=2200, learning_rate=2e-3, warmup=50, matrix_rate=0.02, averaging=0.985),
    heard_steps=LoopOptions(steps=1250, learning_rate=2e-3, warmup=30, matrix_rate=0.02, averaging=0.98),
    state_steps=replace(TINY.state_steps, steps=330, averaging=0.97),
    head_turns=9_000,
    calibration_turns=1_000,
    said_dialogues=100_000,
    codec_steps=replace(TINY.codec_steps, steps=3500),
    codes_fixed_after=1200,
    decoder_steps=LoopOptions(steps=1400, learning_rate=2e-3, warmup=50, matrix_rate=0.02, averaging=0.99),
)

SMOKE = Preset(
    asr_hours=0.02,
    first_hours=0.01,
    agent_hours=0.02,
    split_turn_hours=0.02,
    event_hours=0.01,
    test_hours=0.01,
    llm=TextLlmDims(vocabulary=320, hidden=64, layers=2, feed_forward=96),
    encoder=EncoderDims(dim=32, heads=2, feed_forward=64, blocks=2, position_kind=DISTANCE_POSITIONS),
    codes=64,
    codec=IstftDims(input_dim=32, dim=32, token_blocks=1, frame_blocks=1),
    decoder=SpeechDecoderDims(dim=32, heads=2, feed_forward=64, blocks=2, codes=64),
    text_steps=LoopOptions(steps=4, learning_rate=1e-3),
    ctc_steps=LoopOptions(steps=4, learning_rate=1e-3, matrix_rate=0.02),
    character_steps=2,
    adapter_steps=LoopOptions(steps=2, learning_rate=1e-3),
    heard_steps=LoopOptions(steps=2, learning_rate=1e-3),
    state_steps=LoopOptions(steps=2, learning_rate=1e-3),
    head_turns=12,
    calibration_turns=12,
    codec_steps=LoopOptions(steps=4, learning_rate=1e-3),
    codes_fixed_after=3,
    decoder_steps=LoopOptions(steps=4, learning_rate=1e-3),
    adapter_batch=4,
    word_dialogues=400,
    said_dialogues=400,
    shard_clips=24,
    speech=TINY.speech,
    voices=voices_of("flite", "espeak"),
)


# What does not come in from nothing in less, however short the rest of a training is.
_LEAST_STEPS = {
    "ctc_steps": 1500,
    "character_steps": 500,
    "state_steps": 500,
    "codec_steps": 10 * OPEN_STEPS,
    "codes_fixed_after": 3 * OPEN_STEPS,
    "decoder_steps": 1200,
}
_LEAST_HEAD_TURNS = 6000
_LEAST_DIALOGUES = 40_000
_LEAST_HOURS = {"agent_hours": 4.0, "split_turn_hours": 0.5, "event_hours": 0.3}  # less is known by heart


def shortened(preset: Preset, share: float) -> Preset:
    """The same sizes and rates with a share of the hours, steps, timed turns and counted dialogues; what is evaluated on
    stays as much.

    Some stages keep as many steps as they need to come in. Raises ConfigError unless 0 < share <= 1.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"a share of a training's length is above 0 and at most 1, not {share}")
    if share == 1.0:
        return preset
    changes: dict[str, Any] = {"asr_hours": preset.asr_hours * share}
    for name, hours in _LEAST_HOURS.items():
        asked = getattr(preset, name)
        changes[name] = max(asked * share, min(hours, asked))
    changes["said_dialogues"] = max(round(preset.said_dialogues * share), min(_LEAST_DIALOGUES, preset.said_dialogues))
    changes["head_turns"] = max(round(preset.head_turns * share), min(_LEAST_HEAD_TURNS, preset.head_turns))
    return replace(_with_steps(preset, share, _LEAST_STEPS), **changes)


def with_larger_batches(preset: Preset, scale: int) -> Preset:
    """Batches that are `scale` times as large and as many times fewer steps, for a GPU that is idle else.

    Rates grow with the root of `scale` (their gradients are so much surer), up to LARGEST_MATRIX_RATE. The codec, whose
    codebook counts what a batch uses of it, keeps its own. Raises ConfigError unless 1 <= scale.
    """
    if scale < 1:
        raise ConfigError(f"batches are at least as large as the preset's, not {scale} times")
    larger = _with_steps(preset, 1 / scale, {})
    changes: dict[str, Any] = {
        name: _faster(options, math.sqrt(scale))
        for name in (entry.name for entry in fields(larger))
        if isinstance(options := getattr(larger, name), LoopOptions)
    }
    changes |= {"codec_steps": preset.codec_steps, "codes_fixed_after": preset.codes_fixed_after}
    return replace(larger, **changes, batch_scale=preset.batch_scale * scale)


def _faster(options: LoopOptions, factor: float) -> LoopOptions:
    """The same at larger rates, as far as matrices bear them."""
    if not options.matrix_rate:
        return options
    factor = max(1.0, min(factor, LARGEST_MATRIX_RATE / options.matrix_rate))
    return replace(options, learning_rate=options.learning_rate * factor, matrix_rate=options.matrix_rate * factor)


def _with_steps(preset: Preset, share: float, least: Mapping[str, int]) -> Preset:
    """A share of all steps, but of some at least so many; means of weights are over the same share of them."""

    def fewer(name: str, steps: int) -> int:
        return max(round(steps * share), min(least.get(name, 1), steps))

    changes: dict[str, Any] = {}
    for name in (entry.name for entry in fields(preset)):
        options = getattr(preset, name)
        if isinstance(options, LoopOptions):
            steps = fewer(name, options.steps)
            mean_over = max(0.0, 1.0 - (1.0 - options.averaging) * options.steps / steps) if options.averaging else 0.0
            warmup = min(options.warmup, max(1, steps // _WARMUP_MOST))
            changes[name] = replace(options, steps=steps, warmup=warmup, averaging=mean_over)
    for name in ("character_steps", "codes_fixed_after"):
        changes[name] = fewer(name, getattr(preset, name))
    return replace(preset, **changes)


PRESETS = {"tiny": TINY, "smoke": SMOKE}
_ON_GPU = {"tiny": TINY_ON_GPU}


def preset_for(name: str, device: str) -> Preset:
    """The preset of that name as it is trained on such a device. Raises KeyError."""
    return PRESETS[name] if device == "cpu" else _ON_GPU.get(name, PRESETS[name])
