"""Configuration is checked once and explains what is wrong."""

import json
from pathlib import Path

import pytest

from duplex.core.config import Eagerness, SamplingPatch, SessionConfig, SessionPatch, load_config
from duplex.core.errors import ConfigError


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    file.write_text(json.dumps({"port": 1001, "max_sessions": 3, "model": {"device": "cpu"}}))
    config = load_config(
        file=file,
        environment={"DUPLEX_PORT": "1002", "DUPLEX_MODEL__MAX_LENGTH": "512", "PATH": "/bin"},
        options={"port": 1003, "session.sampling.top_k": 5},
    )
    assert (config.port, config.max_sessions, config.model.device, config.model.max_length) == (
        1003,
        3,
        "cpu",
        512,
    )
    assert (config.session.sampling.top_k, config.session.sampling.temperature) == (5, 1.0)


def test_toml_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 7\n[session]\neagerness = "high"\n')
    assert load_config(file=file).session.eagerness is Eagerness.HIGH


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prot": 1}, "unknown setting 'prot'; did you mean 'port'"),
        ({"model.devise": "cpu"}, "did you mean 'model.device'"),
        ({"port": 70000}, "port: .*65535.*70000"),
        ({"session.sampling.seed": 10**30}, "session.sampling.seed"),
        ({"session.sampling.top_p": 2}, "session.sampling.top_p"),
        ({"api_key": ""}, "api_key: .*at least 1 character"),
        ({"cert": "a.pem"}, "cert and key go together"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(options=options)


@pytest.mark.parametrize("names", [("DUPLEX_MODEL", "DUPLEX_MODEL__DEVICE"), ("DUPLEX_MODEL__DEVICE", "DUPLEX_MODEL")])
def test_a_group_of_settings_has_no_value_of_its_own(names: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"model\.device: 'model' is given a value of its own"):
        load_config(environment=dict.fromkeys(names, "x"))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(file=tmp_path / "nowhere.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="does not hold an object"):
        load_config(file=tmp_path / "list.json")


def test_a_patch_changes_only_what_it_names() -> None:
    config = SessionConfig(instructions="Be kind.", vad_timeout_ms=1500)
    patched = config.patched(SessionPatch(sampling=SamplingPatch(temperature=0.5), eagerness=Eagerness.LOW))
    assert (patched.instructions, patched.vad_timeout_ms) == ("Be kind.", 1500)
    assert (patched.sampling.temperature, patched.sampling.top_k, patched.eagerness) == (
        0.5,
        1,
        Eagerness.LOW,
    )


def test_temperature_zero_is_greedy() -> None:
    patched = SessionConfig().patched(SessionPatch(sampling=SamplingPatch(temperature=0.0, top_k=50)))
    assert (patched.sampling.params().top_k, patched.sampling.params().temperature) == (1, 1.0)
