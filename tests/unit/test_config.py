"""Settings: every variable described, every mistake named, the environment read once."""

from __future__ import annotations

import pytest

from hola.config import DEFAULT_LISTEN, Settings, Variable, load_settings, variables
from hola.errors import ConfigError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_values_are_parsed_by_their_type() -> None:
    settings = load_settings(
        {
            "HOLA_LISTEN": "unix:///run/v.sock",
            "HOLA_THREADS": "2",
            "HOLA_SESSION_TTL_S": "0.5",
            "HOLA_INSECURE": "1",
            "HOLA_MODELS_DIR": "/models",
            "HOLA_PROVIDER": "cpu",
            "PATH": "/bin",
            "HOLAX": "not ours",
        }
    )
    assert settings.listen == "unix:///run/v.sock"
    assert settings.threads == 2
    assert settings.session_ttl_s == 0.5
    assert settings.insecure is True
    assert settings.models_dir == "/models"
    assert settings.provider == "cpu"


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_value_is_unset(value: str) -> None:
    assert load_settings({"HOLA_THREADS": value, "HOLA_MODEL": value}) == Settings()


def test_spaces_around_a_value_do_not_count() -> None:
    assert load_settings({"HOLA_THREADS": " 3 "}).threads == 3


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HOLA_LISTN", "HOLA_LISTEN"),
        ("HOLA_MODEL_DIR", "HOLA_MODELS_DIR"),
        ("HOLA_SESSION_TTL", "HOLA_SESSION_TTL_S"),
        ("HOLA_listen", "HOLA_LISTEN"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings({name: "x"})
    assert f"unknown setting {name}" in raised.value.message
    assert raised.value.details["variable"] == name
    assert raised.value.details["nearest"] == nearest


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("HOLA_THREADS", "two", "integer, 0 to 1024"),
        ("HOLA_THREADS", "-1", "integer, 0 to 1024"),
        ("HOLA_THREADS", "1.5", "integer, 0 to 1024"),
        ("HOLA_THREADS", "99999999999999999999", "integer, 0 to 1024"),
        ("HOLA_MAX_SESSIONS", "0", "integer, at least 1"),
        ("HOLA_DRAIN_S", "nan", "number, at least 0"),
        ("HOLA_DRAIN_S", "inf", "number, at least 0"),
        ("HOLA_SESSION_TTL_S", "0", "number, above 0"),
        ("HOLA_INSECURE", "maybe", "0 or 1"),
        ("HOLA_PROVIDER", "tpu", "one of auto, cpu, cuda, tensorrt"),
        ("HOLA_LOG_LEVEL", "INFO!", "one of debug, info, warning, error"),
    ],
)
def test_a_malformed_value_is_named_with_the_expected_form(
    name: str, value: str, form: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings({name: value})
    error = raised.value
    assert error.details == {"variable": name, "value": value, "expected": form}
    assert f"{name}={value!r} is not valid: expected {form}" in error.message
    assert error.exit_code == 2


def test_the_environment_is_read_only_by_load_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLA_THREADS", "7")
    assert Settings().threads == 0
    assert load_settings({}).threads == 0


def test_settings_cannot_be_changed_and_take_no_unknown_argument() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.threads = 3
    with pytest.raises(ValueError, match="thread_count"):
        Settings(thread_count=3)  # type: ignore[call-arg]


def test_the_table_describes_every_field() -> None:
    table = variables()
    assert [row.name for row in table] == [
        f"HOLA_{field.upper()}" for field in Settings.model_fields
    ]
    for row in table:
        assert len(row.description) > 5, row.name
        assert row.form, row.name
    rows = {row.name: row for row in table}
    assert rows["HOLA_THREADS"] == Variable(
        name="HOLA_THREADS",
        default="0",
        description="engine threads; 0: one per core",
        form="integer, 0 to 1024",
    )


@pytest.mark.parametrize("row", variables(), ids=lambda row: row.name)
def test_names_with_a_unit_describe_it(row: Variable) -> None:
    units = {"_S": "second", "_MB": "MiB", "_BYTES": "byte", "_MS": "millisecond"}
    for suffix, word in units.items():
        if row.name.endswith(suffix):
            assert word in row.description


@pytest.mark.parametrize("row", variables(), ids=lambda row: row.name)
def test_every_default_can_be_written_as_a_variable(row: Variable) -> None:
    assert load_settings({row.name: row.default}) == Settings()


def test_each_service_has_its_port() -> None:
    assert [address.rpartition(":")[2] for address in DEFAULT_LISTEN.values()] == [
        "7070",
        "7071",
        "7072",
        "7073",
    ]
    assert Settings().listen_on("verifier") == "127.0.0.1:7072"
    assert Settings(listen="127.0.0.1:1").listen_on("verifier") == "127.0.0.1:1"
