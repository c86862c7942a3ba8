"""Whose request it is, and what an idempotency key stands for, on an in-memory bus."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hola.bus.memory import MemoryBus, MemoryStore
from hola.bus.streams import BusLimits
from hola.errors import DuplicateRequest, InvalidRequest, Overloaded, QuotaExceeded, UnknownRequest
from hola.idempotency import request_id_of_key
from hola.types import (
    Exactness,
    FinishReason,
    GenerateJob,
    GenerateRequest,
    Started,
    Summary,
    VerifierInfo,
    VerifierRecord,
)
from hola_router.gate import Gate
from hola_router.tenants import TenantLimits, Tenants
from tests.support.router import MODEL, play, router_on

REQUEST = GenerateRequest(request_id="r1", prompt="Hello")
KEYED = GenerateRequest(idempotency_key="order 66", prompt="Hello")


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def bus(store):
    return MemoryBus(store=store)


@pytest.fixture
async def router(bus, tmp_path):
    router = router_on(bus, tmp_path)
    yield router
    await router.close()


async def seen(router, accepted):
    return [event async for event, _ in router.attach(accepted)]


async def test_the_tenant_is_in_the_job_and_its_id_in_the_stream(router, bus):
    accepted = await router.accept(REQUEST, tenant="acme")
    assert accepted.job.tenant == "acme"
    assert accepted.request_id == "r1" != accepted.job.request_id
    await play(bus)
    events = await seen(router, accepted)
    assert isinstance(events[0], Started)
    assert events[0].request_id == "r1"
    again = [event async for event in router.resume("r1", 2, tenant="acme")]
    assert again[0] == events[0]
    assert again[-1] == events[-1]


async def test_two_tenants_may_use_one_id(router, bus):
    ours = await router.accept(REQUEST, tenant="acme")
    theirs = await router.accept(replace(REQUEST, prompt="Hi"), tenant="other")
    plain = await router.accept(REQUEST)
    assert len({each.job.request_id for each in (ours, theirs, plain)}) == 3
    with pytest.raises(DuplicateRequest) as taken:
        await router.accept(REQUEST, tenant="acme")
    assert taken.value.message == "request id 'r1' is taken"


@pytest.mark.parametrize("tenant", ["other", "default", "acme.r1", "Acme"])
async def test_anothers_request_is_as_unknown_as_one_that_never_was(router, bus, tenant):
    await router.accept(REQUEST, tenant="acme")
    told = []
    for request_id in ("r1", "never"):
        with pytest.raises(UnknownRequest) as resumed:
            _ = [event async for event in router.resume(request_id, tenant=tenant)]
        with pytest.raises(UnknownRequest) as cancelled:
            await router.cancel(request_id, tenant=tenant)
        for caught in (resumed.value, cancelled.value):
            details = {**caught.details, "request_id": caught.details["request_id"]}
            told.append((caught.message.replace(request_id, "ID"), sorted(details)))
    assert len(set(map(str, told))) == 1
    assert not await bus.journal.has_ended((await router.accept(REQUEST)).job.request_id)


async def test_the_owner_is_asked_though_the_names_are_apart(router, bus):
    """A job that somebody published under a tenant's name on the bus is still not that tenant's."""
    for owner, request_id in (("acme", "r1"), ("acme", "r2")):
        await bus.jobs.publish(
            GenerateJob(request_id=request_id, model=MODEL, prompt="x", tenant=owner)
        )
        with pytest.raises(UnknownRequest):
            await router.cancel(request_id)


@pytest.mark.parametrize("tenant", ["", "a b", "x" * 65, "a/b"])
async def test_a_tenant_that_is_no_name_is_refused(router, bus, tenant):
    with pytest.raises(InvalidRequest, match="tenant"):
        await router.accept(REQUEST, tenant=tenant)
    assert await bus.jobs.depth() == 0


async def test_a_key_gives_the_same_stream_again(router, bus):
    first = await router.accept(KEYED)
    assert first.request_id == request_id_of_key("order 66")
    running = await router.accept(KEYED)
    assert (first.is_repeat, running.is_repeat) == (False, True)
    following = asyncio.create_task(seen(router, running))
    await play(bus)
    events = await following
    assert events == await seen(router, first)
    ended = await router.accept(KEYED)
    assert await seen(router, ended) == events
    assert await bus.jobs.depth() == 0, "one job for three calls"


async def test_a_key_holds_at_every_router(store, tmp_path):
    buses = [MemoryBus(store=store) for _ in range(3)]
    routers = [router_on(bus, tmp_path) for bus in buses]
    accepted = await asyncio.gather(*(each.accept(KEYED, tenant="acme") for each in routers))
    assert [each.is_repeat for each in accepted].count(False) == 1
    assert len({each.job.request_id for each in accepted}) == 1
    assert await buses[0].jobs.depth() == 1
    for router in routers:
        await router.close()


async def test_calls_that_race_to_publication_get_one_stream(router, bus):
    """Both have looked and found nothing: the second publication finds the first one's digest."""
    look, looks = bus.journal.digest, []

    async def looked(request_id):
        looks.append(request_id)
        if len(looks) <= 2:
            raise UnknownRequest("not published yet")
        return await look(request_id)

    bus.journal.digest = looked
    both = await asyncio.gather(router.accept(KEYED), router.accept(KEYED))
    assert sorted(each.is_repeat for each in both) == [False, True]
    assert await bus.jobs.depth() == 1


async def test_a_key_is_its_tenants_own(router, bus):
    ours = await router.accept(KEYED, tenant="acme")
    theirs = await router.accept(replace(KEYED, prompt="Another"), tenant="other")
    assert not theirs.is_repeat
    assert ours.job.request_id != theirs.job.request_id


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "Hello!"},
        {"model": MODEL},
        {"sampling": replace(KEYED.sampling, seed=1)},
        {"speculation": replace(KEYED.speculation, max_draft_tokens=0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_key_for_another_request_is_refused(router, bus, changed):
    await router.accept(KEYED)
    with pytest.raises(InvalidRequest, match="used before for another request") as refused:
        await router.accept(replace(KEYED, **changed))
    assert refused.value.details["field"] == "idempotency_key"
    assert await bus.jobs.depth() == 1


async def test_an_id_taken_by_hand_is_no_key(router, bus):
    await router.accept(replace(REQUEST, request_id=request_id_of_key("order 66")))
    with pytest.raises(InvalidRequest, match="used before"):
        await router.accept(KEYED)


async def test_id_and_key_exclude_each_other_unless_they_agree(router, bus):
    with pytest.raises(InvalidRequest, match="send one"):
        await router.accept(replace(KEYED, request_id="r1"))
    agreed = await router.accept(replace(KEYED, request_id=request_id_of_key("order 66")))
    assert not agreed.is_repeat


async def test_the_deadline_of_a_repeated_call_is_not_the_requests(router, bus):
    await router.accept(KEYED)
    repeated = await router.accept(KEYED, timeout_s=0.0)
    events = router.attach(repeated)
    following = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await events.aclose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not await bus.journal.has_ended(repeated.job.request_id)


async def test_a_cancelled_request_is_announced(router, bus):
    heard = bus.notices.follow()
    waiting = asyncio.create_task(anext(heard))
    await asyncio.sleep(0)
    accepted = await router.accept(REQUEST, tenant="acme")
    assert await router.cancel("r1", tenant="acme")
    assert await waiting == accepted.job.request_id
    assert not await router.cancel("r1", tenant="acme")
    await heard.aclose()


# what a tenant may use


def limited(bus, folder, **changes):
    own = {"acme": TenantLimits(requests=2), "slow": TenantLimits(rate=0.01, burst=2)}
    return router_on(bus, folder, gate=Gate(bus, tenants=Tenants(own=own), **changes))


async def test_a_tenant_has_its_share_of_the_queue(bus, tmp_path):
    router = limited(bus, tmp_path)
    for n in range(2):
        await router.accept(replace(REQUEST, request_id=f"a{n}"), tenant="acme")
    with pytest.raises(QuotaExceeded, match="its limit is 2"):
        await router.accept(replace(REQUEST, request_id="a2"), tenant="acme")
    await router.accept(replace(REQUEST, request_id="b"), tenant="other")
    await play(bus)
    await router.accept(replace(REQUEST, request_id="a3"), tenant="acme")


async def test_a_tenant_has_its_rate_and_a_refusal_costs_nothing(bus, tmp_path):
    router = limited(bus, tmp_path, queue_limit=3)
    for n in range(2):
        await router.accept(replace(REQUEST, request_id=f"a{n}"), tenant="slow")
    with pytest.raises(QuotaExceeded, match=r"0\.01 requests per second") as refused:
        await router.accept(replace(REQUEST, request_id="a2"), tenant="slow")
    assert 0 < int(refused.value.details["retry_after_ms"]) <= 100_001
    assert await bus.jobs.depth() == 2


async def test_a_key_that_is_known_needs_no_admission(bus, tmp_path):
    router = limited(bus, tmp_path)
    for n in range(2):
        await router.accept(replace(KEYED, idempotency_key=f"k{n}"), tenant="acme")
    repeated = await router.accept(replace(KEYED, idempotency_key="k0"), tenant="acme")
    assert repeated.is_repeat
    with pytest.raises(QuotaExceeded):
        await router.accept(KEYED, tenant="acme")


async def test_a_full_queue_spends_no_quota(store, tmp_path):
    bus = MemoryBus(store=store, limits=BusLimits(queue_limit=1))
    router = limited(bus, tmp_path, queue_limit=1)
    await router.accept(REQUEST, tenant="slow")
    for n in range(5):
        with pytest.raises(Overloaded, match="the limit is 1"):
            await router.accept(replace(REQUEST, request_id=f"n{n}"), tenant="slow")
    await play(bus)
    await router.accept(replace(REQUEST, request_id="second"), tenant="slow")


async def test_full_verifiers_turn_requests_away_until_they_are_not(bus, tmp_path):
    now = [0.0]
    router = limited(bus, tmp_path, clock=lambda: now[0])
    info = VerifierInfo(
        version="1",
        model=MODEL,
        tokenizer_fingerprint="",
        artifact_digest="",
        fingerprint="f",
        exactness=Exactness.EXACT,
        context_length=512,
        active_sessions=1,
        kv_bytes=99,
        kv_budget_bytes=100,
    )
    await bus.registry.announce(VerifierRecord(address="a", info=info), ttl_s=100)
    with pytest.raises(Overloaded, match="99% in use"):
        await router.accept(REQUEST)
    await bus.registry.announce(
        VerifierRecord(address="a", info=replace(info, kv_bytes=1)), ttl_s=100
    )
    with pytest.raises(Overloaded):
        await router.accept(REQUEST)  # it is not asked again at once
    now[0] += 1.0
    await router.accept(REQUEST)


async def test_info_tells_a_tenant_of_its_limits(bus, tmp_path):
    router = limited(bus, tmp_path, queue_limit=9)
    await router.accept(REQUEST, tenant="acme")
    await router.accept(REQUEST, tenant="other")
    info = await router.info(tenant="acme")
    assert (info.queue_depth, info.queue_limit) == (2, 9)
    assert (info.tenant_requests, info.tenant_limit) == (1, 2)
    slow = await router.info(tenant="slow")
    assert (slow.tenant_requests, slow.tenant_rate_per_s, slow.tenant_burst) == (0, 0.01, 2)


async def test_a_request_that_was_cancelled_can_be_read_by_its_owner(router, bus):
    await router.accept(REQUEST, tenant="acme")
    await router.cancel("r1", tenant="acme")
    events = [event async for event in router.resume("r1", tenant="acme")]
    assert isinstance(events[-1], Summary)
    assert events[-1].finish_reason is FinishReason.CANCELLED
