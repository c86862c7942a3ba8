"""VerifierPort of a verifier that drains: every session is given away, nothing is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hola.errors import SessionMoved
from hola.speculation.verifier_session import PREFILL_CHUNK_TOKENS
from hola.types import DraftBlock
from tests.support.verifier import PROMPT, Rig, ask, eventually, plain, reference, running_verifier

LONG_PROMPT = tuple(index % 256 for index in range(20 * PREFILL_CHUNK_TOKENS))


async def test_an_idle_session_is_ended_at_once_and_its_cache_freed(rig: Rig) -> None:
    link = await rig.opened()
    await plain(link, 3)
    async with asyncio.timeout(20):
        assert await rig.app.host.door.drain(20)
        with pytest.raises(SessionMoved):
            await link.receive()
    await eventually(lambda: rig.engine.closed_sessions == 1, "its cache is freed")
    assert rig.app.host.info().kv_bytes == 0
    value = rig.app.metrics.registry.get_sample_value
    assert value("hola_verifier_draining") == 1
    assert value("hola_verifier_sessions_closed_total", {"why": "moved"}) == 1


async def test_an_answer_under_way_still_comes(rig: Rig) -> None:
    link = await rig.opened()
    rig.engine.hold()
    await link.send(DraftBlock(round=1, base_position=0))
    await rig.engine.in_pass()
    draining = asyncio.create_task(rig.app.host.door.drain(20))
    await eventually(lambda: rig.app.host.info().draining, "it drains")
    assert not draining.done()
    rig.engine.release()
    async with asyncio.timeout(20):
        verdict = await link.receive()
        assert [verdict.token] == reference(rig.engine, 1)
        with pytest.raises(SessionMoved):
            await link.receive()
        assert await draining


async def test_new_sessions_are_sent_elsewhere(rig: Rig) -> None:
    await rig.app.host.door.drain(0)
    assert (await rig.port.info()).draining
    for _ in range(3):
        link = await rig.port.connect()
        async with asyncio.timeout(20):
            with pytest.raises(SessionMoved):
                await ask(link, rig.open_request())
        await link.close()
    assert rig.engine.opened_sessions == 0


async def test_a_long_prefill_is_not_finished_first(rig: Rig) -> None:
    rig.engine.hold()
    link = await rig.port.connect()
    await link.send(rig.open_request(prompt=LONG_PROMPT))
    await rig.engine.in_pass()
    draining = asyncio.create_task(rig.app.host.door.drain(20))
    await eventually(lambda: rig.app.host.info().draining, "it drains")
    rig.engine.release()
    async with asyncio.timeout(20):
        with pytest.raises(SessionMoved):
            await link.receive()
        assert await draining
    assert len(rig.engine.passes) < 3
    assert rig.app.host.info().kv_bytes == 0


async def test_streams_that_will_not_go_are_left_after_the_time(rig: Rig) -> None:
    link = await rig.opened()
    rig.engine.hold()
    await link.send(DraftBlock(round=1, base_position=0))
    await rig.engine.in_pass()
    assert not await rig.app.host.door.drain(0.05)
    rig.engine.release()
    assert await rig.app.host.door.drain(20)


async def test_the_session_goes_on_at_another_verifier(
    start: Callable[..., Awaitable[Rig]], rig: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    truth = reference(rig.engine, 10)
    link = await rig.opened()
    await plain(link, 4)
    async with running_verifier("unix", tmp_path_factory.mktemp("other")) as other:
        await rig.app.host.door.drain(20)
        with pytest.raises(SessionMoved):
            await link.receive()
        link = await other.port.connect()
        request = other.open_request(prompt=PROMPT, committed=tuple(truth[:4]))
        await ask(link, request)
        assert await plain(link, 6, base=4) == truth[4:]
