"""Every error is one line on stderr and an exit code; a traceback only when asked for."""

from __future__ import annotations

import pytest

from hola.errors import HolaError, QuotaExceeded, UnknownModel, VerifierUnavailable
from hola_cli import bench
from hola_cli.main import root_cause


def failing(error: BaseException):
    def run(name, options):
        raise error

    return run


def broken(monkeypatch, error: BaseException):
    """Have a command end with this error."""
    monkeypatch.setattr(bench.registry, "run", failing(error))


@pytest.mark.parametrize(
    "error", [UnknownModel("no such model"), VerifierUnavailable("nobody there"), HolaError("oops")]
)
def test_a_hola_error_gives_its_message_and_exit_code(run, monkeypatch, error):
    broken(monkeypatch, error)
    result = run("bench", "exactness", "--json")
    assert result.exit_code == error.exit_code
    assert result.stderr == f"error: {error.message}\n"
    assert result.stdout == ""


def test_a_refusal_for_load_says_when_to_come_back(run, monkeypatch):
    broken(monkeypatch, QuotaExceeded("too fast", tenant="acme", retry_after_ms=1250))
    result = run("bench", "exactness", "--json")
    assert result.exit_code == 5
    assert result.stderr == "error: too fast (come back in 1.2 s)\n"


def test_an_unexpected_error_names_itself_without_a_traceback(run, monkeypatch):
    broken(monkeypatch, ZeroDivisionError("1/0"))
    result = run("bench", "exactness")
    assert result.exit_code == 1
    assert "ZeroDivisionError: 1/0" in result.stderr
    assert "Traceback" not in result.output


def test_debug_shows_where(run, monkeypatch):
    broken(monkeypatch, HolaError("deep down"))
    result = run("bench", "exactness", env={"HOLA_LOG_LEVEL": "debug"})
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: deep down\n")


def test_an_error_in_a_task_group_is_the_error_itself(run, monkeypatch):
    inner = UnknownModel("no such model")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [inner])])
    assert root_cause(group) is inner
    broken(monkeypatch, group)
    assert run("bench", "exactness").exit_code == UnknownModel.exit_code


def test_interrupting_a_command_gives_130(run, monkeypatch):
    broken(monkeypatch, KeyboardInterrupt())
    assert run("bench", "exactness").exit_code == 130


def test_an_unknown_variable_is_named_with_its_nearest(run):
    result = run("generate", "hi", env={"HOLA_MODEL_DIR": "/x"})
    assert result.exit_code == 2
    assert "HOLA_MODEL_DIR" in result.stderr
    assert "HOLA_MODELS_DIR" in result.stderr


def test_an_unknown_command_suggests_the_nearest(run):
    result = run("genrate")
    assert result.exit_code == 2
    assert "generate" in result.stderr


def test_version(run):
    from hola import __version__

    result = run("--version")
    assert result.stdout == f"hola {__version__}\n"
    assert result.exit_code == 0


def test_without_a_command_the_help_is_shown(run):
    assert "generate" in run().output
