"""Drafters that break the rules on a real socket: typed errors, bounded room, others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hola.convert import verifier_request_to_pb
from hola.errors import InvalidRequest, Overloaded, ProtocolViolation, SessionLost
from hola.rpc.channel import open_channel
from hola.types import DraftBlock
from hola.v1 import verifier_pb2
from tests.support.verifier import Rig, ask, eventually, plain, reference, running_verifier

METHOD = "/hola.v1.VerifierService/Verify"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_verifier("loopback", tmp_path, max_sessions=8, rpc_timeout_s=0.5) as rig:
        yield rig


async def raw_call(rig: Rig, *messages: bytes) -> tuple[grpc.aio.Channel, Any]:
    """A call whose messages are bytes of the test's own; it stays open."""
    channel = open_channel(rig.app.address, rig.settings)
    method: Any = channel.stream_stream(METHOD)
    call = method()
    for message in messages:
        await call.write(message)
    return channel, call


async def status_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(20):
        while await call.read() is not grpc.aio.EOF:
            pass
        code: grpc.StatusCode = await call.code()
        return code


async def test_ten_thousand_draft_tokens_cost_nothing(rig: Rig) -> None:
    good = await rig.opened(session_id="good")
    huge = verifier_pb2.VerifyRequest(
        block=verifier_pb2.DraftBlock(round=1, token_ids=[1] * 10_000)
    )
    opening = verifier_request_to_pb(rig.open_request(session_id="bad"))
    channel, call = await raw_call(rig, opening.SerializeToString(), huge.SerializeToString())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await status_of(call)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.width for each in rig.engine.passes if each.kind == "forward"] == []
    assert await plain(good, 2) == reference(rig.engine, 2)
    await channel.close()


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (DraftBlock(round=3, base_position=7), ProtocolViolation),
        (DraftBlock(round=3, base_position=1), ProtocolViolation),
        (DraftBlock(round=9, base_position=2), ProtocolViolation),
        (DraftBlock(round=2, base_position=1, tokens=(4,)), ProtocolViolation),
        (DraftBlock(round=3, base_position=2, tokens=(2**31,)), ProtocolViolation),
        (DraftBlock(round=3, base_position=2, tokens=(1,) * 65), InvalidRequest),
    ],
    ids=["base ahead", "base behind", "round ahead", "round again", "vocabulary", "length"],
)
async def test_a_wrong_block_ends_its_own_session_only(
    rig: Rig, block: DraftBlock, kind: type[Exception]
) -> None:
    good = await rig.opened(session_id="good")
    bad = await rig.opened(session_id="bad")
    await plain(bad, 2)
    with pytest.raises(kind):
        await ask(bad, block)
    assert await plain(good, 3) == reference(rig.engine, 3)
    again = await rig.opened(session_id="bad", committed=tuple(reference(rig.engine, 2)))
    assert await plain(again, 2, base=2) == reference(rig.engine, 4)[2:]


async def test_a_repeated_round_gets_the_same_verdict(rig: Rig) -> None:
    link = await rig.opened()
    block = DraftBlock(round=1, base_position=0, tokens=(1, 2, 3))
    first = await ask(link, block)
    passes = len(rig.engine.passes)
    second = await ask(link, block)
    assert (second.round, second.accepted, second.token) == (1, first.accepted, first.token)
    assert len(rig.engine.passes) == passes


async def test_streams_that_never_open_are_ended_before_sessions_are(rig: Rig) -> None:
    """rpc_timeout_s is the deadline; session_ttl_s is two minutes."""
    calls = [await raw_call(rig) for _ in range(30)]
    good = await rig.opened(session_id="good")
    for channel, call in calls:
        await call.wait_for_connection()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await status_of(call)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await channel.close()
    assert await plain(good, 2) == reference(rig.engine, 2)


async def test_a_thousand_idle_sessions_leave_room_for_the_active_one(rig: Rig) -> None:
    """Eight caches: the active session keeps its own, whoever left makes room, nothing grows."""
    active = await rig.opened(session_id="active")
    truth = reference(rig.engine, 11)
    tokens: list[int] = []

    async def idle(name: str) -> None:
        link = await rig.opened(session_id=name)
        await link.close()

    for batch in range(200):
        await asyncio.gather(*(idle(f"idle-{batch}-{number}") for number in range(5)))
        if batch % 20 == 0:
            at = len(tokens)
            tokens += await plain(active, 1, first_round=at + 1, base=at)
        await eventually(lambda: rig.app.host.info().active_sessions == 1, "the idle ones left")
    assert tokens == truth[:10]
    assert rig.engine.opened_sessions - rig.engine.closed_sessions <= 8
    info = rig.app.host.info()
    assert info.kv_bytes <= 8 * (len(b"Tom has 12 apples.") + 64 + 66) * 8


async def test_idle_streams_beyond_the_bound_are_refused(rig: Rig) -> None:
    links = [await rig.opened(session_id=f"s{number}") for number in range(8)]
    for number in range(20):
        link = await rig.port.connect()
        with pytest.raises(Overloaded):
            await ask(link, rig.open_request(session_id=f"late-{number}"))
        await link.close()
    for link in links:
        assert await plain(link, 1) == reference(rig.engine, 1)


async def test_random_bytes_never_reach_the_engine(rig: Rig) -> None:
    good = await rig.opened(session_id="good")
    before = len(rig.engine.passes)
    for junk in (b"\x00" * 100, bytes(range(256)), b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x03abc"):
        channel, call = await raw_call(rig, junk)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await status_of(call)
        assert raised.value.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.FAILED_PRECONDITION,
        )
        await channel.close()
    assert len(rig.engine.passes) == before
    assert await plain(good, 2) == reference(rig.engine, 2)


async def test_an_expired_stream_is_told_so(tmp_path: Path) -> None:
    async with running_verifier("loopback", tmp_path, session_ttl_s=0.2) as rig:
        link = await rig.opened()
        with pytest.raises(SessionLost, match="idle"):
            async with asyncio.timeout(20):
                await link.receive()
