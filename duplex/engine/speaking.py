"""Speaking a reply: segments of text into codec tokens into audio."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from duplex.core.types import SamplingParams
from duplex.engine.states import TorchSpeechState
from duplex.engine.steps import SpeakResult, SpeakStep
from duplex.model.checkpoint import DuplexModel
from duplex.model.sampling import CodeSampler
from duplex.model.segmenter import Segment, post_process
from duplex.model.vocoder import StreamingVocoder

INITIAL_SECONDS_PER_LETTER = 0.07  # a first guess of the speaking rate, corrected at the end of every segment
LIMIT_SECONDS_PER_TOKEN = 0.6  # a segment that runs longer than this per text token has lost its end
LIMIT_SECONDS_BASE = 2.0


class SpeechSynthesizer:
    """The speech decoder and codec of one checkpoint, driven one vocoder call at a time."""

    def __init__(self, model: DuplexModel, *, max_codec_tokens: int | None = None) -> None:
        self._model = model
        self._decoder = model.speech_decoder
        self._codec = model.codec
        self._max_codec_tokens = max_codec_tokens
        self._rate = model.codec.sample_rate / model.codec.samples_per_token

    def new_state(self, sampling: SamplingParams) -> TorchSpeechState:
        """State for one reply; the code sampler's seed follows the text's."""
        settings, dims = self._model.settings, self._decoder.dims
        sampler = CodeSampler(
            top_k=settings.decoder_top_k,
            penalty=settings.decoder_penalty,
            penalty_window=settings.decoder_penalty_window_size,
            seed=sampling.seed,
            barred=(dims.bos, dims.sos, dims.codes + 3),
        )
        return TorchSpeechState(
            sampler=sampler,
            vocoder=StreamingVocoder.from_settings(self._codec, settings),
            seconds_per_token=INITIAL_SECONDS_PER_LETTER,
        )

    @torch.inference_mode()
    def speak(self, step: SpeakStep) -> SpeakResult:
        """Up to one vocoder call further. Raises ValueError when there is no segment to speak."""
        state = cast(TorchSpeechState, step.state)
        spans: tuple[tuple[int, int], ...] = ()
        if step.segment is not None:
            if not self._begin(state, step.segment):
                return SpeakResult(np.zeros(0, np.float32), segment_done=True)
            guess = float(state.weights.sum()) * state.seconds_per_token * self._codec.sample_rate
            spans = self._spans(state, guess)
        if state.cache is None:
            raise ValueError("no segment is being spoken")
        eos = self._decoder.dims.eos
        while True:
            logits = self._decoder.step(state.next_input, state.cache)
            code = state.sampler.sample(logits, state.codes) if len(state.codes) < state.limit else eos
            if code == eos:
                pcm = state.vocoder.flush()
                state.samples += len(pcm)
                length = state.samples - state.segment_start
                letters = float(state.weights.sum())
                if letters and length:
                    state.seconds_per_token = length / self._codec.sample_rate / letters
                state.cache = None
                return SpeakResult(_array(pcm), True, self._spans(state, float(length)), len(state.codes))
            state.codes.append(code)
            state.next_input = code
            calls = len(state.vocoder.calls)
            ready = state.vocoder.push(code)
            if ready is not None:
                state.samples += len(ready)
                return SpeakResult(_array(ready), False, spans, len(state.codes))
            if len(state.vocoder.calls) > calls:  # all of it is kept back; others may be waiting
                return SpeakResult(np.zeros(0, np.float32), False, spans, len(state.codes))

    def _begin(self, state: TorchSpeechState, segment: Segment) -> bool:
        """Open a segment; False where nothing is left of its text after post-processing."""
        llm = self._model.llm
        spoken = post_process(segment.text)
        ids = self._decoder.lexicon.symbols_of(spoken) if self._decoder.dims.symbols else llm.encode(spoken)
        if not ids:
            return False
        device = self._decoder.embedding.weight.device
        text, places = self._decoder.read(torch.tensor(ids, device=device), llm.embedding)
        prefix = self._decoder.split(segment.hidden.to(text.dtype))[None] if self._decoder.dims.prefix else None
        state.cache, _ = self._decoder.begin(text[None], prefix, places)
        state.next_input = self._decoder.dims.sos
        state.codes = []
        seconds = LIMIT_SECONDS_BASE + LIMIT_SECONDS_PER_TOKEN * len(llm.encode(spoken))
        state.limit = self._max_codec_tokens or int(seconds * self._rate)
        state.segment_start = state.samples
        state.first_token = segment.first_token
        state.weights = torch.tensor(segment.token_lengths, dtype=torch.float32)
        return True

    def _spans(self, state: TorchSpeechState, length: float) -> tuple[tuple[int, int], ...]:
        """Where each text token begins, the segment's length shared out by letters."""
        total = float(state.weights.sum()) or 1.0
        starts = (torch.cumsum(state.weights, 0) - state.weights) / total * length
        return tuple(
            (state.first_token + index, state.segment_start + int(start)) for index, start in enumerate(starts.tolist())
        )


def _array(pcm: torch.Tensor) -> np.ndarray:
    return pcm.detach().float().cpu().numpy()
