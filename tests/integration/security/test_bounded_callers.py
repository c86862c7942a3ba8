"""Nobody fills a server up: silent strangers, many connections, one tenant with many calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hola.config import Settings
from hola.errors import HolaError, QuotaExceeded
from hola.rpc.channel import open_channel, wait_ready
from hola.security.api_keys import new_key
from tests.support.front_door import front_door, keys_file, refusal, shown, who
from tests.support.rpc import KINDS, running_kinds
from tests.support.security import Pki

ACME, OTHER = new_key("acme"), new_key("other")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stranger_is_refused_before_anything_is_read(tmp_path: Path, kind: str) -> None:
    """Calls that send nothing would otherwise fill the server up."""
    async with front_door(api_keys=keys_file(tmp_path, ACME), max_calls=3) as rig:
        for _ in range(10):
            call = rig.channel.stream_stream(f"/hola.test.Kinds/{kind}")()
            assert await code_of(call) is grpc.StatusCode.UNAUTHENTICATED
        assert await rig.call(kind, **shown(ACME.text))


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_a_request_that_does_not_come_is_not_waited_for(kind: str) -> None:
    async with running_kinds(rpc_timeout_s=0.2) as rig:
        silent = rig.channel.stream_stream(f"/hola.test.Kinds/{kind}")()
        assert await code_of(silent) is grpc.StatusCode.DEADLINE_EXCEEDED
        empty = rig.channel.stream_stream(f"/hola.test.Kinds/{kind}")()
        await empty.done_writing()
        assert await code_of(empty) is grpc.StatusCode.INVALID_ARGUMENT
        assert await rig.call(kind)


async def code_of(call: Any) -> grpc.StatusCode:
    """How a call ends whose client sends nothing more."""
    async with asyncio.timeout(20):
        return await call.code()


async def test_a_tenant_runs_so_many_calls_and_others_run_theirs(tmp_path: Path) -> None:
    running, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def act(text: str) -> str:
        running.release()
        await may_end.wait()
        return text

    async with front_door(
        act, api_keys=keys_file(tmp_path, ACME, OTHER), max_calls_per_tenant=2
    ) as rig:
        calls = [asyncio.create_task(rig.call(kind, **shown(ACME.text))) for kind in KINDS[:2]]
        async with asyncio.timeout(20):
            await running.acquire()
            await running.acquire()
        full = await refusal(rig, **shown(ACME.text))
        assert type(full) is QuotaExceeded
        assert full.details == {"tenant": "acme", "retry_after_ms": "1000"}
        calls.append(asyncio.create_task(rig.call("unary_unary", **shown(OTHER.text))))
        async with asyncio.timeout(20):
            await running.acquire()
        may_end.set()
        await asyncio.gather(*calls)
        assert await rig.call("unary_unary", **shown(ACME.text))


async def test_a_tenant_gets_its_places_back_however_a_call_ends(tmp_path: Path) -> None:
    started = asyncio.Semaphore(0)

    async def act(text: str) -> str:
        started.release()
        if text == "fail":
            raise ValueError(text)
        await asyncio.Event().wait()
        return text

    async with front_door(act, api_keys=keys_file(tmp_path, ACME), max_calls_per_tenant=1) as rig:
        for kind in KINDS:
            call = rig.start_call(kind, **shown(ACME.text))
            async with asyncio.timeout(20):
                await started.acquire()
                call.cancel()
                await rig.servicer.cancelled.wait()
            rig.servicer.cancelled.clear()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await rig.call(kind, "fail", timeout=20, **shown(ACME.text))
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            await started.acquire()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_connections_are_bounded_and_come_back(pki: Pki, encrypted: bool) -> None:
    """Whoever opens many and says nothing is hung up on; who is connected does not notice."""
    tls = pki.settings("verifier") if encrypted else {}
    client = Settings(**pki.settings("drafter")) if encrypted else None
    options = {"max_connections": 5, "connect_timeout_s": 0.5}
    async with running_kinds(who, client=client, **tls, **options) as rig:
        assert await rig.call("unary_unary")
        host, _, port = rig.server.address.partition("://")[2].partition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        assert await rig.call("unary_unary")
        async with asyncio.timeout(30):
            for reader, writer in opened:
                with suppress(ConnectionResetError):
                    await reader.read()
                writer.close()
        fresh = open_channel(rig.server.address, client or Settings())
        await wait_ready(fresh, 20, HolaError("no connection"))
        await fresh.close()
