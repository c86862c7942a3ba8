"""Tracing is off unless it is asked for, and then says names and numbers, never what was raised."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hola import genai, tracing
from hola.config import Settings
from hola.convert import decode_job, encode_job
from hola.errors import ConfigError, InvalidRequest
from hola.rpc.channel import call_metadata
from hola.types import Failure, GenerateJob, SamplingParams

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def spans(tmp_path: Path):
    """Traces to a file for the time of the test; gives what reads it, which ends the tracing."""
    file = tmp_path / "spans.jsonl"
    exporting = tracing.exporting("test", Settings(trace=f"file:{file}", name="me"))
    exporting.__enter__()
    ended = False

    def read() -> list[dict[str, Any]]:
        nonlocal ended
        ended = True
        exporting.__exit__(None, None, None)
        return [json.loads(line) for line in file.read_text().splitlines()]

    yield read
    if not ended:
        exporting.__exit__(None, None, None)


def test_off_there_is_nothing() -> None:
    with tracing.span("a") as outer, tracing.held("b", {"x": 1}) as inner:
        assert outer is inner is tracing.OFF
        assert tracing.current_ids() == {}
        assert call_metadata("r1") == (("x-request-id", "r1"),)
        inner.set({"y": 2})
        inner.event("now")
    with tracing.exporting("test", Settings()):
        assert tracing.begin("c", parent=PARENT) is tracing.OFF


def test_spans_hang_together(spans) -> None:
    with tracing.span("outer", kind="server", parent=PARENT) as outer:
        assert call_metadata("r1") == (("x-request-id", "r1"), ("traceparent", outer.traceparent))
        with tracing.held("inner", {"n": 3, "none": None}):
            assert tracing.current() is outer
        ids = tracing.current_ids()
    assert tracing.current() is tracing.OFF
    inner, written = spans()
    assert (inner["name"], inner["attributes"]) == ("inner", {"n": 3})
    assert inner["parent_id"] == written["span_id"] == ids["span_id"]
    assert (written["trace_id"], written["parent_id"]) == ("a" * 32, "b" * 16)
    assert (written["kind"], written["service"], written["instance"]) == (
        "server",
        "hola-test",
        "me",
    )


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (InvalidRequest("the text was: secret"), "INVALID_REQUEST"),
        (ValueError("secret"), "ValueError"),
        (asyncio.CancelledError("secret"), ""),
        (GeneratorExit("secret"), ""),
    ],
)
def test_an_error_is_told_by_its_kind_alone(spans, raised: BaseException, error: str) -> None:
    with pytest.raises(type(raised)), tracing.span("call"):
        raise raised
    (span,) = spans()
    assert span["error"] == error
    assert "secret" not in json.dumps(span)


async def test_a_generator_that_another_task_closes_ends_its_span(spans) -> None:
    async def events():
        with tracing.span("stream"):
            yield 1

    generator = events()
    assert await anext(generator) == 1
    await asyncio.create_task(generator.aclose())
    assert [span["name"] for span in spans()] == ["stream"]


async def test_tasks_have_spans_of_their_own(spans) -> None:
    async def task(name: str) -> str:
        tracing.enter(tracing.begin(name))
        await asyncio.sleep(0)
        return tracing.current().traceparent

    one, other = await asyncio.gather(task("a"), task("b"))
    assert one != other
    assert tracing.current() is tracing.OFF


def test_a_job_carries_its_trace() -> None:
    job = GenerateJob(request_id="r1", model="demo", prompt="Hi", traceparent=PARENT)
    assert decode_job(encode_job(job)) == job


@pytest.mark.parametrize(
    "spec", ["x", "file:", "otlp:host:1", "otlp://host", "http://host:4317", "otlp://a b:1"]
)
def test_a_place_that_is_none_is_refused(spec: str) -> None:
    with (
        pytest.raises(ConfigError, match="HOLA_TRACE="),
        tracing.exporting("test", Settings(trace=spec)),
    ):
        raise AssertionError("must not trace")


def test_a_file_that_cannot_be_written_is_refused() -> None:
    wanted = Settings(trace="file:/nowhere/spans.jsonl")
    with (
        pytest.raises(ConfigError, match=r"spans\.jsonl: No such file"),
        tracing.exporting("test", wanted),
    ):
        raise AssertionError("must not trace")


def test_a_share_of_none_traces_nobody_but_who_was_chosen_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    with tracing.exporting("test", Settings(trace=f"file:{file}", trace_share=0)):
        with tracing.span("unchosen"):
            pass
        with tracing.span("chosen", parent=PARENT):
            pass
    assert [json.loads(line)["name"] for line in file.read_text().splitlines()] == ["chosen"]


def test_attributes_are_of_the_conventions_and_hold_no_text() -> None:
    sampling = SamplingParams(seed=2**64 - 1, stop=("secret",), max_tokens=7)
    asked = genai.of_request("demo", sampling, request_id="r1")
    assert asked["gen_ai.request.max_tokens"] == 7
    assert asked["gen_ai.request.seed"] is None
    assert "secret" not in str(asked)
    failed = genai.of_end(Failure(reason="X", message="secret", grpc_code=13, details={"a": "b"}))
    assert failed == {"gen_ai.response.finish_reasons": ["error"], "error.type": "X"}
