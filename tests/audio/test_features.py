"""Filterbank features against Kaldi (torchaudio) and, chunked, against themselves."""

import numpy as np
import torch
import torchaudio

from duplex.audio.features import CHUNK_SAMPLES, FbankStream, fbank, fbank_chunks, push_batch


def voiced(samples: int, seed: int = 3) -> np.ndarray:
    time = np.arange(samples) / 16_000
    noise = np.random.default_rng(seed).standard_normal(samples) * 0.02
    return (0.3 * np.sin(2 * np.pi * 150 * time) * np.sin(2 * np.pi * 3 * time) + noise).astype(np.float32)


def test_fbank_equals_kaldi() -> None:
    pcm = voiced(16_000)
    kaldi = torchaudio.compliance.kaldi.fbank(torch.tensor(pcm)[None] * 32768, num_mel_bins=80, dither=0.0)
    torch.testing.assert_close(fbank(pcm), kaldi, rtol=1e-3, atol=1e-3)


def test_chunked_equals_whole() -> None:
    pcm = voiced(6 * CHUNK_SAMPLES)
    stream = FbankStream()
    chunks = torch.stack([stream.push(pcm[i : i + CHUNK_SAMPLES]) for i in range(0, len(pcm), CHUNK_SAMPLES)])
    torch.testing.assert_close(chunks, fbank_chunks(pcm), rtol=0, atol=1e-5)
    torch.testing.assert_close(chunks[2, :3], chunks[1, -3:])
    assert torch.equal(chunks[0, :3], torch.zeros(3, 80))


def test_batched_streams_equal_single_ones() -> None:
    pcm = np.stack([voiced(CHUNK_SAMPLES, seed) for seed in range(3)])
    together = [FbankStream() for _ in range(3)]
    for _ in range(2):
        batch = push_batch(together, torch.tensor(pcm))
    for row in range(3):
        alone = FbankStream()
        alone.push(pcm[row])
        torch.testing.assert_close(alone.push(pcm[row]), batch[row])


def test_copy_and_reset() -> None:
    pcm = voiced(CHUNK_SAMPLES)
    stream = FbankStream()
    first = stream.push(pcm)
    twin = stream.copy()
    torch.testing.assert_close(stream.push(pcm), twin.push(pcm))
    stream.reset()
    torch.testing.assert_close(stream.push(pcm), first)


def test_a_recording_shorter_than_a_window_has_no_frames() -> None:
    assert fbank(np.zeros(399, np.float32)).shape == (0, 80)
