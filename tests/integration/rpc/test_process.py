"""The frame of every service process: settings first, then start, a signal, an orderly stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator

import pytest
import structlog

from hola.config import Settings
from hola.errors import BusUnavailable, UnknownModel
from hola.rpc.process import App, run
from hola.telemetry import Metrics


class FakeApp:
    """Records what happens to it; `fail_in` names the step that raises."""

    address = "grpc://127.0.0.1:1"

    def __init__(self, fail_in: str = "", error: Exception | None = None) -> None:
        self.steps: list[str] = []
        self.settings: Settings | None = None
        self._fail_in = fail_in
        self._error = error or UnknownModel("there is no model 'x'")
        self._stopped = asyncio.Event()

    def build(self, settings: Settings, metrics: Metrics) -> App:
        self.settings = settings
        return self

    async def start(self) -> None:
        await self._step("start")

    async def wait(self) -> None:
        await self._step("wait")
        os.kill(os.getpid(), signal.SIGTERM)
        await self._stopped.wait()

    async def stop(self) -> None:
        self._stopped.set()
        self.steps.append("stop")

    async def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._fail_in:
            raise self._error


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """`run` owns the process's logging; put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_signal_stops_it_in_order() -> None:
    app = FakeApp()
    assert run("router", app.build, {"HOLA_LOG_LEVEL": "error"}) == 0
    assert app.steps == ["start", "wait", "stop"]
    assert app.settings is not None
    assert app.settings.listen == "127.0.0.1:7070"


def test_a_failed_start_is_cleaned_up(capsys: pytest.CaptureFixture[str]) -> None:
    app = FakeApp("start")
    assert run("router", app.build, {"HOLA_LOG_LEVEL": "error"}) == 3
    assert app.steps == ["start", "stop"]
    assert capsys.readouterr().err == "hola-router: there is no model 'x'\n"


def test_a_service_that_cannot_go_on_ends_with_its_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = FakeApp("wait", BusUnavailable("redis://x cannot be reached"))
    assert run("drafter", app.build, {"HOLA_LOG_LEVEL": "error"}) == 6
    assert app.steps == ["start", "wait", "stop"]
    assert capsys.readouterr().err == "hola-drafter: redis://x cannot be reached\n"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HOLA_LISTN", "x", "unknown setting HOLA_LISTN: did you mean HOLA_LISTEN?"),
        ("HOLA_THREADS", "two", "HOLA_THREADS='two' is not valid: expected integer"),
        ("HOLA_LISTEN", "7072", "'7072' is not an address"),
        ("HOLA_LISTEN", "0.0.0.0:0", "HOLA_INSECURE=1"),
        ("HOLA_METRICS_LISTEN", "nowhere", "HOLA_METRICS_LISTEN='nowhere' is not valid"),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_starts(
    capsys: pytest.CaptureFixture[str], name: str, value: str, expected: str
) -> None:
    app = FakeApp()
    assert run("verifier", app.build, {"HOLA_LOG_LEVEL": "error", name: value}) == 2
    assert app.steps == []
    output = capsys.readouterr().err
    assert output.startswith("hola-verifier: ")
    assert expected in output
    assert output.count("\n") == 1
