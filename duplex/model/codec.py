"""Single-codebook speech codec: 600 samples of 24 kHz audio per token (TiCodec, arXiv 2310.00014).

Two kinds of decoder behind one interface: the official one, a HiFi-GAN generator (arXiv 2010.05646) with a global
speaker embedding, and an inverse-STFT decoder (after Vocos, arXiv 2306.00814) that is an order of magnitude
cheaper. Both turn token embeddings [batch, dim, tokens] into audio [batch, tokens * samples_per_token].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

LEAKY_SLOPE = 0.1
GLOBAL_EMBEDDING_DIM = 128  # the generator adds it where a stage has as many channels (fixture quirk 14)


@dataclass(frozen=True)
class GeneratorDims:
    """Sizes of the official generator, named as in its model.json."""

    input_dim: int
    initial_channels: int
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    resblock: str
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[tuple[int, ...], ...]


class ResBlock(nn.Module):
    """Dilated residual convolutions; type "1" pairs each with an undilated one."""

    def __init__(self, kind: str, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.kind = kind

        def conv(dilation: int) -> nn.Module:
            padding = dilation * (kernel - 1) // 2
            normed: nn.Module = weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding))
            return normed

        if kind == "1":
            self.convs1 = nn.ModuleList(conv(d) for d in dilations)
            self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        else:
            self.convs = nn.ModuleList(conv(d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "1":
            for first, second in zip(self.convs1, self.convs2, strict=True):
                x = x + second(F.leaky_relu(first(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE))
        else:
            for only in self.convs:
                x = x + only(F.leaky_relu(x, LEAKY_SLOPE))
        return x


class HifiGanGenerator(nn.Module):
    """The official decoder."""

    def __init__(self, dims: GeneratorDims) -> None:
        super().__init__()
        self.dims = dims
        channels = dims.initial_channels
        self.conv_pre = weight_norm(nn.Conv1d(dims.input_dim, channels, 7, padding=3))
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(dims.rates, dims.kernels, strict=True):
            padding = (kernel - rate) // 2
            out_padding = (kernel - rate) % 2
            self.ups.append(
                weight_norm(
                    nn.ConvTranspose1d(
                        channels, channels // 2, kernel, rate, padding=padding + out_padding, output_padding=out_padding
                    )
                )
            )
            channels //= 2
            for size, dilations in zip(dims.resblock_kernels, dims.resblock_dilations, strict=True):
                self.resblocks.append(ResBlock(dims.resblock, channels, size, dilations))
        self.conv_post = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))

    @property
    def samples_per_token(self) -> int:
        """Product of the upsampling rates."""
        return math.prod(self.dims.rates)

    def forward(self, embeddings: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Embeddings [batch, dim, tokens], speaker [128] -> audio [batch, tokens * samples_per_token]."""
        x = self.conv_pre(embeddings)
        per_stage = len(self.dims.resblock_kernels)
        for stage, up in enumerate(self.ups):
            if speaker is not None and x.shape[1] == speaker.shape[-1]:
                x = x + speaker.view(1, -1, 1)
            x = up(F.leaky_relu(x, LEAKY_SLOPE))
            blocks = self.resblocks[stage * per_stage : (stage + 1) * per_stage]
            x = torch.stack([block(x) for block in blocks]).mean(dim=0)
        out: Tensor = torch.tanh(self.conv_post(F.leaky_relu(x, LEAKY_SLOPE)))[:, 0]
        return out


@dataclass(frozen=True)
class IstftDims:
    """Sizes of the inverse-STFT decoder."""

    input_dim: int = 256
    dim: int = 256
    token_blocks: int = 3  # ConvNeXt blocks at token rate
    frame_blocks: int = 4  # and at frame rate
    kernel: int = 5
    frames_per_token: int = 4
    n_fft: int = 600
    hop: int = 150


class ConvNextBlock(nn.Module):
    """Depthwise convolution, norm, pointwise expansion, residual with a learned scale (arXiv 2201.03545)."""

    def __init__(self, dim: int, kernel: int, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, dim * expansion)
        self.project = nn.Linear(dim * expansion, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, dim, frames] -> same."""
        hidden: Tensor = self.norm(self.depthwise(x).transpose(1, 2))
        hidden = self.project(F.gelu(self.expand(hidden)))
        return x + (hidden * self.scale).transpose(1, 2)


class IstftDecoder(nn.Module):
    """Predicts magnitude and phase of every short-time frame and overlap-adds the inverse transforms."""

    window: Tensor

    def __init__(self, dims: IstftDims) -> None:
        super().__init__()
        self.dims = dims
        self.conv_pre = nn.Conv1d(dims.input_dim, dims.dim, 3, padding=1)
        self.token_blocks = nn.ModuleList(ConvNextBlock(dims.dim, dims.kernel) for _ in range(dims.token_blocks))
        self.upsample = nn.Linear(dims.dim, dims.dim * dims.frames_per_token)
        self.frame_blocks = nn.ModuleList(ConvNextBlock(dims.dim, dims.kernel) for _ in range(dims.frame_blocks))
        self.norm_post = nn.LayerNorm(dims.dim, eps=1e-6)
        self.conv_post = nn.Linear(dims.dim, dims.n_fft + 2)
        self.register_buffer("window", torch.hann_window(dims.n_fft), persistent=False)

    @property
    def samples_per_token(self) -> int:
        """Hop times frames per token."""
        return self.dims.hop * self.dims.frames_per_token

    @property
    def context_tokens(self) -> int:
        """Tokens on each side that an output sample depends on."""
        dims = self.dims
        reach = dims.kernel // 2
        edge = math.ceil(dims.n_fft / 2 / dims.hop)
        return 1 + dims.token_blocks * reach + math.ceil((dims.frame_blocks * reach + edge) / dims.frames_per_token)

    def forward(self, embeddings: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Embeddings [batch, dim, tokens] -> audio [batch, tokens * samples_per_token]; `speaker` is not used."""
        dims = self.dims
        x = self.conv_pre(embeddings)
        for block in self.token_blocks:
            x = block(x)
        x = self.upsample(x.transpose(1, 2)).unflatten(2, (dims.frames_per_token, dims.dim)).flatten(1, 2)
        x = x.transpose(1, 2)
        for block in self.frame_blocks:
            x = block(x)
        spectrum = self.conv_post(self.norm_post(x.transpose(1, 2))).float()  # autocast leaves sixteen bits
        log_magnitude, phase = spectrum.chunk(2, dim=2)
        magnitude = torch.exp(log_magnitude.clamp(max=6.0))
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=dims.n_fft, dim=2) * self.window
        return self._overlap_add(frames)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """[batch, frames, n_fft] -> [batch, frames * hop], windows centred on their hop and normalised."""
        dims = self.dims
        count = frames.shape[1]
        length = (count - 1) * dims.hop + dims.n_fft

        def fold(x: Tensor) -> Tensor:
            return F.fold(x.transpose(1, 2), (1, length), (1, dims.n_fft), stride=(1, dims.hop))[:, 0, 0]

        # The constant the squared Hann window sums to in the middle of a stream stands at its ends too, so that a
        # chunk's samples do not depend on where the chunk was cut.
        weight = self.window.square().sum() / dims.hop
        margin = (dims.n_fft - dims.hop) // 2
        return fold(frames)[:, margin : margin + count * dims.hop] / weight


def make_generator(dims: GeneratorDims | IstftDims) -> HifiGanGenerator | IstftDecoder:
    """A decoder of the kind that `dims` describes, its weights random."""
    return IstftDecoder(dims) if isinstance(dims, IstftDims) else HifiGanGenerator(dims)


class VectorQuantizer(nn.Module):
    """One codebook [codes, dim]: nearest entry, straight-through gradient (arXiv 1711.00937)."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices [...] of the entries nearest to vectors [..., dim]."""
        table = self.embedding.weight
        distance = table.square().sum(1) - 2 * vectors @ table.t()
        return distance.argmin(dim=-1)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Quantized vectors with straight-through gradient, and their indices."""
        indices = self.nearest(vectors)
        quantized = self.embedding(indices)
        return vectors + (quantized - vectors).detach(), indices


class Quantizer(nn.Module):
    """The official quantizer: one group of codes, and global (speaker) codebooks."""

    def __init__(self, codes: int, dim: int, global_codebooks: int = 0) -> None:
        super().__init__()
        self.quantizer_modules = nn.ModuleList([VectorQuantizer(codes, dim)])
        self.quantizer_modules_globaltokens = nn.ModuleList(
            VectorQuantizer(codes, GLOBAL_EMBEDDING_DIM // global_codebooks) for _ in range(global_codebooks)
        )

    @property
    def codebook(self) -> VectorQuantizer:
        """The codes of the audio tokens."""
        return cast(VectorQuantizer, self.quantizer_modules[0])

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, n] -> [batch, dim, n]."""
        out: Tensor = self.codebook.embedding(tokens).transpose(1, 2)
        return out

    def speaker(self, tokens: list[int]) -> Tensor | None:
        """Speaker embedding [128], the concatenated rows of the global codebooks; None where there are none."""
        books = self.quantizer_modules_globaltokens
        if not len(books):
            return None
        rows = [cast(VectorQuantizer, book).embedding.weight[token] for book, token in zip(books, tokens, strict=True)]
        return torch.cat(rows)


class CodecEncoder(nn.Module):
    """Audio to vectors for the quantizer, used in training and for making codes: log-mel frames, then ConvNeXt."""

    def __init__(self, bins: int, dim: int, frames_per_token: int = 4, blocks: int = 3, kernel: int = 5) -> None:
        super().__init__()
        self.frames_per_token = frames_per_token
        self.conv_pre = nn.Conv1d(bins, dim, 5, padding=2)
        self.frame_blocks = nn.ModuleList(ConvNextBlock(dim, kernel) for _ in range(blocks))
        self.down = nn.Conv1d(dim, dim, frames_per_token, stride=frames_per_token)
        self.token_blocks = nn.ModuleList(ConvNextBlock(dim, kernel) for _ in range(blocks))
        self.project = nn.Conv1d(dim, dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [batch, bins, frames] -> [batch, frames / frames_per_token, dim]."""
        x = self.conv_pre(mel)
        for block in self.frame_blocks:
            x = block(x)
        x = self.down(x)
        for block in self.token_blocks:
            x = block(x)
        out: Tensor = self.project(x).transpose(1, 2)
        return out


class Codec(nn.Module):
    """Quantizer and decoder of one checkpoint, and its encoder where that is of a kind we can run.

    `speaker_tokens` are the fixed global tokens of the agent's voice.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        generator: HifiGanGenerator | IstftDecoder,
        *,
        sample_rate: int = 24000,
        speaker_tokens: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.generator = generator
        self.sample_rate = sample_rate
        self.speaker_tokens = speaker_tokens or []

    @property
    def samples_per_token(self) -> int:
        """Audio samples one token stands for."""
        return self.generator.samples_per_token

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return self.quantizer.codebook.embedding.num_embeddings

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, n] -> audio [batch, n * samples_per_token] in [-1, 1]."""
        out: Tensor = self.generator(self.quantizer.embed(tokens), self.quantizer.speaker(self.speaker_tokens))
        return out
