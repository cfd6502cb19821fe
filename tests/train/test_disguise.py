"""Batches of speech in disguise: what is not disguised stays, and every part of it does what augment.py does to one."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from duplex.audio.features import CHUNK_SAMPLES, MEL_BINS, OVERLAP_FRAMES
from duplex.train import augment, disguise
from duplex.train.ctc_stage import pad_features, stream_features
from duplex.train.disguise import Clips, disguised, placed, with_masks

FILL = torch.full((MEL_BINS,), 7.0)


def said(seed: int = 0, count: int = 6) -> list[np.ndarray]:
    """Tones with a silence inside, 1 to 3 s each."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        samples = int(rng.integers(16_000, 48_000))
        wave = np.sin(np.arange(samples) * rng.uniform(0.02, 0.6)) * rng.uniform(0.1, 0.5)
        wave[samples // 3 : samples // 2] = 0.0
        rows.append((wave * 32767).astype(np.int16))
    return rows


def own_voices(count: int, **other: np.ndarray) -> disguise.Voices:
    """No other voices, but for what is given."""
    own = {
        "warp": np.full(count, -1),
        "colour": np.zeros((count, disguise.COLOUR_ORDERS)),
        "contrast": np.zeros((count, 2)),
    }
    return disguise.Voices(**own | other)


def plain(clips: Clips) -> Clips:
    """The same clips in no disguise at all."""
    how, count = clips.disguise, len(clips.lengths)
    undisguised = replace(
        how,
        speed=np.ones(count),
        rt60_sec=np.zeros(count),
        snr_db=np.full(count, np.inf),
        telephone=np.zeros(count, bool),
        gain_db=np.full(count, np.nan),
        places=np.tile(np.arange(how.places.shape[1], dtype=np.float32), (count, 1)),
        voices=own_voices(count),
    )
    return replace(clips, disguise=undisguised)


@pytest.fixture
def clips() -> Clips:
    return plain(placed(said(), [0.0] * 6, random.Random(1)))


def recorded(clips: Clips, **how: object) -> np.ndarray:
    """The samples of the clips with this alone done to them."""
    torch.manual_seed(3)
    changed = replace(clips, disguise=replace(clips.disguise, **how))  # type: ignore[arg-type]
    return disguise._recorded(changed).numpy()


def rows(clips: Clips) -> list[np.ndarray]:
    return [row[:length].numpy() / np.float32(32768.0) for row, length in zip(clips.pcm, clips.lengths, strict=True)]


def test_undisguised_clips_have_the_features_of_their_stream(clips: Clips) -> None:
    expected, frames = pad_features([stream_features(row) for row in rows(clips)])
    assert torch.equal(disguised(clips, FILL), expected)
    assert clips.encoder_frames == frames.tolist()


def test_any_disguise_leaves_quiet_frames_before_and_behind(clips: Clips) -> None:
    torch.manual_seed(1)
    drawn = placed(said(4), [1.1] * 6, random.Random(2))
    features = disguised(drawn, FILL)
    assert torch.isfinite(features).all()
    assert features[:, :OVERLAP_FRAMES].abs().sum() == 0
    for row, length in zip(features, drawn.lengths, strict=True):
        frames = OVERLAP_FRAMES + 16 * -(-int(length) // CHUNK_SAMPLES)
        assert row[frames:].abs().sum() == 0
        assert (row[OVERLAP_FRAMES:frames].abs().sum(1) > 0).all()


def test_each_row_is_disguised_in_a_way_of_its_own() -> None:
    torch.manual_seed(1)
    one = said(count=1)[0]
    features = disguised(placed([one] * 8, [1.0] * 8, random.Random(3)), FILL)
    assert len({tuple(row[20:22].flatten().tolist()) for row in features}) == 8


def test_a_telephone_is_that_of_single_recordings(clips: Clips) -> None:
    width = int(clips.lengths.max())
    heard = recorded(clips, telephone=np.ones(6, bool))
    for row, whole in zip(heard, rows(clips), strict=True):
        expected = augment.telephone(np.pad(whole, (0, heard.shape[1] - len(whole))))[: len(whole)]
        assert np.abs(row[: len(whole)] - np.clip(expected, -1, 1)).max() < 2e-3
    assert heard.shape[1] >= width


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_noise_is_as_far_below_the_speech_as_asked(clips: Clips, exponent: float) -> None:
    heard = recorded(clips, snr_db=np.full(6, 30.0), exponent=np.full(6, exponent))
    for row, whole in zip(heard, rows(clips), strict=True):
        noise = row[: len(whole)] - whole
        assert 20 * np.log10(augment.speech_level(whole) / augment.rms(noise)) == pytest.approx(30.0, abs=0.1)
        assert not row[len(whole) :].any()
    power = np.abs(np.fft.rfft(heard[0, : clips.lengths[0]] - rows(clips)[0])) ** 2
    bins = len(power)
    slope = np.log(power[bins // 2 :].mean() / power[bins // 20 : bins // 10].mean()) / np.log(10)
    assert exponent < 0 or slope == pytest.approx(-exponent, abs=0.3)


def test_a_room_keeps_level_and_beginning(clips: Clips) -> None:
    heard = recorded(clips, rt60_sec=np.full(6, 0.3), wet=np.full(6, 0.4))
    for row, whole in zip(heard, rows(clips), strict=True):
        assert augment.rms(row[: len(whole)]) == pytest.approx(augment.rms(whole), rel=0.02)
        first = int(np.flatnonzero(whole)[0])
        assert np.abs(row[:first]).max() < 1e-5
        gap = np.flatnonzero(whole)[0] + np.flatnonzero(np.diff(np.flatnonzero(whole)) > 1000)[0]
        assert augment.rms(row[gap + 400 : gap + 2000]) > 1e-4, "nothing rings on"


def test_speed_is_that_of_single_recordings(clips: Clips) -> None:
    lengths = np.round(clips.lengths / 1.1).astype(np.int64)
    heard = recorded(replace(clips, lengths=lengths), speed=np.full(6, 1.1))
    for row, whole, length in zip(heard, rows(clips), lengths, strict=True):
        assert np.abs(row[:length] - augment.change_speed(whole, 1.1)[:length]).max() < 0.01


def test_gain_is_below_a_peak_of_one(clips: Clips) -> None:
    heard = recorded(clips, gain_db=np.full(6, -12.0))
    assert np.abs(heard).max(axis=1) == pytest.approx(10 ** (-12.0 / 20), rel=1e-3)


def test_pace_moves_sounds_and_keeps_the_ends() -> None:
    places = disguise._paces(np.array([64, 160]), np.random.default_rng(5))
    assert (np.diff(places[0, :64]) > 0).all()
    assert (np.diff(places[1]) > 0).all()
    assert places[:, 0].tolist() == [0.0, 0.0]
    assert places[0, 63] == pytest.approx(63.0)
    assert places[1, 159] == pytest.approx(159.0)
    assert np.abs(places[1] - np.arange(160)).max() > 1.0


def test_another_vocal_tract_moves_a_peak_and_leaves_quiet_frames() -> None:
    highest = (2 * disguise.WARP_STEPS + 1) ** 2 - 1
    features = torch.full((2, 20, MEL_BINS), 1.0)
    features[:, 3:, 40] = 9.0
    features[:, :3] = 0.0
    moved = disguise.vary_voices(features, own_voices(2, warp=np.array([0, highest])))
    assert moved[:, :3].abs().sum() == 0
    assert (moved[0, 3:].argmax(1) > 42).all()
    assert (moved[1, 3:].argmax(1) < 38).all(), "what is read higher up stands lower"
    assert torch.allclose(disguise.vary_voices(features, own_voices(2)), features)


def test_detail_is_sharpened_or_blurred() -> None:
    features = torch.randn(6, 40, MEL_BINS, generator=torch.Generator().manual_seed(1)) + 5.0
    sharp = disguise.vary_voices(features, own_voices(6, contrast=np.full((6, 2), 0.7)))
    blurred = disguise.vary_voices(features, own_voices(6, contrast=np.full((6, 2), -0.7)))
    assert sharp.std() > 1.5 * features.std()
    assert blurred.std() < 0.7 * features.std()
    assert float(sharp.mean()) == pytest.approx(float(features.mean()), abs=0.1)


def test_masks_are_the_mean_frame(clips: Clips) -> None:
    masked = disguised(with_masks(clips, random.Random(4)), FILL)
    before = disguised(clips, FILL)
    changed = (masked != before).any(2)
    assert (masked == FILL).any()
    assert torch.equal(masked[masked != before], FILL.expand_as(masked)[masked != before])
    assert changed.any(1).all()
    whole = (masked == FILL).all(2).sum(1)
    assert (whole <= disguise.MASKS * disguise.MASK_FRAMES).all()
