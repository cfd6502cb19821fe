"""Train the codec: encoder, one codebook, and a decoder of either kind, on the agent's voice.

Losses: log-mel L1, multi-resolution STFT (arXiv 1910.11480), commitment. The codebook follows its vectors by
exponential moving averages, and entries nobody uses are moved onto current vectors (arXiv 2005.00341). What a code
means settles early; from then on encoder and codebook may stand still (`fixed_after`) while the decoder learns on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from duplex.model.codec import CodecEncoder, GeneratorDims, IstftDims, Quantizer, make_generator
from duplex.train.loop import LoopOptions, fresh, steps_done, train

SAMPLE_RATE = 24000
CLIP_RATE = 16000  # of the agent's corpus
MEL_BINS = 80
FRAMES_PER_TOKEN = 4  # that the encoder sees for a decoder which names no number
COMMITMENT = 0.25
EMA_DECAY = 0.97
DEAD_BELOW = 0.08  # an entry whose averaged use a batch falls below this is moved onto a current vector,
MOVED_USE = 0.3  # and counts as used this much
OPEN_STEPS = 150  # steps before the codebook comes in; it starts from k-means over vectors of the last of them
GATHERED = 6000  # vectors for that k-means
LOSS_MELS = ((512, 128, 40), (1024, 256, 80))  # FFT size, hop, bins: few enough that no filter is empty
STFT_SIZES = ((512, 128), (1024, 256), (2048, 512), (240, 60))


class MelFrames(nn.Module):
    """Log-mel frames of 24 kHz audio, one per hop: [batch, samples] -> [batch, bins, samples / hop]."""

    def __init__(self, hop: int, n_fft: int = 1024, bins: int = MEL_BINS) -> None:
        super().__init__()
        self.hop = hop
        self.n_fft = n_fft
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, n_fft, hop_length=hop, n_mels=bins, power=1.0, center=False, f_max=8500.0
        )

    def forward(self, audio: Tensor) -> Tensor:
        margin = self.n_fft - self.hop
        padded = F.pad(audio, (margin // 2, margin - margin // 2))
        out: Tensor = torch.log(self.mel(padded).clamp(min=1e-4))
        return out


class CodecTrainer(nn.Module):
    """Encoder, quantizer and decoder with the loss that trains them.

    fixed_after: steps from which on the codes of a clip no longer change; None: they always may.
    """

    usage: Tensor
    sums: Tensor
    step: Tensor

    def __init__(
        self,
        dims: GeneratorDims | IstftDims,
        codes: int,
        encoder_blocks: int = 3,
        *,
        fixed_after: int | None = None,
    ) -> None:
        super().__init__()
        self._fixed_after = fixed_after
        frames = dims.frames_per_token if isinstance(dims, IstftDims) else FRAMES_PER_TOKEN
        self.encoder = CodecEncoder(MEL_BINS, dims.input_dim, frames, encoder_blocks)
        self.quantizer = Quantizer(codes, dims.input_dim)
        self.generator = make_generator(dims)
        self.mel = MelFrames(self.generator.samples_per_token // frames)
        self.loss_mels = nn.ModuleList(MelFrames(hop, size, bins) for size, hop, bins in LOSS_MELS)
        table = self.quantizer.codebook.embedding.weight
        table.requires_grad_(False)
        nn.init.normal_(table, std=0.5)
        self.register_buffer("usage", torch.ones(codes))
        self.register_buffer("sums", table.detach().clone())
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._gathered: list[Tensor] = []

    def encode(self, audio: Tensor) -> Tensor:
        """Vectors [batch, tokens, dim] of audio [batch, samples] at 24 kHz."""
        out: Tensor = self.encoder(self.mel(audio))
        return out

    def codes(self, audio: Tensor) -> Tensor:
        """Token indices [batch, tokens]."""
        return self.quantizer.codebook.nearest(self.encode(audio).float())

    @torch.no_grad()
    def _follow(self, vectors: Tensor, indices: Tensor) -> None:
        table = self.quantizer.codebook.embedding.weight
        one_hot = F.one_hot(indices, table.shape[0]).to(vectors.dtype)
        self.usage.mul_(EMA_DECAY).add_(one_hot.sum(0), alpha=1 - EMA_DECAY)
        self.sums.mul_(EMA_DECAY).add_(one_hot.t() @ vectors, alpha=1 - EMA_DECAY)
        dead = self.usage < DEAD_BELOW
        count = int(dead.sum())
        if count:
            picked = vectors[torch.randint(len(vectors), (count,), device=vectors.device)]
            self.sums[dead] = MOVED_USE * picked
            self.usage[dead] = MOVED_USE
        table.copy_(self.sums / self.usage[:, None])

    @torch.no_grad()
    def _gather(self, vectors: Tensor) -> None:
        """Before the codebook comes in: keep recent vectors, and on the last step run k-means over them."""
        keep = GATHERED // len(vectors) + 1
        self._gathered = [*self._gathered[1 - keep :], vectors]
        gathered = sum(map(len, self._gathered))
        if int(self.step) + 1 < OPEN_STEPS or gathered < min(GATHERED, OPEN_STEPS * len(vectors)):
            return  # the last step comes again and again to a training that was taken up shortly before it
        points = torch.cat(self._gathered)
        table = self.quantizer.codebook.embedding.weight
        table.copy_(points[torch.randperm(len(points), device=points.device)[: len(table)]])
        for _ in range(12):
            nearest = self.quantizer.codebook.nearest(points)
            count = torch.bincount(nearest, minlength=len(table)).to(points.dtype)
            sums = torch.zeros_like(table).index_add_(0, nearest, points)
            table.copy_(torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], table))
        self.usage.fill_(1.0)
        self.sums.copy_(table)
        self._gathered = []

    def forward(self, audio: Tensor) -> dict[str, Tensor]:
        """Losses for audio [batch, samples] at 24 kHz."""
        fixed = self._fixed_after is not None and int(self.step) >= self._fixed_after
        with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
            vectors = self.encode(audio)
        with torch.autocast(audio.device.type, enabled=False):
            flat = vectors.float().flatten(0, 1)
            quantized, indices = self.quantizer.codebook(flat)
            commitment = F.mse_loss(flat, self.quantizer.codebook.embedding(indices))
            if self.training and self.step < OPEN_STEPS:
                self._gather(flat.detach())
                quantized, commitment = flat, 0.01 * flat.square().mean()
            elif self.training and not fixed:
                self._follow(flat.detach(), indices)
            still_gathering = bool(self._gathered) and int(self.step) + 1 == OPEN_STEPS
            self.step += int(self.training and not still_gathering)
        made = self.generator(quantized.view_as(vectors).transpose(1, 2))
        with torch.autocast(audio.device.type, enabled=False):
            made = made.float()
            mel = torch.stack([F.l1_loss(m(made), m(audio)) for m in (self.mel, *self.loss_mels)]).mean()
            stft = torch.stack([stft_loss(made, audio, *size) for size in STFT_SIZES]).mean()
        loss = mel * 2.0 + stft + COMMITMENT * commitment
        used = (indices.bincount(minlength=len(self.usage)) > 0).float().sum()
        return {"loss": loss, "mel": mel, "stft": stft, "commitment": commitment, "codes_used": used}


def stft_loss(made: Tensor, real: Tensor, size: int, hop: int) -> Tensor:
    """Spectral convergence plus log-magnitude L1 at one resolution."""
    window = torch.hann_window(size, device=real.device)

    def magnitude(x: Tensor) -> Tensor:
        spectrum = torch.stft(x, size, hop, window=window, return_complex=True)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return torch.sqrt(power + 1e-7)

    a, b = magnitude(made), magnitude(real)
    convergence: Tensor = torch.linalg.norm(b - a) / torch.linalg.norm(b)
    return convergence + F.l1_loss(a.clamp(min=1e-3).log(), b.clamp(min=1e-3).log())


def to_codec_rate(pcm: Tensor) -> Tensor:
    """int16 [..., samples] at 16 kHz -> float32 at 24 kHz in [-1, 1)."""
    out: Tensor = torchaudio.functional.resample(pcm.float() / 32768.0, CLIP_RATE, SAMPLE_RATE)
    return out


def segments(clips: Sequence[np.ndarray], batch: int, tokens: int, hop: int, seed: int) -> Iterator[Tensor]:
    """Endless batches [batch, tokens * hop] of random excerpts at 24 kHz; `hop` = samples a token."""
    rng = random.Random(seed)
    length_16k = tokens * hop * 2 // 3
    while True:
        rows = []
        for _ in range(batch):
            clip = rng.choice(clips)
            start = rng.randint(0, max(0, len(clip) - length_16k))
            piece = clip[start : start + length_16k]
            rows.append(np.pad(piece, (0, length_16k - len(piece))))
        yield to_codec_rate(torch.from_numpy(np.stack(rows)))


def run(
    clips: Sequence[np.ndarray],
    folder: Path,
    dims: GeneratorDims | IstftDims,
    codes: int,
    options: LoopOptions,
    seed: int,
    *,
    device: str = "cpu",
    fixed_after: int | None = None,
    start_from: Callable[[CodecTrainer], None] = fresh,
) -> CodecTrainer:
    """Train on int16 16 kHz clips of the agent's voice; returns the trained modules."""
    torch.manual_seed(seed)
    trainer = CodecTrainer(dims, codes, fixed_after=fixed_after)
    start_from(trainer)
    trainer.to(device)
    hop = trainer.generator.samples_per_token
    batches = segments(clips, 16, 36, hop, seed + steps_done(folder))

    def loss_of(audio: object) -> dict[str, Tensor]:
        assert isinstance(audio, Tensor)
        out: dict[str, Tensor] = trainer(audio.to(device))
        return out

    train("codec", trainer, batches, loss_of, folder, options, device=device)
    return trainer
