"""What a caller sees of errors, limits and deadlines, for each of the four kinds of call."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from hola.errors import (
    DeadlineExceeded,
    HolaError,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    PromptTooLong,
)
from hola.rpc.channel import REQUEST_ID_KEY
from hola.rpc.errors import DETAILS_KEY, error_from_call
from hola.telemetry import current_id
from tests.support.rpc import KINDS, SERVICE, Message, read_all, running_kinds
from tests.support.verifier import eventually


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def refuse(text: str) -> str:
    raise Overloaded(f"busy with {text}", retry_after_ms=1500, limit=7)


async def crash(text: str) -> str:
    raise KeyError(f"the secret {text}")


async def wait_for_ever(text: str) -> str:
    await asyncio.Event().wait()
    return text


async def test_an_answer_passes_through(kind: str) -> None:
    async with running_kinds() as rig:
        answers = await rig.call(kind, "a", "b") if kind.startswith("stream") else None
        answers = answers or await rig.call(kind, "a")
    expected = {
        "unary_unary": ["a"],
        "unary_stream": ["a", "a"],
        "stream_unary": ["a,b"],
        "stream_stream": ["a", "b"],
    }
    assert answers == expected[kind]


async def test_a_hola_error_arrives_as_itself(kind: str) -> None:
    async with running_kinds(refuse) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call(kind, "x")
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = error_from_call(raised.value)
        assert type(error) is Overloaded
        assert error.message == "busy with x"
        assert error.details == {"retry_after_ms": "1500", "limit": "7"}


async def test_rich_details_carry_reason_and_retry_time() -> None:
    async with running_kinds(refuse) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call("unary_unary", "x")
    packed = dict(list(raised.value.trailing_metadata()))[DETAILS_KEY]
    assert isinstance(packed, bytes)
    status = status_pb2.Status.FromString(packed)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain) == ("OVERLOADED", "hola")
    assert retry.retry_delay.ToMilliseconds() == 1500


async def test_an_unexpected_error_tells_nothing_but_where_to_look(kind: str) -> None:
    async with running_kinds(crash) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call(kind, "x", metadata=((REQUEST_ID_KEY, "request-17"),))
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(raised.value.details())
    assert "request-17" in str(raised.value.details())
    assert type(error_from_call(raised.value)) is HolaError


@pytest.mark.parametrize("given", ["a" * 129, "two words", "{json}", "a/b"])
async def test_what_is_no_request_id_reaches_no_log(given: str) -> None:
    async def bound(text: str) -> str:
        return current_id("request_id")

    async with running_kinds(bound) as rig:
        call = rig.start_call("unary_unary", metadata=((REQUEST_ID_KEY, given),))
        (logged,) = await read_all(call)
        made = dict(list(await call.trailing_metadata()))[REQUEST_ID_KEY]
    assert made == logged != given
    assert len(made) == 32


async def test_the_request_id_comes_back(kind: str) -> None:
    async with running_kinds() as rig:
        call = rig.start_call(kind, "x", metadata=((REQUEST_ID_KEY, "mine"),))
        await read_all(call)
        assert dict(list(await call.trailing_metadata()))[REQUEST_ID_KEY] == "mine"
        call = rig.start_call(kind, "x")
        await read_all(call)
        made = dict(list(await call.trailing_metadata()))[REQUEST_ID_KEY]
        assert len(str(made)) == 32


async def test_bytes_that_are_no_message_are_the_callers_error(kind: str) -> None:
    async with running_kinds() as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call(kind, raw=b"\xff\xff\xff")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert type(error_from_call(raised.value)) is InvalidRequest
        assert await rig.call("unary_unary", "still serving") == ["still serving"]


async def test_an_oversized_message_is_refused_and_the_server_goes_on(kind: str) -> None:
    async with running_kinds(max_message_bytes=2048) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call(kind, "x" * 4096)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = error_from_call(raised.value)
        assert type(error) is InvalidRequest
        assert "larger than max" in error.message
        assert await rig.call("unary_unary", "still serving") == ["still serving"]


async def test_the_callers_deadline_stops_the_work(kind: str) -> None:
    async with running_kinds(wait_for_ever) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call(kind, "x", timeout=0.2)
        assert type(error_from_call(raised.value)) is DeadlineExceeded
        async with asyncio.timeout(10):
            await rig.servicer.cancelled.wait()


async def test_cancelling_a_call_stops_the_work(kind: str) -> None:
    started = asyncio.Event()

    async def start_and_wait(text: str) -> str:
        started.set()
        return await wait_for_ever(text)

    async with running_kinds(start_and_wait) as rig:
        call = rig.start_call(kind, "x")
        async with asyncio.timeout(10):
            await started.wait()
            call.cancel()
            await rig.servicer.cancelled.wait()


async def test_an_unknown_method_is_unimplemented() -> None:
    async with running_kinds() as rig:
        method = rig.channel.unary_unary(f"/{SERVICE}/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(Message().SerializeToString())
    assert type(error_from_call(raised.value)) is NotImplementedYet


async def test_calls_are_counted_by_code() -> None:
    async with running_kinds(refuse) as rig:
        with pytest.raises(grpc.aio.AioRpcError):
            await rig.call("unary_unary", "x")
        method = f"/{SERVICE}/unary_unary"
        labels = {"method": method, "code": "RESOURCE_EXHAUSTED"}
        sample = rig.metrics.registry.get_sample_value
        await eventually(lambda: sample("hola_rpcs_total", labels) == 1, "the call is counted")
        assert sample("hola_rpc_seconds_count", {"method": method}) == 1


async def test_more_calls_than_allowed_are_told_to_come_back() -> None:
    async with running_kinds(wait_for_ever, max_calls=2) as rig:
        running = [rig.start_call("unary_unary", "x") for _ in range(3)]
        errors = []
        async with asyncio.timeout(10):
            for call in asyncio.as_completed(
                [asyncio.ensure_future(call.code()) for call in running]
            ):
                errors.append(await call)
                break
        assert errors == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        refused = [call for call in running if call.done()]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await refused[0]
        assert type(error_from_call(raised.value)) is Overloaded
        for call in running:
            call.cancel()


async def test_a_very_long_error_still_arrives() -> None:
    async def explain(text: str) -> str:
        raise PromptTooLong("ü" * 100_000, prompt_tokens=5, got="y" * 100_000)

    async with running_kinds(explain) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rig.call("unary_unary", "x")
    error = error_from_call(raised.value)
    assert type(error) is PromptTooLong
    assert error.details["prompt_tokens"] == "5"
    assert 0 < len(error.message) <= 1000
