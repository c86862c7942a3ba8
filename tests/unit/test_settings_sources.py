"""Flags before the environment before the file; and whatever is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hola.config import Settings, load_settings, settings_of, variables
from hola.errors import ConfigError
from hola.settings_sources import MAX_FILE_BYTES, gather, parse_flags

Write = Callable[[str | bytes], dict[str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of settings; gives the environment that names it."""

    def write(content: str | bytes) -> dict[str, str]:
        path = tmp_path / "hola.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return {"HOLA_CONFIG": str(path)}

    return write


def flags(*arguments: str) -> dict[str, str]:
    return parse_flags(variables(), arguments, program="hola-router", about="")


def test_a_flag_comes_before_the_environment_and_that_before_the_file(write: Write) -> None:
    environ = write('threads = 1\nmax_sessions = 2\ndrain_s = 0.5\nlog_level = "debug"\n')
    environ |= {"HOLA_THREADS": "3", "HOLA_MAX_SESSIONS": "4"}
    settings = load_settings(environ, flags("--threads", "5"))
    assert (settings.threads, settings.max_sessions) == (5, 4)
    assert (settings.drain_s, settings.log_level) == (0.5, "debug")
    assert settings.concurrency == Settings().concurrency


def test_each_value_says_where_it_is_from(write: Write) -> None:
    environ = {**write("threads = 1\nmax_sessions = 2\n"), "HOLA_MAX_SESSIONS": "4"}
    given = gather(variables(), environ, flags("--drain-s=3"))
    assert {name: each.origin for name, each in given.items()} == {
        "HOLA_CONFIG": "environment",
        "HOLA_THREADS": environ["HOLA_CONFIG"],
        "HOLA_MAX_SESSIONS": "environment",
        "HOLA_DRAIN_S": "--drain-s",
    }


def test_a_flag_may_name_the_file(write: Write) -> None:
    path = write("threads = 7\n")["HOLA_CONFIG"]
    assert load_settings({}, flags("--config", path)).threads == 7


@pytest.mark.parametrize(
    ("line", "value"),
    [("insecure = true", True), ("insecure = false", False), ("insecure = 1", True)],
)
def test_truth_is_written_as_toml_or_as_a_number(write: Write, line: str, value: bool) -> None:
    assert load_settings(write(line)).insecure is value


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("threads = [1]", "threads: expected integer, 0 to 1024"),
        ("threads = true", "threads = true: expected integer, 0 to 1024"),
        ("threads = 2026-01-01", "threads: expected integer"),
        ("[threads]\na = 1", "threads: expected integer"),
        ("thread = 1", "unknown setting HOLA_THREAD: did you mean HOLA_THREADS?"),
        ("THREADS = 1", "small letters"),
        ('config = "x"', "cannot name another one"),
        ("threads = ", "Invalid value"),
        (b"\xff\xfe", "decode"),
        (b"\x00" * 10, "Invalid"),
        ("# " + "x" * MAX_FILE_BYTES, "larger than"),
        ("a = " + "[" * 5000, "unknown setting|recursion|Unclosed|Invalid|depth"),
    ],
    ids=str,
)
def test_a_file_that_is_wrong_is_named(write: Write, content: str | bytes, told: str) -> None:
    environ = write(content)
    with pytest.raises(ConfigError, match=told) as raised:
        load_settings(environ)
    assert environ["HOLA_CONFIG"] in raised.value.message
    assert raised.value.exit_code == 2


def test_a_value_of_the_file_that_does_not_fit_names_setting_and_file(write: Write) -> None:
    environ = write("threads = 4096\n")
    with pytest.raises(ConfigError) as raised:
        load_settings(environ)
    assert raised.value.message == (
        f"HOLA_THREADS='4096' in {environ['HOLA_CONFIG']} is not valid: expected integer, 0 to 1024"
        " (engine threads; 0: one per core)"
    )


@pytest.mark.parametrize("path", ["/nowhere/hola.toml", "/"])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match=f"HOLA_CONFIG={path}: "):
        load_settings({"HOLA_CONFIG": path})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--thread", "1"], "unrecognized"),
        (["--threads"], "expected one argument"),
        (["--threads", "1", "--threads", "2"], "twice"),
        (["serve"], "unrecognized"),
        (["--token", "secret"], "unrecognized"),
    ],
)
def test_a_wrong_flag_is_an_error_of_ours(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        flags(*arguments)


def test_a_wrong_value_of_a_flag_is_named_by_flag_and_setting() -> None:
    with pytest.raises(ConfigError, match=r"HOLA_THREADS='x' in --threads is not valid"):
        settings_of(gather(variables(), {}, flags("--threads", "x")))


def test_help_lists_every_setting_but_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flags("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for row in variables():
        assert (f"{row.flag} " in shown) is not row.is_secret, row.flag


def test_a_secret_is_not_told_when_it_is_wrong() -> None:
    assert [row.name for row in variables() if row.is_secret] == ["HOLA_TOKEN"]
