"""VerifierPort with several tenants: nobody takes over, reads or crowds out another's sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hola.errors import InvalidRequest, Overloaded, SessionLost
from hola.types import DraftBlock, SamplingParams
from tests.support.verifier import PROMPT, Rig, ask, eventually, plain, reference

Start = Callable[..., Awaitable[Rig]]


async def detached(rig: Rig, tenant: str, *names: str) -> None:
    """Sessions whose streams have gone: they wait for a takeover."""
    for name in names:
        before = rig.app.host.info().active_sessions
        link = await rig.opened(session_id=name, tenant=tenant)
        await link.close()
        await eventually(
            lambda before=before: rig.app.host.info().active_sessions == before, "it has left"
        )


async def test_the_same_id_of_another_tenant_is_another_session(rig: Rig) -> None:
    mine = await rig.opened(tenant="a")
    assert await plain(mine, 2) == reference(rig.engine, 2)
    other = tuple(b"Another tenant's prompt.")
    theirs = await rig.opened(tenant="b", prompt=other)
    assert await plain(theirs, 3) == reference(rig.engine, 3, prompt=other)
    assert await plain(mine, 2, first_round=3, base=2) == reference(rig.engine, 4)[2:]
    assert rig.engine.opened_sessions == 2


async def test_a_takeover_stays_within_the_tenant(rig: Rig) -> None:
    await detached(rig, "a", "s1")
    stranger = await rig.port.connect()
    opened = await ask(stranger, rig.open_request(tenant="b"))
    assert opened.cached_tokens == 0
    owner = await rig.port.connect()
    opened = await ask(owner, rig.open_request(tenant="a"))
    assert opened.cached_tokens == len(PROMPT) - 1
    assert await plain(stranger, 1) == reference(rig.engine, 1)


async def test_the_tenant_with_most_idle_sessions_makes_room(start: Start) -> None:
    rig = await start(max_sessions=4)
    await detached(rig, "small", "old")
    await detached(rig, "large", "l1", "l2", "l3")
    await rig.opened(session_id="new", tenant="third")
    again = await rig.port.connect()
    opened = await ask(again, rig.open_request(session_id="old", tenant="small"))
    assert opened.cached_tokens == len(PROMPT) - 1, "the oldest, but its tenant had only this one"
    first = await rig.port.connect()
    opened = await ask(first, rig.open_request(session_id="l1", tenant="large"))
    assert opened.cached_tokens == 0, "the oldest of the tenant that had most"


async def test_active_sessions_of_others_are_never_taken(start: Start) -> None:
    rig = await start(max_sessions=2)
    links = [await rig.opened(session_id=name, tenant="a") for name in ("x", "y")]
    stranger = await rig.port.connect()
    with pytest.raises(Overloaded):
        await ask(stranger, rig.open_request(session_id="z", tenant="b"))
    for link in links:
        assert await plain(link, 2) == reference(rig.engine, 2)


@pytest.mark.parametrize("tenant", ["a/b", "x" * 65, "a b", "ä", "../a"])
async def test_a_malformed_tenant_is_refused(rig: Rig, tenant: str) -> None:
    link = await rig.port.connect()
    with pytest.raises(InvalidRequest) as raised:
        await ask(link, rig.open_request(tenant=tenant))
    assert raised.value.details["field"] == "tenant"


async def test_silent_streams_make_room_and_busy_ones_do_not(start: Start) -> None:
    """A quarter of session_ttl_s without a message, and a session may have to go for another."""
    rig = await start(max_sessions=2, session_ttl_s=2.0)
    silent = await rig.opened(session_id="silent")
    busy = await rig.opened(session_id="busy", sampling=SamplingParams(max_tokens=2000))
    count, refusals = 0, 0

    async def taken() -> bool:
        link = await rig.port.connect()
        try:
            await ask(link, rig.open_request(session_id="new"))
        except Overloaded:
            await link.close()
            return False
        return True

    while not await taken():
        refusals += 1
        await plain(busy, 1, first_round=count + 1, base=count)
        count += 1
        await asyncio.sleep(0.02)
    assert refusals > 0
    await plain(busy, 1, first_round=count + 1, base=count)
    with pytest.raises(SessionLost):
        await ask(silent, DraftBlock(round=1, base_position=0))
