"""Configuration: defaults, then a file, then the environment, then the command line; checked once."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from duplex.core.errors import ConfigError
from duplex.core.types import SamplingParams
from duplex.core.voice import END_SILENCE_MS, SPEECH_PROBABILITY

ROOT = Path(__file__).resolve().parents[2]  # the repository
ENV_PREFIX = "DUPLEX_"
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]  # what torch.Generator takes


class Eagerness(StrEnum):
    """How readily the agent takes the turn."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


RESPOND_THRESHOLD = {Eagerness.LOW: 0.7, Eagerness.MEDIUM: 0.5, Eagerness.HIGH: 0.35}
SURE_PROBABILITY = {Eagerness.LOW: 0.98, Eagerness.MEDIUM: 0.93, Eagerness.HIGH: 0.85}


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampling(_Checked):
    """How text is sampled; temperature 0 is greedy, as is top_k 1."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=1, ge=0, le=1000)
    top_p: float = Field(default=1.0, ge=0, le=1)
    seed: Seed | None = None
    max_text_tokens: int = Field(default=128, ge=1, le=1024)

    def params(self) -> SamplingParams:
        """In the engine's terms."""
        greedy = self.temperature == 0
        return SamplingParams(
            temperature=1.0 if greedy else self.temperature,
            top_k=1 if greedy else self.top_k,
            top_p=self.top_p,
            seed=self.seed,
            max_text_tokens=self.max_text_tokens,
        )


class SamplingPatch(BaseModel):
    """A change of some sampling settings; None leaves one as it is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=0, le=1000)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: Seed | None = None
    max_text_tokens: int | None = Field(default=None, ge=1, le=1024)


class SessionConfig(_Checked):
    """Settings of one conversation; the server's are the defaults of every session."""

    instructions: str = Field(default="", max_length=4000)  # the server fills in the checkpoint's own
    eagerness: Eagerness = Eagerness.MEDIUM
    sampling: Sampling = Sampling()
    vad_threshold: float = Field(default=SPEECH_PROBABILITY, ge=0, le=1)
    onset_windows: int = Field(default=3, ge=1, le=50)  # consecutive 32 ms windows of speech that open a turn
    vad_timeout_ms: int = Field(default=2000, ge=200, le=10000)
    min_speech_ms: int = Field(default=200, ge=0, le=5000)
    # What the state head takes for the end counts only after so much silence, as the VAD hears it (0: at once).
    end_silence_ms: int = Field(default=END_SILENCE_MS, ge=0, le=2000)
    # Where the state head is less than sure of an end, that counts only after this much silence: many a pause is shorter.
    unsure_silence_ms: int = Field(default=700, ge=0, le=2000)
    # While the agent is heard and for a second after, a voice whose loudest 32 ms are this far below the level of the
    # user's speech in the turn before opens no turn: it is somebody far away, or what is left of the agent's echo (100:
    # every voice does). The loudest part of speech lies some 6 dB above its level, so a voice is let in until it is 18
    # dB fainter.
    far_away_db: float = Field(default=12.0, ge=0, le=100)
    # The user interrupts the agent before the turn is decided: with a checkpoint that tells interruptions, above this
    # probability of one (1: never); with one that does not, after talking this long, which backchannels do not (0:
    # never). With both kinds, what began over the agent and was shorter is dropped, not answered, if nothing was decided.
    barge_in_probability: float = Field(default=0.74, ge=0, le=1)
    barge_in_ms: int = Field(default=560, ge=0, le=10000)
    # A listener hums while somebody speaks: in a turn begun while the agent is silent, the odds of "ignore" against
    # the other verdicts are taken this many times. 1: the state head's word as it is.
    ignore_odds_in_silence: float = Field(default=0.05, gt=0, le=1)
    # When the user has said nothing for so long since the agent was last heard, the agent says this, once (0: never).
    silence_prompt_sec: float = Field(default=30.0, ge=0, le=600)
    silence_prompt: str = Field(default="Are you still there?", min_length=1, max_length=200)

    def patched(self, patch: SessionPatch) -> SessionConfig:
        """These settings with the patch's applied."""
        changes = patch.model_dump(exclude_none=True, exclude={"sampling"})
        if patch.sampling is not None:
            sampling = patch.sampling.model_dump(exclude_unset=True)
            keep = {key: value for key, value in sampling.items() if value is not None or key == "seed"}
            changes["sampling"] = self.sampling.model_copy(update=keep)
        return self.model_copy(update=changes)


class SessionPatch(BaseModel):
    """What a client may set of a session; None leaves a setting as it is, unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instructions: str | None = Field(default=None, max_length=4000)
    eagerness: Eagerness | None = None
    sampling: SamplingPatch | None = None
    vad_threshold: float | None = Field(default=None, ge=0, le=1)
    vad_timeout_ms: int | None = Field(default=None, ge=200, le=10000)
    min_speech_ms: int | None = Field(default=None, ge=0, le=5000)
    silence_prompt_sec: float | None = Field(default=None, ge=0, le=600)
    silence_prompt: str | None = Field(default=None, min_length=1, max_length=200)


class ModelConfig(_Checked):
    """Which model runs where."""

    checkpoint: Path = ROOT / "checkpoints" / "tiny"
    llm: Path | None = None  # the LLM's directory; `llm` inside the checkpoint when None
    device: str = "auto"  # one a process; "auto": cuda when there is one
    max_length: int = Field(default=2048, ge=64)  # tokens a conversation can hold
    workers: int | None = Field(default=None, ge=1, le=64)  # None: one on a GPU, two on a CPU


class ServerConfig(_Checked):
    """Everything the server can be told."""

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    max_sessions: int = Field(default=8, ge=1, le=10000)
    # Nobody new is let in beside others while more than this share of what they hear or say comes late (1: never mind).
    max_tight_share: float = Field(default=0.05, ge=0, le=1)
    tls: bool = False
    cert: Path | None = None
    key: Path | None = None
    api_key: str | None = Field(default=None, min_length=1)  # an empty one would let in who sends an empty one
    idle_timeout_sec: float = Field(default=300.0, gt=0)
    resume_window_sec: float = Field(default=30.0, ge=0)
    drain_timeout_sec: float = Field(default=20.0, ge=0)
    hello_timeout_sec: float = Field(default=10.0, gt=0)
    max_lead_ms: int = Field(default=400, ge=40, le=10000)
    max_message_bytes: int = Field(default=1 << 20, ge=1024)
    max_batch: int = Field(default=8, ge=1, le=1024)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    web_root: Path = ROOT / "web"
    model: ModelConfig = ModelConfig()
    session: SessionConfig = SessionConfig()


def _known_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names.extend(_known_names(field.annotation, f"{prefix}{name}."))
    return names


def _explain(error: ValidationError) -> str:
    known = _known_names(ServerConfig)
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"unknown setting {name!r}{hint}")
        else:
            lines.append(f"{name}: {problem['msg']} (got {problem['input']!r})")
    return "; ".join(lines)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        loaded: object = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"the configuration file {path} does not hold an object")
    return loaded


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.device": x}` as `{"model": {"device": x}}`. Raises ConfigError where a name is a setting and a group."""
    result: dict[str, Any] = {}
    for name, value in sorted(dotted.items()):
        *parents, leaf = name.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {parent!r} is given a value of its own as well")
        place[leaf] = value
    return result


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`DUPLEX_PORT=1`, `DUPLEX_MODEL__DEVICE=cpu`: two underscores go one level down."""
    return nested(
        {
            name.removeprefix(ENV_PREFIX).lower().replace("__", "."): value
            for name, value in environment.items()
            if name.startswith(ENV_PREFIX)
        }
    )


def load_config(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> ServerConfig:
    """The configuration of the server; later sources win: `file` (JSON or TOML), `environment` (`DUPLEX_...`), `options` (dotted names, from the command line).

    Raises ConfigError naming the bad setting, for an unknown one with the nearest valid name.
    """
    settings = {} if file is None else _from_file(file)
    settings = _merged(settings, _from_environment(environment or {}))
    settings = _merged(settings, nested(options or {}))
    try:
        config = ServerConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    if (config.cert is None) != (config.key is None):
        raise ConfigError("cert and key go together: give both or none")
    return config
