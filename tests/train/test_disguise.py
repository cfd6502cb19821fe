"""Batches of speech in disguise: what is not disguised stays, and every part of it does what it should."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from duplex.audio.features import CHUNK_SAMPLES, MEL_BINS, OVERLAP_FRAMES
from duplex.train import augment, disguise, effects
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
    torch.testing.assert_close(disguised(clips, FILL), expected)
    assert clips.encoder_frames == frames.tolist()


def test_any_disguise_leaves_quiet_frames_before_and_behind(clips: Clips) -> None:
    torch.manual_seed(1)
    drawn = placed(said(seed=4), [1.1] * 6, random.Random(2))
    features = disguised(drawn, FILL)
    assert torch.isfinite(features).all()
    assert features[:, :OVERLAP_FRAMES].abs().sum() == 0
    for row, length in zip(features, drawn.lengths, strict=True):
        frames = OVERLAP_FRAMES + 16 * -(-int(length) // CHUNK_SAMPLES)
        assert row[frames:].abs().sum() == 0
        assert (row[OVERLAP_FRAMES:frames].abs().sum(1) > 0).all()


def test_without_strength_only_voice_and_pace_vary() -> None:
    before = placed(said(), [0.0] * 6, random.Random(3))
    how = before.disguise
    assert (how.speed == 1).all()
    assert not how.rt60_sec.any()
    assert np.isinf(how.snr_db).all()
    assert not how.telephone.any()
    assert np.isnan(how.gain_db).all()
    spoken = [len(row) for row in said()]
    silence = before.lengths - spoken
    assert (silence >= disguise.MIN_TAIL_SAMPLES).all()
    assert (silence <= disguise.MAX_LEAD_SAMPLES + disguise.MAX_TAIL_SAMPLES).all()


def test_as_many_are_disguised_as_single_recordings_are() -> None:
    before = np.full(4000, 30_000)
    how, lengths = disguise.draw_disguise(before, np.ones(4000), np.random.default_rng(1))
    shares = {
        augment.SPEED_SHARE: how.speed != 1,
        augment.ROOM_SHARE: how.rt60_sec > 0,
        augment.NOISE_SHARE: np.isfinite(how.snr_db),
        augment.TELEPHONE_SHARE: how.telephone,
        disguise.VARIED_SHARE: how.voices.warp >= 0,
        augment.HUM_SHARE: how.exponent < 0,
    }
    for share, chosen in shares.items():
        assert chosen.mean() == pytest.approx(share, abs=0.03)
    paced = (how.places != np.arange(how.places.shape[1])).any(axis=1)
    assert paced.mean() == pytest.approx(disguise.VARIED_SHARE, abs=0.03)
    assert (lengths == np.round(before / how.speed)).all()
    assert lengths.min() == pytest.approx(30_000 / (1 + augment.SPEED_SPREAD), rel=0.01)
    quiet = augment.FAINTEST_NOISE_DB - augment.NOISE_RANGE_DB
    assert quiet <= how.snr_db.min() < quiet + 1
    assert augment.QUIETEST_PEAK_DB <= how.gain_db.min() < augment.QUIETEST_PEAK_DB + 1


def test_each_row_is_disguised_in_a_way_of_its_own() -> None:
    torch.manual_seed(1)
    one = said(count=1)[0]
    features = disguised(placed([one] * 8, [1.0] * 8, random.Random(3)), FILL)
    assert len({tuple(row[20:22].flatten().tolist()) for row in features}) == 8


def test_a_telephone_is_that_of_single_recordings(clips: Clips) -> None:
    heard = recorded(clips, telephone=np.ones(6, bool))
    for row, whole in zip(heard, rows(clips), strict=True):
        expected = augment.telephone(np.pad(whole, (0, heard.shape[1] - len(whole))))[: len(whole)]
        assert np.abs(row[: len(whole)] - np.clip(expected, -1, 1)).max() < 2e-3


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


def test_hum_is_that_of_mains(clips: Clips) -> None:
    heard = recorded(clips, snr_db=np.full(6, 0.0), exponent=np.full(6, -1.0))
    bases = []
    for row, whole in zip(heard, rows(clips), strict=True):
        power = np.abs(np.fft.rfft((row[: len(whole)] - whole) * np.hanning(len(whole))))
        strongest = float(np.fft.rfftfreq(len(whole), 1 / augment.SAMPLE_RATE)[power.argmax()])
        bases += [base for base in (50.0, 60.0) if abs(strongest / base - round(strongest / base)) < 0.03]
        assert strongest < 7.5 * 60
    assert len(bases) >= 6


def test_a_room_keeps_level_and_beginning_and_rings_for_its_time(clips: Clips) -> None:
    click = replace(clips, pcm=torch.zeros(6, 40_000, dtype=torch.int16), lengths=np.full(6, 40_000))
    click.pcm[:, 10_000] = 16_000
    rt60_sec = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    heard = recorded(click, rt60_sec=rt60_sec, wet=np.array([0.4, 0.4, 0.4, 0.4, 0.2, 0.6]))
    level = 16_000 / 32_768
    for row, seconds in zip(heard, rt60_sec, strict=True):
        assert np.linalg.norm(row) == pytest.approx(level, rel=0.01)
        assert np.abs(row[:9_999]).max() < 1e-5
        tail = int(seconds * augment.SAMPLE_RATE)
        early, late = (row[10_001 + at : 10_001 + at + tail // 10] for at in (0, tail // 2))
        assert 20 * np.log10(augment.rms(early) / augment.rms(late)) == pytest.approx(30, abs=4)
        assert np.abs(row[10_001 + tail :]).max() < 1e-5
    wet = [np.linalg.norm(row[10_001:]) / row[10_000] for row in heard]
    assert wet[4] == pytest.approx(0.2, rel=0.02)
    assert wet[5] == pytest.approx(0.6, rel=0.02)


def played(pcm: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """So many samples of a recording played faster."""
    return np.interp(np.arange(samples) * speed, np.arange(len(pcm)), pcm)


def test_speed_moves_the_samples_of_every_row(clips: Clips) -> None:
    lengths = np.round(clips.lengths / 1.1).astype(np.int64)
    heard = recorded(replace(clips, lengths=lengths), speed=np.full(6, 1.1))
    for row, whole, length in zip(heard, rows(clips), lengths, strict=True):
        assert np.abs(row[:length] - played(whole, 1.1, length)).max() < 1e-4


def test_speed_is_right_at_the_end_of_a_long_recording() -> None:
    samples = 16_000 * 20
    tone = np.sin(0.9 * np.arange(samples))
    heard = effects.at_speed(torch.from_numpy(tone).float()[None], torch.tensor([[0.97]], dtype=torch.float64), samples)
    assert np.abs(heard[0].numpy() - played(tone, 0.97, samples))[-8000:].max() < 1e-3


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


def test_contrast_of_time_and_of_frequency_are_two(clips: Clips) -> None:
    over_frequency = torch.randn(1, 1, MEL_BINS, generator=torch.Generator().manual_seed(1)).expand(1, 30, -1) + 5.0
    over_time = over_frequency[:, 0, :30, None].expand(-1, -1, MEL_BINS)
    for features, axis in ((over_frequency, 0), (over_time, 1)):
        along, across = np.zeros((1, 2)), np.zeros((1, 2))
        along[0, axis], across[0, 1 - axis] = 0.7, 0.7
        unchanged = disguise.vary_voices(features, own_voices(1, contrast=along))
        torch.testing.assert_close(unchanged, features.contiguous())
        assert disguise.vary_voices(features, own_voices(1, contrast=across)).std() > 1.3 * features.std()


def test_frames_beside_silence_are_not_drawn_to_it() -> None:
    features = torch.full((1, 20, MEL_BINS), 8.0)
    features[:, :5] = 0.0
    blurred = disguise.vary_voices(features, own_voices(1, contrast=np.full((1, 2), -0.7)))
    torch.testing.assert_close(blurred, features)


def test_a_microphone_adds_a_smooth_curve() -> None:
    colour = np.zeros((1, disguise.COLOUR_ORDERS))
    colour[0, 1] = 0.5
    features = torch.full((1, 4, MEL_BINS), 6.0)
    added = disguise.vary_voices(features, own_voices(1, colour=colour)) - features
    expected = 0.5 * torch.cos(2 * torch.linspace(0, torch.pi, MEL_BINS))
    torch.testing.assert_close(added, expected.expand(1, 4, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kept", [0, 2])
def test_masks_are_the_mean_frame(clips: Clips, kept: int) -> None:
    """Stretches of frames (kept 0) and bands of bins (2), each alone, where they were drawn and nowhere else."""
    drawn = with_masks(clips, random.Random(4))
    masks = drawn.disguise.masks
    assert masks is not None
    masks[..., 3 - kept] = 0
    before, masked = disguised(clips, FILL), disguised(drawn, FILL)
    assert int(masks[..., kept + 1].max()) > 3
    for row, was, own in zip(masked, before, masks, strict=True):
        inside = torch.zeros_like(was, dtype=torch.bool)
        for first, width in own[:, kept : kept + 2].tolist():
            (inside if kept == 0 else inside.T)[first : first + width] = True
        assert torch.equal(row[inside], FILL.expand_as(was)[inside])
        assert torch.equal(row[~inside], was[~inside])
