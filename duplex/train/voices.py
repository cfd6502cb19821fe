"""Speech from the free engines flite, espeak-ng, RHVoice, SVOX Pico and festival, run as command-line programs.

All audio here is mono float32 in [-1, 1] at 16 kHz.
"""

import functools
import io
import random
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import torch
from torchaudio.transforms import Resample  # type: ignore[import-untyped, unused-ignore]

from duplex.train.accents import ACCENTS, accented

SAMPLE_RATE = 16_000
ACCENTED_SHARE = 0.6  # of espeak's voices in training

Pcm = npt.NDArray[np.float32]
Engine = Literal["flite", "espeak", "rhvoice", "pico", "festival"]

_ESPEAK_NORMAL_WPM = 150
_TRIM_FRAME = 80  # samples, 5 ms
_TRIM_BELOW_LOUD_DB = 42.0  # quieter than this under the loud frames counts as silence
_TIMEOUT_SEC = 120.0  # a busy machine may starve the engine for long
_RATE_STEP = 320  # Hz; vocal tract factors snap to this grid so that resampling ratios stay small

# Engines know no humming; these spellings come out as one.
_SPOKEN_AS = {"mm-hm": "um hum", "mhm": "um hum", "uh-huh": "uh huh", "hmm": "hum"}


class SynthesisError(RuntimeError):
    """The engine is not installed, refused the voice or produced no speech."""


class SilentSpeechError(SynthesisError):
    """The engine ran but nothing audible came out."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One way to speak.

    `name` is the engine's own ("slt", "en-us+f3"). `speed` multiplies the normal speaking rate (1.0 is about 150 words
    per minute). `pitch` is 0..99, 50 the voice's own, and ignored by flite's rms and festival. `tract` above one shortens
    the vocal tract, raising pitch and formants together, and leaves the duration alone. `gain_db` is applied last.
    `accent` other than 0 makes espeak say some sounds as their neighbours, always the same ones (see accents.py).
    """

    engine: Engine
    name: str
    speed: float = 1.0
    pitch: int = 50
    tract: float = 1.0
    gain_db: float = 0.0
    accent: int = 0

    def __str__(self) -> str:
        accent = f":{self.accent}" if self.accent else ""
        return f"{self.engine}:{self.name}:{self.speed:.2f}:{self.pitch}:{self.tract:.2f}{accent}"


_TRAIN_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc")
_TRAIN_VARIANTS = (
    "",
    *("+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m8", "+f1", "+f2", "+f3", "+f5"),
    *(
        "+klatt",
        "+klatt2",
        "+klatt3",
        "+klatt5",
        "+klatt6",
        "+adam",
        "+Alex",
        "+Alicia",
        "+Annie",
        "+antonio",
        "+belinda",
    ),
    *("+benjamin", "+boris", "+caleb", "+david", "+Denis", "+Diogo", "+ed", "+edward", "+Gene", "+Henrique", "+Hugo"),
    *(
        "+iven",
        "+Jacky",
        "+john",
        "+Lee",
        "+linda",
        "+Marco",
        "+max",
        "+michel",
        "+miguel",
        "+mike",
        "+Nguyen",
        "+pablo",
    ),
    *("+paul", "+pedro", "+quincy", "+rob", "+robert", "+steph", "+steph2", "+sandro", "+shelby", "+victor", "+zac"),
    *("+grandma", "+grandpa", "+anika", "+aunty"),
)

TRAIN_VOICES: tuple[Voice, ...] = (
    *(Voice("flite", name) for name in ("slt", "awb", "kal16", "kal")),
    *(Voice("rhvoice", name) for name in ("alan", "bdl", "clb")),  # its other English voices' licences are narrower
    *(Voice("pico", name) for name in ("en-US", "en-GB")),
    *(Voice("espeak", accent + variant) for variant in _TRAIN_VARIANTS for accent in _TRAIN_ACCENTS),
)
HELDOUT_VOICES: tuple[Voice, ...] = (
    Voice("flite", "rms"),
    *(
        Voice("espeak", accent + variant)
        for accent in ("en-us", "en-gb")
        for variant in ("+f4", "+m7", "+klatt4", "+Andrea")
    ),
    *(
        Voice("espeak", f"{accent}{variant}")
        for accent in ("en-gb-scotland", "en-029")
        for variant in ("", "+michael", "+travis")
    ),
)
OTHER_SYNTHESIZER_VOICES: tuple[Voice, ...] = (
    Voice("festival", "ked_diphone"),
    Voice("festival", "cmu_us_slt_arctic_hts"),
)
"""An engine that training never uses, Debian's festival with festvox-kdlpc16k and festvox-us-slt-hts, for evaluation."""
AGENT_VOICE = Voice("flite", "slt")


def voices_of(*engines: str) -> tuple[Voice, ...]:
    """The training voices of these engines."""
    return tuple(voice for voice in TRAIN_VOICES if voice.engine in engines)


def sample_voice(rng: random.Random, voices: Sequence[Voice], natural_share: float, *, accents: bool = False) -> Voice:
    """Pick a voice and vary its speed (0.8-1.25), pitch and vocal tract; with `accents`, most of espeak's get one.

    `natural_share` of the picks are voices made from recordings of a person, the rest espeak's, where there are both.
    """
    if voices[0].engine == "festival":
        return replace(rng.choice(voices), speed=rng.uniform(0.8, 1.25))
    natural = [voice for voice in voices if voice.engine != "espeak"]
    espeak = [voice for voice in voices if voice.engine == "espeak"]
    if natural and (not espeak or rng.random() < natural_share):
        return replace(
            rng.choice(natural),
            speed=rng.uniform(0.8, 1.25),
            pitch=rng.randint(25, 75),
            tract=rng.choice((1.0, rng.uniform(0.85, 1.2))),
        )
    return replace(
        rng.choice(espeak),
        speed=rng.uniform(0.75, 1.25),
        pitch=rng.randint(20, 80),
        tract=rng.choice((1.0, 1.0, rng.uniform(0.93, 1.08))),
        accent=rng.randrange(1, ACCENTS) if accents and rng.random() < ACCENTED_SHARE else 0,
    )


def synthesize(text: str, voice: Voice, trim: bool = True) -> Pcm:
    """Speak `text`; returns `[samples]`, cut to the bounds of the speech within 10 ms when `trim` is set.

    Raises:
        SynthesisError: The engine is missing or fails.
        SilentSpeechError: It produced nothing audible.

    """
    text = _SPOKEN_AS.get(text, text)
    pcm, sample_rate = _ENGINES[voice.engine](text, voice)
    # Played back `tract` times faster than recorded; the engine was asked to speak that much slower.
    played_rate = round(sample_rate * voice.tract / _RATE_STEP) * _RATE_STEP if voice.tract != 1.0 else sample_rate
    pcm = _resample(pcm, played_rate, SAMPLE_RATE)
    first, last = speech_bounds(pcm)
    if first == last:
        raise SilentSpeechError(f"voice {voice} produced no speech for {text!r}")
    pcm = pcm * np.float32(10 ** (voice.gain_db / 20))
    return pcm[first:last] if trim else pcm


def speech_bounds(pcm: Pcm) -> tuple[int, int]:
    """Find where speech starts and ends in a clean `[samples]` clip, by energy; (0, 0) for silence."""
    frames = len(pcm) // _TRIM_FRAME
    if frames == 0:
        return 0, 0
    energy = np.square(pcm[: frames * _TRIM_FRAME].reshape(frames, _TRIM_FRAME)).mean(axis=1)
    loud = float(np.quantile(energy, 0.9))
    audible = np.flatnonzero(energy > max(loud * 10 ** (-_TRIM_BELOW_LOUD_DB / 10), 1e-9))
    if loud < 1e-8 or len(audible) == 0:
        return 0, 0
    return int(audible[0]) * _TRIM_FRAME, min(len(pcm), (int(audible[-1]) + 1) * _TRIM_FRAME)


def _run_flite(text: str, voice: Voice) -> tuple[Pcm, int]:
    stretch = voice.tract / voice.speed
    settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"f0_shift={(voice.pitch + 50) / 100:.2f}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        _run(["flite", "-voice", voice.name, *settings, "-t", text, str(path)])
        return _read_wav(path.read_bytes())


def phones_of(text: str, voice: Voice) -> list[str]:
    """The phones with which a voice of flite says a text, silences ("pau") included. Raises SynthesisError."""
    return _run(["flite", "-voice", voice.name, "-ps", "-t", text, "none"]).decode().split()


def _run_espeak(text: str, voice: Voice) -> tuple[Pcm, int]:
    if voice.accent:
        phonemes = _run(["espeak-ng", "-q", "-x", "-v", voice.name, text]).decode()
        text = f"[[{accented(' '.join(phonemes.split()), voice.accent)}]]"
    words_per_minute = round(_ESPEAK_NORMAL_WPM * voice.speed / voice.tract)
    arguments = ["-v", voice.name, "-s", str(words_per_minute), "-p", str(voice.pitch), "--stdout", text]
    return _read_wav(_run(["espeak-ng", *arguments]))


def _run_rhvoice(text: str, voice: Voice) -> tuple[Pcm, int]:
    percent = 100.0 * voice.speed / voice.tract
    with tempfile.TemporaryDirectory() as folder:
        written, path = Path(folder) / "text", Path(folder) / "speech.wav"
        written.write_text(text)
        settings = ["-p", voice.name, "-r", f"{percent:.0f}", "-t", f"{voice.pitch + 50}"]
        _run(["RHVoice-test", *settings, "-i", str(written), "-o", str(path)])
        if not path.exists():
            raise SynthesisError(f"RHVoice has no voice {voice.name}")
        return _read_wav(path.read_bytes())


def _run_pico(text: str, voice: Voice) -> tuple[Pcm, int]:
    percent, pitch = 100.0 * voice.speed / voice.tract, voice.pitch + 50
    marked = f'<speed level="{percent:.0f}"><pitch level="{pitch}">{escape(text)}</pitch></speed>'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        _run(["pico2wave", "-l", voice.name, "-w", str(path), marked])
        return _read_wav(path.read_bytes())


def _run_festival(text: str, voice: Voice) -> tuple[Pcm, int]:
    stretch = voice.tract / voice.speed
    settings = (f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})")
    with tempfile.TemporaryDirectory() as folder:
        written, path = Path(folder) / "text", Path(folder) / "speech.wav"
        written.write_text(text)
        _run(["text2wave", *(part for one in settings for part in ("-eval", one)), str(written), "-o", str(path)])
        if not path.exists():
            raise SynthesisError(f"festival has no voice {voice.name}")
        return _read_wav(path.read_bytes())


_ENGINES: Mapping[str, Callable[[str, Voice], tuple[Pcm, int]]] = {
    "flite": _run_flite,
    "espeak": _run_espeak,
    "rhvoice": _run_rhvoice,
    "pico": _run_pico,
    "festival": _run_festival,
}
_PACKAGES = {
    "text2wave": "festival",
    "RHVoice-test": "rhvoice and rhvoice-english (Debian, non-free)",
    "pico2wave": "libttspico-utils (Debian, non-free)",
}


def _run(command: list[str]) -> bytes:
    if shutil.which(command[0]) is None:
        package = _PACKAGES.get(command[0], command[0])
        raise SynthesisError(f"{command[0]} was not found: install {package}")
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_SEC).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SynthesisError(f"{' '.join(command)} failed: {error}") from error


def _read_wav(content: bytes) -> tuple[Pcm, int]:
    with wave.open(io.BytesIO(content)) as reader:
        if reader.getsampwidth() != 2 or reader.getnchannels() != 1:
            raise SynthesisError("expected 16-bit mono audio from the engine")
        rate = reader.getframerate()
        # espeak-ng writes to a pipe and can't fill in the length, so read what is there.
        raw = reader.readframes(len(content) // 2)
    return np.frombuffer(raw, dtype="<i2").astype(np.float32) / 32768.0, rate


@functools.lru_cache(maxsize=256)
def _resampler(source_rate: int, target_rate: int) -> Resample:
    return Resample(source_rate, target_rate)


def _resample(pcm: Pcm, source_rate: int, target_rate: int) -> Pcm:
    if source_rate == target_rate:
        return pcm
    with torch.inference_mode():
        result: Pcm = _resampler(source_rate, target_rate)(torch.from_numpy(pcm)).numpy()
    return result
