"""SIGHUP takes up what may change, says what waits, and keeps all when something is wrong."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import structlog

from hola.config import Settings, variables
from hola.errors import ConfigError
from hola.reload import RELOADED, Reloader, merged
from hola.telemetry import Metrics, configure_logging


@dataclass
class Part:
    """A service that keeps what it is given, or refuses."""

    given: list[Settings] = field(default_factory=list)
    refusal: ConfigError | None = None

    def reload(self, settings: Settings) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.given.append(settings)


@dataclass
class Source:
    """What the file says now."""

    now: Settings | ConfigError = field(default_factory=Settings)

    def read(self) -> Settings:
        if isinstance(self.now, ConfigError):
            raise self.now
        return self.now


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the reloader's log goes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure = partial(configure_logging, stream=stream)
    monkeypatch.setattr("hola.reload.configure_logging", configure)
    configure("router", Settings(log_format="json"))
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def last(logged: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(logged.getvalue().splitlines()[-1])
    return line


def count(metrics: Metrics, outcome: str) -> float:
    labels = {"outcome": outcome}
    return metrics.registry.get_sample_value("hola_config_reloads_total", labels) or 0


def test_what_may_change_changes_and_the_rest_waits(logged: io.StringIO) -> None:
    source, part, metrics = Source(), Part(), Metrics()
    running = Settings(listen="127.0.0.1:7070")
    reloader = Reloader("router", running, source.read, part, metrics)
    source.now = Settings(tenant_rate=3, max_calls=7)
    reloader.reload()
    assert part.given == [running.model_copy(update={"tenant_rate": 3})]
    told = last(logged)
    assert told["event"] == "settings_reloaded"
    assert told["changed"] == ["HOLA_TENANT_RATE"]
    assert told["at_next_start"] == ["HOLA_MAX_CALLS"]
    assert count(metrics, "done") == 1


def test_a_level_of_the_log_is_taken_up(logged: io.StringIO) -> None:
    source = Source()
    reloader = Reloader("router", Settings(log_format="json"), source.read, Part(), Metrics())
    source.now = Settings(log_level="error", log_format="json")
    reloader.reload()
    assert logging.getLogger().level == logging.ERROR
    source.now = Settings(log_level="debug", log_format="json")
    reloader.reload()
    assert logging.getLogger().level == logging.DEBUG
    assert last(logged)["changed"] == ["HOLA_LOG_LEVEL"]


@pytest.mark.parametrize("where", ["file", "part"])
def test_what_is_wrong_changes_nothing(logged: io.StringIO, where: str) -> None:
    wrong = ConfigError("HOLA_THREADS='x' is not valid")
    source, part, metrics = Source(), Part(), Metrics()
    reloader = Reloader("router", Settings(log_format="json"), source.read, part, metrics)
    if where == "file":
        source.now = wrong
    else:
        source.now, part.refusal = Settings(log_level="error"), wrong
    reloader.reload()
    assert part.given == []
    assert logging.getLogger().level == logging.INFO
    told = last(logged)
    assert (told["event"], told["why"]) == ("settings_not_reloaded", wrong.message)
    assert count(metrics, "refused") == 1
    source.now, part.refusal = Settings(tenant_rate=1), None
    reloader.reload()
    assert [each.tenant_rate for each in part.given] == [1]


def test_only_marked_settings_are_merged() -> None:
    marked = [row.name for row in variables() if row.reload == "SIGHUP"]
    assert list(RELOADED) == marked
    assert "HOLA_LOG_LEVEL" in RELOADED
    read = Settings(threads=3, kv_share=0.5)
    assert merged(Settings(), read).model_dump() == Settings(kv_share=0.5).model_dump()
