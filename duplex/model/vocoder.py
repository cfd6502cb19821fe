"""Codec tokens to audio while they are still being written.

The vocoder runs on windows of left context, new tokens and a few tokens of look-ahead (fixture quirk 12). Its
output either goes out as soon as it is final, or is cut where it is quietest, so that a pause in generation falls
into a pause of speech (the reference's segment search, quirk 13).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from duplex.model.codec import Codec
from duplex.model.settings import SpeechSettings


def find_lowest_energy_cut(pending: Tensor, arrived: Tensor, window: int, threshold: float) -> int | None:
    """Where to cut audio: the number of samples of [pending, arrived] to let out now, None to wait for more.

    `pending` [p] was held back before, `arrived` [n] is new; `window` is the N of server.json, in samples. The
    window of lowest mean amplitude is looked for in the second half of `arrived`; if its mean is below `threshold`,
    the cut falls on the smallest sample from its start on. Quirk 13: that search ends not at the window's end but
    as far behind it again as the window lies behind the half. When `arrived` is shorter than `window`, which the
    reference does not survive, everything pending is searched with it; None while that is too short as well.
    """
    if arrived.shape[0] < window:
        arrived, pending = torch.cat([pending, arrived]), pending[:0]
    if arrived.shape[0] < window:
        return None
    amplitude = arrived.abs()
    # Sums over windows by double-precision cumulation: a float32 running sum would drift.
    total = F.pad(amplitude.double().cumsum(0), (1, 0))
    means = (total[window:] - total[:-window]) / window
    half = means.shape[0] // 2
    offset = int(means[half:].argmin())
    if float(means[half + offset]) >= threshold:
        return None
    start = half + offset
    end = start + offset + window
    return pending.shape[0] + start + int(amplitude[start:end].argmin())


@dataclass(frozen=True)
class VocoderSettings:
    """How a segment is vocoded; sizes in codec tokens, `window` in samples.

    first_chunk: new tokens of the first call while nothing of the reply has been spoken (a small one starts early).
    chunk: new tokens of every other call, twice as many as in the call before at most: what follows a small first chunk
    comes before that has been played. overlap: tokens of context to the left and of look-ahead.
    threshold_first, threshold: mean amplitudes below which audio may be cut, before and after first audio.
    search: False lets every sample out as soon as it is final.
    trim_lead: cut the quiet beginning of the reply, up to the first sample as loud as `lead_amplitude`.
    """

    first_chunk: int = 20
    chunk: int = 40
    overlap: int = 10
    window: int = 2401
    threshold_first: float = 0.1
    threshold: float = 0.015
    search: bool = True
    trim_lead: bool = True
    lead_amplitude: float = 0.03


class StreamingVocoder:
    """The vocoder of one reply: push the codes of a segment, flush, go on with the next segment.

    spoken: whether audio of the reply has gone out, from when on the first-pack settings no longer apply (quirk 18).
    calls: tokens of every vocoder call made, for tests and traces. Not shared between threads.
    """

    def __init__(self, codec: Codec, settings: VocoderSettings) -> None:
        self.codec = codec
        self.settings = settings
        self.spoken = False
        self.calls: list[int] = []
        self.trimmed = 0  # samples cut from the beginning
        self._tokens: list[int] = []
        self._vocoded = 0  # tokens whose audio is final
        self._size = settings.first_chunk  # new tokens of the last call
        self._pending: Tensor | None = None

    @classmethod
    def from_settings(cls, codec: Codec, settings: SpeechSettings) -> StreamingVocoder:
        """As a checkpoint's server.json says; a decoder_N of 0 turns the segment search off."""
        return cls(
            codec,
            VocoderSettings(
                first_chunk=settings.decoder_first_chunk_size,
                chunk=settings.decoder_chunk_size,
                overlap=settings.decoder_chunk_overlap_size,
                window=settings.decoder_N,
                threshold_first=settings.decoder_seg_threshold_first_pack,
                threshold=settings.decoder_seg_threshold,
                search=settings.decoder_N > 0,
                lead_amplitude=settings.decoder_lead_amplitude,
            ),
        )

    def push(self, token: int) -> Tensor | None:
        """Take one codec token; returns audio [n] in [-1, 1] when some may go out. At most one vocoder call."""
        self._tokens.append(token)
        settings = self.settings
        chunk = min(settings.chunk, 2 * self._size) if self.spoken else settings.first_chunk
        if len(self._tokens) < self._vocoded + chunk + settings.overlap:
            return None
        self._size = chunk
        arrived = self._vocode(self._vocoded + chunk)
        return self._let_out(arrived)

    def flush(self) -> Tensor:
        """The segment's last audio [n], maybe empty; the next code opens a new segment."""
        arrived = self._vocode(len(self._tokens)) if len(self._tokens) > self._vocoded else None
        rest = self._join(arrived)
        self._pending, self._tokens, self._vocoded = None, [], 0
        return self._lead_trimmed(rest)

    def _vocode(self, until: int) -> Tensor:
        """Audio of the tokens from `_vocoded` to `until`, seen with their context on both sides."""
        overlap = self.settings.overlap
        left = max(0, self._vocoded - overlap)
        window = self._tokens[left : until + overlap]
        self.calls.append(len(window))
        device = self.codec.quantizer.codebook.embedding.weight.device
        audio = self.codec.decode(torch.tensor([window], device=device))[0]
        per_token = self.codec.samples_per_token
        new = audio[(self._vocoded - left) * per_token : (until - left) * per_token]
        self._vocoded = until
        return new.float().cpu().clamp(-1.0, 1.0)

    def _let_out(self, arrived: Tensor) -> Tensor | None:
        settings = self.settings
        audio = self._join(arrived)
        cut: int | None = audio.shape[0]
        if settings.search:
            threshold = settings.threshold if self.spoken else settings.threshold_first
            held = audio[: audio.shape[0] - arrived.shape[0]]
            cut = find_lowest_energy_cut(held, arrived, settings.window, threshold)
        if cut is None:
            self._pending = audio
            return None
        self._pending = audio[cut:]
        ready = self._lead_trimmed(audio[:cut])
        return ready if ready.shape[0] else None

    def _join(self, arrived: Tensor | None) -> Tensor:
        parts = [part for part in (self._pending, arrived) if part is not None]
        return torch.cat(parts) if parts else torch.zeros(0)

    def _lead_trimmed(self, ready: Tensor) -> Tensor:
        """Count `ready` as spoken; before that, cut its quiet beginning."""
        if not self.spoken and self.settings.trim_lead:
            loud = (ready.abs() >= self.settings.lead_amplitude).nonzero()
            start = int(loud[0]) if loud.shape[0] else ready.shape[0]
            self.trimmed += start
            ready = ready[start:]
        if ready.shape[0]:
            self.spoken = True
        return ready
