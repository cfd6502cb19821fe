"""Labels stand where the sound says, pauses are no ends, and corpora come back from disk as they went in."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from duplex.train.corpus import (
    GrowingCorpus,
    Utterance,
    again_and_again,
    build_corpus,
    load_corpus,
    load_split_turns,
)
from duplex.train.plans import TRAINING, plan_split_turns
from duplex.train.scenarios import (
    CHUNK_SAMPLES,
    CONTINUE,
    DONT_CARE,
    IGNORE,
    RESPOND,
    ClipPools,
    Kind,
    label_chunks,
    label_interruption,
    sample_scenario,
)
from duplex.train.voices import AGENT_VOICE, SAMPLE_RATE, Voice, speech_bounds, synthesize
from duplex.train.world import Turn

KINDS: tuple[Kind, ...] = ("turn", "paused", "barge_in", "backchannel", "noise", "background_speech")


def _clip(seconds: float, text: str, turn: Turn | None = None, context: tuple[Turn, ...] = ()) -> Utterance:
    samples = int(seconds * SAMPLE_RATE)
    wave = 9000 * np.sin(np.arange(samples) * 0.2)
    return Utterance(wave.astype(np.int16), text, "test", turn, context)


@pytest.fixture
def pools() -> ClipPools:
    hello = Turn("hello", "Hello! How can I help you?", "greet.hello", (("hello",),))
    capital = Turn("what is the capital of spain", "The capital of Spain is Madrid.", "capital", (("madrid",),))
    turns = [_clip(0.8, hello.user, hello), _clip(1.7, capital.user, capital, (hello,))]
    parts = (_clip(0.9, "what is the", capital), _clip(0.8, "capital of spain", capital))
    return ClipPools(turns, [parts], [_clip(0.3, "mm-hm")], [_clip(0.2, "knocks")])


def test_labels_turn_over_at_the_end_of_speech() -> None:
    # Speech ends inside chunk 3; chunks 3 and 4 end within 200 ms of it, chunk 5 after.
    labels = label_chunks(8 * CHUNK_SAMPLES, 3 * CHUNK_SAMPLES + 2000, RESPOND)
    assert labels.tolist() == [CONTINUE, CONTINUE, CONTINUE, DONT_CARE, DONT_CARE, RESPOND, RESPOND, RESPOND]


def test_a_chunk_that_ends_with_the_speech_may_go_either_way() -> None:
    labels = label_chunks(4 * CHUNK_SAMPLES, 2 * CHUNK_SAMPLES, IGNORE)
    assert labels.tolist() == [CONTINUE, DONT_CARE, DONT_CARE, IGNORE]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_whole_chunks_with_one_decision(kind: Kind, pools: ClipPools) -> None:
    decision = RESPOND if kind in ("turn", "paused", "barge_in") else IGNORE
    rng = random.Random(4)
    for _ in range(20):
        scenario = sample_scenario(rng, pools, kind)
        assert scenario.kind == kind
        assert len(scenario.pcm) == len(scenario.labels) * CHUNK_SAMPLES
        assert scenario.pcm.dtype == np.float32
        assert scenario.labels.dtype == np.int8
        assert np.abs(scenario.pcm).max() <= 1.0
        ends = (np.arange(len(scenario.labels)) + 1) * CHUNK_SAMPLES
        assert set(scenario.labels[ends < scenario.speech_end_sample]) == {CONTINUE}
        assert set(scenario.labels[ends >= scenario.speech_end_sample + 3200]) == {decision}
        assert (scenario.turn is not None) == (decision == RESPOND)


def test_speech_ends_where_the_scenario_says(pools: ClipPools) -> None:
    rng = random.Random(5)
    for _ in range(20):
        scenario = sample_scenario(rng, pools, "turn", strength=0.0)
        loud = np.flatnonzero(np.abs(scenario.pcm) > 0.1)
        assert abs(int(loud[0]) - scenario.speech_start_sample) < 160
        assert abs(int(loud[-1]) - scenario.speech_end_sample) < 160


def test_a_pause_is_quiet_and_labelled_continue(pools: ClipPools) -> None:
    scenario = sample_scenario(random.Random(6), pools, "paused", strength=0.0)
    quiet = [
        label
        for chunk, label in zip(scenario.pcm.reshape(-1, CHUNK_SAMPLES), scenario.labels, strict=True)
        if np.abs(chunk).max() < 0.02
    ]
    assert CONTINUE in quiet
    assert scenario.user_text == "what is the capital of spain"


def test_interruptions_are_told_from_what_is_to_be_ignored(pools: ClipPools) -> None:
    taking = sample_scenario(random.Random(1), pools, "barge_in")
    labels = label_interruption(taking)
    first = int(np.flatnonzero(labels == 1)[0])
    assert 2_560 <= (first + 1) * CHUNK_SAMPLES - taking.speech_start_sample < 2_560 + CHUNK_SAMPLES
    assert set(labels[:first]) <= {DONT_CARE}
    assert set(labels[first:]) == {1}
    rng = random.Random(2)
    hums = [sample_scenario(rng, pools, "backchannel") for _ in range(40)]
    assert {s.agent_was_speaking for s in hums} == {True, False}
    assert all(set(label_interruption(s)) == ({DONT_CARE, 0} if s.agent_was_speaking else {DONT_CARE}) for s in hums)
    hum = next(s for s in hums if s.agent_was_speaking)
    first = int(np.flatnonzero(label_interruption(hum) == 0)[0])
    assert 2_560 <= (first + 1) * CHUNK_SAMPLES - hum.speech_start_sample < 2_560 + CHUNK_SAMPLES
    assert set(label_interruption(hum)[first:]) == {0}
    assert set(label_interruption(sample_scenario(rng, pools, "turn"))) == {DONT_CARE}


def test_speech_starts_before_it_ends_whatever_clicks_follow(pools: ClipPools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duplex.train.scenarios._LATE_CLICK_SHARE", 1.0)
    for seed in range(20):
        scenario = sample_scenario(random.Random(seed), pools, "barge_in")
        assert 4_800 <= scenario.speech_start_sample <= 16_000
        assert scenario.speech_start_sample < scenario.speech_end_sample


def test_an_interrupted_reply_is_cut(pools: ClipPools) -> None:
    for seed in range(20):
        scenario = sample_scenario(random.Random(seed), pools, "barge_in")
        assert scenario.agent_was_speaking
        heard = scenario.context[-1].reply
        assert "Hello! How can I help you?".startswith(heard)
        assert heard != "Hello! How can I help you?"


def test_sampling_is_deterministic_and_covers_all_kinds(pools: ClipPools) -> None:
    one, two = (sample_scenario(random.Random(8), pools) for _ in range(2))
    np.testing.assert_array_equal(one.pcm, two.pcm)
    rng = random.Random(9)
    assert set(Counter(sample_scenario(rng, pools).kind for _ in range(150))) == set(KINDS)


def test_empty_pools_are_refused_by_name(pools: ClipPools) -> None:
    with pytest.raises(ValueError, match="noises"):
        ClipPools(pools.turns, pools.split_turns, pools.backchannels, [])


def test_split_turns_add_up_to_the_turn() -> None:
    plan = plan_split_turns(random.Random(2), TRAINING)
    texts: dict[int, list[str]] = {}
    wholes: dict[int, str] = {}
    for _ in range(300):
        clip = next(plan)
        assert clip.turn is not None
        texts.setdefault(clip.group, []).append(clip.text)
        wholes[clip.group] = clip.turn.user
    texts.pop(max(texts))
    for group, parts in texts.items():
        said = " ".join(parts).split()
        missing = Counter(wholes[group].split()) - Counter(said)
        assert len(parts) >= 2
        assert not missing
        assert set(Counter(said) - Counter(wholes[group].split())) <= {"um", "uh"}


def test_synthesized_speech_is_cut_to_its_bounds() -> None:
    for voice in (AGENT_VOICE, Voice("espeak", "en-us+f3", speed=1.1, pitch=60, tract=1.05)):
        pcm = synthesize("what is the capital of france", voice)
        assert pcm.dtype == np.float32
        assert 0.8 < len(pcm) / SAMPLE_RATE < 3.0
        first, last = speech_bounds(pcm)
        assert first <= SAMPLE_RATE // 100
        assert len(pcm) - last <= SAMPLE_RATE // 100


def test_processes_build_the_shards_that_one_would(tmp_path: Path) -> None:
    for folder, workers in (("alone", 0), ("together", 3)):
        build_corpus("noise", tmp_path / folder, hours=0.006, seed=3, shard_clips=5, workers=workers)
    alone, together = (sorted((tmp_path / folder).glob("*.npy")) for folder in ("alone", "together"))
    assert [path.name for path in together] == [path.name for path in alone]
    assert len(alone) > 3
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(alone, together, strict=True))


def test_a_growing_corpus_is_heard_as_it_grows(tmp_path: Path) -> None:
    build_corpus("noise", tmp_path, hours=0.001, seed=3, shard_clips=4)
    corpus = GrowingCorpus(tmp_path)
    first = len(corpus)
    heard = again_and_again(corpus, random.Random(1))
    round_of_first = [id(next(heard)) for _ in range(first)]
    assert sorted(round_of_first) == sorted(map(id, corpus))
    build_corpus("noise", tmp_path, hours=0.004, seed=3, shard_clips=4)
    assert len(corpus) == first  # until it is looked at again
    fresh = {id(next(heard)) for _ in range(10 * first)}
    assert len(corpus) == len(load_corpus(tmp_path)) > 2 * first
    assert fresh >= {id(clip) for clip in corpus[first:]}
    assert [clip.text for clip in corpus] == [clip.text for clip in load_corpus(tmp_path)]


def test_a_corpus_is_heard_whole_before_anything_is_heard_again(tmp_path: Path) -> None:
    build_corpus("noise", tmp_path, hours=0.001, seed=3)
    clips = load_corpus(tmp_path)
    heard = again_and_again(clips, random.Random(1))
    rounds = [[id(next(heard)) for _ in clips] for _ in range(3)]
    assert all(sorted(one) == sorted(map(id, clips)) for one in rounds)
    assert rounds[0] != rounds[1]


def test_a_corpus_comes_back_and_is_resumed(tmp_path: Path) -> None:
    build_corpus("noise", tmp_path, hours=0.001, seed=3)
    clips = load_corpus(tmp_path)
    written_at = (tmp_path / "0000.audio.npy").stat().st_mtime_ns
    build_corpus("noise", tmp_path, hours=0.001, seed=3)
    assert (tmp_path / "0000.audio.npy").stat().st_mtime_ns == written_at
    assert all(len(clip.pcm) and clip.text for clip in clips)
    assert clips[0].pcm.dtype == np.int16
    with pytest.raises(FileNotFoundError, match="no corpus shards"):
        load_split_turns(tmp_path / "nothing")
