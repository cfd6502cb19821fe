"""The speech engines, run for real."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duplex.train.accents import accented
from duplex.train.plans import HELDOUT, TRAINING
from duplex.train.pronunciation import lexicon_of
from duplex.train.voices import (
    AGENT_VOICE,
    HELDOUT_VOICES,
    OTHER_SYNTHESIZER_VOICES,
    SAMPLE_RATE,
    TRAIN_VOICES,
    SilentSpeechError,
    SynthesisError,
    Voice,
    phones_of,
    sample_voice,
    synthesize,
)

TEXT = "what is the capital of france"


@pytest.mark.parametrize("voice", [AGENT_VOICE, HELDOUT_VOICES[1], OTHER_SYNTHESIZER_VOICES[0]], ids=str)
def test_every_engine_speaks_and_keeps_the_speed(voice: Voice) -> None:
    normal, fast = (synthesize(TEXT, replace(voice, speed=speed)) for speed in (1.0, 1.25))
    assert 1.0 < len(normal) / SAMPLE_RATE < 4.0
    assert 0.7 < len(fast) / len(normal) < 0.9
    assert normal.dtype == np.float32
    assert 0.05 < np.abs(normal).max() <= 1.0


@pytest.mark.parametrize(
    ("voice", "program", "wanted"),
    [
        (Voice("rhvoice", "bdl", speed=1.2, pitch=70), "RHVoice-test", ["-p", "bdl", "-r", "120", "-t", "120"]),
        (Voice("pico", "en-GB", speed=0.8, pitch=30), "pico2wave", ["-l", "en-GB"]),
    ],
    ids=str,
)
def test_engines_outside_of_debian_main_are_asked_the_right_way(
    voice: Voice, program: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that stands in for the engine gets the voice, its speed and its pitch, and its sound is taken."""
    asked = tmp_path / "asked"
    speaks = f'espeak-ng -w "$out" hello; printf \'%s\\n\' "$@" > {asked}'
    stand_in = tmp_path / program
    stand_in.write_text(
        f'#!/bin/sh\nnext=\nfor one in "$@"; do [ "$next" ] && out=$one; next=; '
        f"case $one in -o|-w) next=1;; esac; done\n{speaks}\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert len(synthesize("five < six", voice)) > SAMPLE_RATE / 5
    said = asked.read_text().splitlines()
    assert any(said[at : at + len(wanted)] == wanted for at in range(len(said)))
    if voice.engine == "pico":
        assert said[-1] == '<speed level="80"><pitch level="80">five &lt; six</pitch></speed>'


def test_the_tract_moves_the_sound_and_not_the_length() -> None:
    normal, short = (synthesize(TEXT, replace(AGENT_VOICE, tract=tract)) for tract in (1.0, 1.2))
    assert len(short) == pytest.approx(len(normal), rel=0.1)

    def centroid(pcm: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(pcm)) ** 2
        return float((power * np.arange(len(power))).sum() / power.sum() / len(pcm))

    assert centroid(short) > 1.1 * centroid(normal)


def test_voices_for_evaluation_are_not_trained_on() -> None:
    trained = {(voice.engine, voice.name) for voice in TRAIN_VOICES}
    for voice in (*HELDOUT_VOICES, *OTHER_SYNTHESIZER_VOICES):
        assert (voice.engine, voice.name) not in trained
    assert not {voice.engine for voice in OTHER_SYNTHESIZER_VOICES} & {voice.engine for voice in TRAIN_VOICES}


def test_voices_are_varied_within_their_engine() -> None:
    rng = random.Random(0)
    spoken = [sample_voice(rng, OTHER_SYNTHESIZER_VOICES, 1.0) for _ in range(20)]
    assert {voice.name for voice in spoken} == {voice.name for voice in OTHER_SYNTHESIZER_VOICES}
    assert all(0.8 <= voice.speed <= 1.25 for voice in spoken)


def test_an_accent_moves_the_same_sounds_every_time() -> None:
    phonemes = "h@l'oU De@ maI fr'End tS'i:z dZ'0b h,aU m'Eni h'aUzI2z"
    said = {accent: accented(phonemes, accent) for accent in range(1, 60)}
    assert all(accented(phonemes, accent) == text for accent, text in said.items())
    assert len(set(said.values())) > 50
    assert all(text.count(" ") == phonemes.count(" ") for text in said.values())
    assert all("tS'" in text and "dZ'" in text and "fr'" in text for text in said.values())  # two letters, one sound
    for text in said.values():  # a vowel that is said twice moves to one place
        words = text.split()
        assert ("aU" in words[-3]) == ("aU" in words[-1])


def test_an_accent_is_heard_and_keeps_the_words_length() -> None:
    plain, *others = (synthesize(TEXT, replace(HELDOUT_VOICES[1], accent=accent)) for accent in (0, 3, 8))
    for other in others:
        assert 0.7 < len(other) / len(plain) < 1.4
        length = min(len(plain), len(other))
        assert not np.array_equal(plain[:length], other[:length])


def test_accents_are_heard_in_training_alone() -> None:
    rng = random.Random(0)
    trained, kept = ([cast.voice(rng) for _ in range(300)] for cast in (TRAINING, HELDOUT))
    assert not any(voice.accent for voice in kept)
    assert not any(voice.accent for voice in trained if voice.engine != "espeak")
    with_accent = [bool(voice.accent) for voice in trained if voice.engine == "espeak"]
    assert 0.4 < sum(with_accent) / len(with_accent) < 0.8


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_natural_voices_have_the_share_that_was_asked_for(share: float) -> None:
    rng = random.Random(0)
    natural = [sample_voice(rng, HELDOUT_VOICES, share).engine != "espeak" for _ in range(400)]
    assert sum(natural) / len(natural) == pytest.approx(share, abs=0.08)


def test_what_cannot_be_spoken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SilentSpeechError, match="no speech"):
        synthesize(" ", HELDOUT_VOICES[1])
    with pytest.raises(SynthesisError, match="no_such_voice"):
        synthesize(TEXT, Voice("festival", "no_such_voice"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SynthesisError, match="install festival"):
        synthesize(TEXT, OTHER_SYNTHESIZER_VOICES[0])


def test_a_voice_tells_its_phones() -> None:
    assert [phone for phone in phones_of("phone", AGENT_VOICE) if phone != "pau"] == ["f", "ow", "n"]


def test_the_lexicon_holds_words_and_no_letters() -> None:
    lexicon = lexicon_of(["Tea", "tea", "a", "the"])
    assert dict(lexicon.words) == {"tea": ("t", "iy"), "the": ("dh", "ax")}
    assert lexicon.phones == ("ax", "dh", "iy", "t")
