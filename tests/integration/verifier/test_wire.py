"""The stream on the wire: one terminal message, garbage, limits, health during a pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hola.config import Settings
from hola.convert import verifier_request_to_pb
from hola.errors import InvalidRequest, ProtocolViolation, SessionLost, VerifierUnavailable
from hola.rpc.channel import open_channel
from hola.rpc.errors import error_from_call
from hola.rpc.verifier_client import GrpcVerifier
from hola.types import CancelSession, DraftBlock, SamplingParams, VerifierRequest
from hola.v1 import verifier_pb2
from tests.support.verifier import Rig, ask, eventually, plain, reference, running_verifier

METHOD = "/hola.v1.VerifierService/Verify"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_verifier("loopback", tmp_path, max_message_bytes=64 * 1024) as rig:
        yield rig


@pytest.fixture
async def channel(rig: Rig) -> AsyncIterator[grpc.aio.Channel]:
    channel = open_channel(
        rig.app.address, rig.settings.model_copy(update={"max_message_bytes": 2**22})
    )
    yield channel
    await channel.close()


async def converse(
    channel: grpc.aio.Channel, *messages: VerifierRequest | bytes
) -> tuple[list[str], grpc.StatusCode, Any]:
    """Send messages and half-close: the kinds of all answers, the status, the error."""
    method: Any = channel.stream_stream(
        METHOD, response_deserializer=verifier_pb2.VerifyResponse.FromString
    )
    packed = [
        message
        if isinstance(message, bytes)
        else verifier_request_to_pb(message).SerializeToString()
        for message in messages
    ]
    call = method(iter(packed), timeout=20)
    kinds: list[str] = []
    error = None
    try:
        async for answer in call:
            kinds.append(answer.WhichOneof("message"))
    except grpc.aio.AioRpcError as raised:
        error = error_from_call(raised)
    return kinds, await call.code(), error


async def test_a_session_ends_with_one_done(rig: Rig, channel: grpc.aio.Channel) -> None:
    block = DraftBlock(round=1, base_position=0)
    kinds, code, _ = await converse(channel, rig.open_request(), block, CancelSession())
    assert kinds == ["opened", "verdict", "done"]
    assert code is grpc.StatusCode.OK


async def test_what_follows_a_cancel_is_not_read(rig: Rig, channel: grpc.aio.Channel) -> None:
    kinds, code, _ = await converse(
        channel, rig.open_request(), CancelSession(), rig.open_request(), CancelSession()
    )
    assert kinds == ["opened", "done"]
    assert code is grpc.StatusCode.OK


async def test_a_half_closed_stream_ends_with_done_and_keeps_the_cache(
    rig: Rig, channel: grpc.aio.Channel
) -> None:
    kinds, code, _ = await converse(channel, rig.open_request())
    assert kinds == ["opened", "done"]
    assert code is grpc.StatusCode.OK
    assert rig.app.host.info().active_sessions == 0
    assert rig.app.host.info().kv_bytes > 0


async def test_a_failure_is_one_message_and_the_status(rig: Rig, channel: grpc.aio.Channel) -> None:
    kinds, code, error = await converse(
        channel,
        rig.open_request(),
        DraftBlock(round=1, base_position=5),
        DraftBlock(round=1, base_position=0),
    )
    assert kinds == ["opened", "failed"]
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert type(error) is ProtocolViolation


GARBAGE = {
    "random bytes": b"\xff\xfe\xfd",
    "truncated message": verifier_pb2.VerifyRequest(
        open=verifier_pb2.Open(session_id="x" * 50)
    ).SerializeToString()[:-5],
    "empty message": b"",
    "open without anything": verifier_pb2.VerifyRequest(
        open=verifier_pb2.Open()
    ).SerializeToString(),
    "stop string of invalid UTF-8": verifier_pb2.VerifyRequest(
        open=verifier_pb2.Open(
            session_id="x", prompt_token_ids=[1], sampling={"stop": [b"\xff\xfe"]}
        )
    ).SerializeToString(),
    "seed out of range": verifier_pb2.VerifyRequest(
        open=verifier_pb2.Open(session_id="x", prompt_token_ids=[1], sampling={"seed": 2**63})
    ).SerializeToString(),
    "block of 65 tokens": verifier_pb2.VerifyRequest(
        block=verifier_pb2.DraftBlock(round=1, token_ids=[1] * 65)
    ).SerializeToString(),
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_garbage_is_refused_and_the_verifier_goes_on(
    rig: Rig, channel: grpc.aio.Channel, case: str
) -> None:
    """The seed's answer waits for the tokenizer's, which comes first; both are the caller's."""
    kinds, code, error = await converse(channel, GARBAGE[case])
    assert kinds == ["failed"]
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    assert error is not None
    link = await rig.opened(session_id="next")
    assert await plain(link, 2) == reference(rig.engine, 2)


async def test_an_oversized_open_is_refused_and_the_verifier_goes_on(
    rig: Rig, channel: grpc.aio.Channel
) -> None:
    kinds, code, error = await converse(channel, rig.open_request(prompt=(200,) * 70_000))
    assert kinds == []
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert type(error) is InvalidRequest
    link = await rig.port.connect()
    with pytest.raises(InvalidRequest, match="larger than max"):
        await ask(link, rig.open_request(prompt=(200,) * 70_000))
    link = await rig.opened(session_id="next")
    assert await plain(link, 2) == reference(rig.engine, 2)


async def test_health_answers_during_a_pass(rig: Rig, channel: grpc.aio.Channel) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request())
    await rig.engine.in_pass()
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="hola.v1.VerifierService")
    answer = await stub.Check(request, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    rig.engine.release()
    async with asyncio.timeout(10):
        await link.receive()


async def test_a_deadline_stops_the_prefill(rig: Rig) -> None:
    prompt = tuple(index % 256 for index in range(3000))
    rig.engine.hold()
    channel = open_channel(rig.app.address, rig.settings)
    method: Any = channel.stream_stream(METHOD)
    packed = verifier_request_to_pb(rig.open_request(prompt=prompt)).SerializeToString()
    call = method(iter([packed]), timeout=0.3)
    await rig.engine.in_pass()
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: rig.app.host.info().active_sessions == 0, "the stream is gone")
    rig.engine.release()
    await eventually(lambda: rig.app.host.info().queue_depth == 0, "the engine is idle")
    assert len(rig.engine.passes) == 1
    await channel.close()


async def test_a_stopped_verifier_is_a_lost_session_then_unavailable(tmp_path: Path) -> None:
    async with running_verifier("unix", tmp_path, connect_timeout_s=0.3) as rig:
        link = await rig.opened()
        await plain(link, 2)
        await rig.app.stop()
        with pytest.raises(SessionLost):
            await ask(link, DraftBlock(round=3, base_position=2))
        with pytest.raises(VerifierUnavailable) as raised:
            await rig.port.connect()
        assert raised.value.details["address"] == rig.port.address
        with pytest.raises(VerifierUnavailable):
            await rig.port.info()


async def test_another_verifier_of_equal_numerics_goes_on_with_the_text(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sampling = SamplingParams(temperature=0.8, seed=3, max_tokens=32)
    async with running_verifier("unix", tmp_path / "a") as first:
        truth = reference(first.engine, 10, sampling)
        link = await first.opened(sampling=sampling)
        assert await plain(link, 4) == truth[:4]
    async with running_verifier("unix", tmp_path / "b") as second:
        link = await second.opened(
            sampling=sampling,
            committed=tuple(truth[:4]),
            required_fingerprint=first.target.digest,
            allow_degraded=False,
        )
        assert await plain(link, 6, base=4) == truth[4:]


async def test_an_answer_that_never_comes_is_a_lost_session(tmp_path: Path) -> None:
    async with running_verifier("unix", tmp_path, answer_timeout_s=0.2) as rig:
        rig.engine.hold()
        link = await rig.port.connect()
        await link.send(rig.open_request())
        with pytest.raises(SessionLost, match="did not answer"):
            await link.receive()


async def test_closing_a_link_ends_a_pending_receive(rig: Rig) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request())
    receiving = asyncio.create_task(link.receive())
    await rig.engine.in_pass()
    await link.close()
    await link.close()
    async with asyncio.timeout(5):
        with pytest.raises(SessionLost, match="closed"):
            await receiving
        with pytest.raises(SessionLost):
            await link.send(DraftBlock(round=1, base_position=0))


async def test_cancelling_a_receive_is_a_cancellation(rig: Rig) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request())
    receiving = asyncio.create_task(link.receive())
    await rig.engine.in_pass()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert receiving.cancelled()


@pytest.mark.parametrize("refuses", [False, True], ids=["silent", "refuses"])
async def test_resetting_the_channel_ends_a_pending_connect(tmp_path: Path, refuses: bool) -> None:
    """Not as a cancellation of whoever connects, which nobody has asked for."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1024):
                pass
        finally:
            writer.close()

    path = f"{tmp_path}/silent.sock"
    server = None if refuses else await asyncio.start_unix_server(silent, path)
    port = GrpcVerifier(f"unix://{path}", Settings(connect_timeout_s=60))
    for pause_s in (0, 0.002, 0.01, 0.05):
        connecting = asyncio.create_task(port.connect())
        asking = asyncio.create_task(port.info())
        await asyncio.sleep(pause_s)
        await port.reset()
        async with asyncio.timeout(20):
            for task in (connecting, asking):
                if pause_s:  # else they have not begun and go on with a new channel
                    with pytest.raises(VerifierUnavailable):
                        await task
                else:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
    await port.close()
    if server is not None:
        server.close()
        await server.wait_closed()


async def test_a_verifier_that_comes_back_is_found_again(tmp_path: Path) -> None:
    port = GrpcVerifier(f"unix://{tmp_path}/verifier.sock", _impatient())
    with pytest.raises(VerifierUnavailable):
        await port.connect()
    async with running_verifier("unix", tmp_path) as rig:
        found = GrpcVerifier(rig.app.address, rig.settings)
        assert (await found.info()).model == "scripted"
        async with asyncio.timeout(10):
            assert (await _patiently(port)) == "scripted"
        await found.close()
    await port.close()


def _impatient() -> Settings:
    return Settings(connect_timeout_s=0.2)


async def _patiently(port: GrpcVerifier) -> str:
    while True:
        try:
            return (await port.info()).model
        except VerifierUnavailable:
            continue
