"""Logs carry ids and no user's text; each process has its own metrics."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator

import pytest
import structlog

from hola.config import Settings
from hola.security.redaction import REDACTED
from hola.telemetry import (
    Metrics,
    bind_ids,
    bound_ids,
    configure_logging,
    current_id,
    get_logger,
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where logs go during a test; the process's logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("verifier", Settings(log_format="json"), stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_service_time_and_ids(stream: io.StringIO) -> None:
    with bound_ids(request_id="r1", session_id="s1"):
        get_logger("x").info("opened", cached_tokens=3)
    get_logger("x").info("closed")
    first, second = lines(stream)
    assert first["event"] == "opened"
    assert first["level"] == "info"
    assert first["service"] == "verifier"
    assert (first["request_id"], first["session_id"]) == ("r1", "s1")
    assert first["cached_tokens"] == 3
    assert str(first["timestamp"]).endswith("Z")
    assert "request_id" not in second


def test_a_users_text_and_secrets_are_not_written(stream: io.StringIO) -> None:
    secret = "the patient's name is Ann"
    get_logger("x").info(
        "request", prompt=secret, text=secret, messages=[secret], password=secret, tokens=(1, 2)
    )
    get_logger("x").info("bus", url="redis://user:hunter2@redis:6379/0")
    first, second = lines(stream)
    assert "Ann" not in stream.getvalue()
    assert first["prompt"] == REDACTED
    assert first["tokens"] == REDACTED
    assert second["url"] == "redis://redis:6379/0"


def test_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("grpc").warning("connection %s lost", "a")
    (line,) = lines(stream)
    assert line["event"] == "connection a lost"
    assert line["level"] == "warning"


def test_levels_below_the_setting_are_not_written(stream: io.StringIO) -> None:
    get_logger("x").debug("quiet")
    logging.getLogger("x").debug("quiet")
    assert stream.getvalue() == ""


def test_an_exception_is_written_with_its_trace(stream: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("x").exception("failed")
    (line,) = lines(stream)
    assert "ValueError: broken" in str(line["exception"])


def test_console_form_on_request(stream: io.StringIO) -> None:
    configure_logging("router", Settings(log_format="console"), stream)
    get_logger("x").info("opened", request_id="r1")
    assert "opened" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        lines(stream)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("library", [False, True])
def test_a_secret_in_an_exception_is_not_written(
    stream: io.StringIO, form: str, library: bool
) -> None:
    configure_logging("router", Settings.model_validate({"log_format": form}), stream)
    try:
        raise ValueError("cannot reach redis://:hunter2@redis with Bearer abcdefghijkl")
    except ValueError:
        if library:
            logging.getLogger("redis").exception("failed for %s", b"Bearer abcdefghijkl\xff")
        else:
            get_logger("x").exception("failed", header="Bearer abcdefghijkl")
    assert "cannot reach redis://redis with Bearer" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "abcdefghijkl" not in stream.getvalue()


async def test_ids_belong_to_their_task() -> None:
    async def task(name: str) -> str:
        bind_ids(request_id=name)
        await asyncio.sleep(0)
        return current_id("request_id")

    assert await asyncio.gather(task("a"), task("b")) == ["a", "b"]
    assert current_id("request_id") == ""


async def test_ids_of_a_generator_that_another_task_closes() -> None:
    async def events() -> AsyncGenerator[int, None]:
        with bound_ids(request_id="inner"):
            yield 1

    generator = events()
    assert await anext(generator) == 1
    await asyncio.create_task(generator.aclose())


def test_two_sets_of_metrics_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.accepted_tokens.inc()
    assert other.registry.get_sample_value("hola_spec_decode_num_accepted_tokens_total") == 0
