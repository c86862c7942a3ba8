"""What bad input gets from a router over gRPC: status, reason, and a server that serves on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from hola.convert import request_to_pb
from hola.rpc.channel import open_channel
from hola.v1 import common_pb2, drafter_pb2, router_pb2, router_pb2_grpc
from tests.support.system import request, running_system

pytestmark = pytest.mark.redis
GENERATE = "/hola.v1.RouterService/Generate"
Message = router_pb2.RouterServiceGenerateRequest


@pytest.fixture(scope="module")
def database(start_redis):
    """A redis-server of this module's own."""
    return start_redis().url


@pytest.fixture
async def rig(tmp_path, database):
    """A channel to a router with all services behind it."""
    async with running_system("redis", tmp_path, database, max_message_bytes=65536) as system:
        big = system.settings.model_copy(update={"max_message_bytes": 2**22})
        channel = open_channel(f"unix://{tmp_path}/router.sock", big)
        yield channel
        await channel.close()


def message(**changes) -> Message:
    """A good request, with changes to its fields."""
    made = request_to_pb(request(""))
    for name, value in changes.items():
        made.ClearField(name)
        if isinstance(value, list):
            getattr(made, name).extend(value)
        elif name in ("sampling", "speculation"):
            getattr(made, name).CopyFrom(value)
        else:
            setattr(made, name, value)
    return made


def sampling(**fields) -> Message:
    return message(sampling=common_pb2.SamplingParams(**fields))


def speculation(**fields) -> Message:
    return message(speculation=common_pb2.SpeculationParams(**fields))


@dataclass(frozen=True)
class Bad:
    """A request and what it must get."""

    make: Callable[[], Message]
    code: grpc.StatusCode
    reason: str


INVALID = grpc.StatusCode.INVALID_ARGUMENT
TURN = router_pb2.ChatMessage(role="user", content="Hi")
BAD = {
    "unknown model": Bad(lambda: message(model="nope"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL"),
    "model with a path": Bad(
        lambda: message(model="../../etc"), grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL"
    ),
    "empty prompt": Bad(lambda: message(prompt=""), INVALID, "EMPTY_PROMPT"),
    "prompt and messages": Bad(lambda: message(messages=[TURN]), INVALID, "INVALID_REQUEST"),
    "prompt beyond the context": Bad(
        lambda: message(prompt="x" * 5000), grpc.StatusCode.OUT_OF_RANGE, "PROMPT_TOO_LONG"
    ),
    "nan temperature": Bad(lambda: sampling(temperature=math.nan), INVALID, "INVALID_SAMPLING"),
    "infinite temperature": Bad(
        lambda: sampling(temperature=math.inf), INVALID, "INVALID_SAMPLING"
    ),
    "hot": Bad(lambda: sampling(temperature=101), INVALID, "INVALID_SAMPLING"),
    "negative temperature": Bad(lambda: sampling(temperature=-1), INVALID, "INVALID_SAMPLING"),
    "nan top_p": Bad(lambda: sampling(top_p=math.nan), INVALID, "INVALID_SAMPLING"),
    "top_p above one": Bad(lambda: sampling(top_p=1.01), INVALID, "INVALID_SAMPLING"),
    "negative min_p": Bad(lambda: sampling(min_p=-0.5), INVALID, "INVALID_SAMPLING"),
    "top_k": Bad(lambda: sampling(top_k=2**31), INVALID, "INVALID_SAMPLING"),
    "seed": Bad(lambda: sampling(seed=2**63), INVALID, "INVALID_SAMPLING"),
    "max_tokens": Bad(lambda: sampling(max_tokens=2**21), INVALID, "INVALID_SAMPLING"),
    "stop that is not UTF-8": Bad(
        lambda: sampling(stop=[b"\xff\xfe"]), INVALID, "INVALID_SAMPLING"
    ),
    "empty stop": Bad(lambda: sampling(stop=[b""]), INVALID, "INVALID_SAMPLING"),
    "long stop": Bad(lambda: sampling(stop=[b"x" * 257]), INVALID, "INVALID_SAMPLING"),
    "many stops": Bad(lambda: sampling(stop=[b"x"] * 17), INVALID, "INVALID_SAMPLING"),
    "stop id outside the vocabulary": Bad(
        lambda: sampling(stop_token_ids=[4_000_000]), INVALID, "INVALID_SAMPLING"
    ),
    "long block": Bad(lambda: speculation(max_draft_tokens=65), INVALID, "INVALID_REQUEST"),
    "nan threshold": Bad(
        lambda: speculation(entropy_threshold=math.nan), INVALID, "INVALID_REQUEST"
    ),
    "unknown tier": Bad(lambda: speculation(ladder=["huge"]), INVALID, "INVALID_REQUEST"),
    "unknown mode": Bad(lambda: speculation(mode=99), INVALID, "INVALID_REQUEST"),
    "request id": Bad(lambda: message(request_id="a b"), INVALID, "INVALID_REQUEST"),
    "long request id": Bad(lambda: message(request_id="a" * 129), INVALID, "INVALID_REQUEST"),
    "no chat template": Bad(
        lambda: message(prompt="", messages=[TURN]), INVALID, "INVALID_REQUEST"
    ),
}


async def outcome(channel, wanted) -> tuple[grpc.StatusCode, str, list[drafter_pb2.GenerateEvent]]:
    """Status code, ErrorInfo.reason and events of one call."""
    events = []
    call = router_pb2_grpc.RouterServiceStub(channel).Generate(wanted, timeout=20)
    try:
        async for answer in call:
            events.append(answer.event)
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error), events
    return grpc.StatusCode.OK, "", events


def reason_of(error) -> str:
    """The reason in google.rpc.ErrorInfo, or "" without details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            status_pb2.Status.FromString(value).details[0].Unpack(info)
            return info.reason
    return ""


async def check_serves(channel) -> None:
    code, _, events = await outcome(channel, message())
    assert code is grpc.StatusCode.OK
    assert events[-1].WhichOneof("event") == "finished"


async def test_every_bad_request_gets_its_status(rig):
    for name, bad in BAD.items():
        code, reason, events = await outcome(rig, bad.make())
        assert (code, reason) == (bad.code, bad.reason), name
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds in ([], ["failed"]), f"{name}: {kinds}"
    await check_serves(rig)


async def test_garbage_bytes_are_refused(rig):
    raw = rig.unary_stream(GENERATE)
    for garbage in (b"\xff" * 40, b"\x1a\x02\xff\xfe", b"\x0a\xff"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in raw(garbage, timeout=10)]
        assert caught.value.code() in (grpc.StatusCode.INTERNAL, INVALID), garbage
    await check_serves(rig)


async def test_an_oversized_message_is_refused(rig):
    code, _, _ = await outcome(rig, message(prompt="x" * 200_000))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await check_serves(rig)


async def test_resume_and_cancel_refuse_bad_ids(rig):
    stub = router_pb2_grpc.RouterServiceStub(rig)
    for request_id, code in (("a b", INVALID), ("", INVALID), ("no", grpc.StatusCode.NOT_FOUND)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Cancel(router_pb2.RouterServiceCancelRequest(request_id=request_id))
        assert caught.value.code() is code, request_id
        resume = router_pb2.RouterServiceResumeRequest(request_id=request_id, position=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [answer async for answer in stub.Resume(resume, timeout=10)]
        assert caught.value.code() is code, request_id
    await check_serves(rig)


async def test_a_full_queue_says_when_to_come_back(tmp_path, database):
    async with running_system("redis", tmp_path, database, queue_limit=1, concurrency=1) as system:
        system.engine.hold()
        channel = open_channel(f"unix://{tmp_path}/router.sock", system.settings)
        stub = router_pb2_grpc.RouterServiceStub(channel)
        first = stub.Generate(message(), timeout=20)
        await system.engine.in_pass()
        code, reason, _ = await outcome(channel, message())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        system.engine.release()
        kinds = [answer.event.WhichOneof("event") async for answer in first]
        assert kinds[-1] == "finished"
        await channel.close()
