"""Jobs by tenant: the one with the fewest running first, then the one longest not served."""

from __future__ import annotations

import pytest

from hola.bus.ports import Bus
from hola.errors import InvalidRequest, Overloaded, QuotaExceeded
from hola.types import Delivery
from tests.support.bus import Backend, job

IDLE_S = 2.0


async def publish(bus: Bus, tenant: str, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await bus.jobs.publish(job(f"{tenant}-{number}", tenant))


async def taken(bus: Bus, consumer: str = "a") -> Delivery:
    delivery = await bus.jobs.take(consumer, timeout_s=0)
    assert delivery is not None
    return delivery


async def served(bus: Bus, count: int) -> list[str]:
    """Requests in the order a drafter that runs one job at a time serves them."""
    names = []
    for _ in range(count):
        delivery = await taken(bus)
        names.append(delivery.job.request_id)
        await bus.jobs.ack(delivery)
    return names


async def test_one_tenants_many_jobs_do_not_delay_anothers_one(backend: Backend) -> None:
    bus = backend.bus()
    await publish(bus, "big", 50)
    running = [await taken(bus) for _ in range(4)]
    await publish(bus, "small", 1)
    assert (await taken(bus)).job.tenant == "small"
    assert {delivery.job.tenant for delivery in running} == {"big"}


async def test_running_jobs_are_spread_evenly(backend: Backend) -> None:
    bus = backend.bus()
    for tenant, count in (("a", 12), ("b", 6), ("c", 3)):
        await publish(bus, tenant, count)
    tenants = [(await taken(bus)).job.tenant for _ in range(9)]
    assert {tenant: tenants.count(tenant) for tenant in "abc"} == {"a": 3, "b": 3, "c": 3}
    tenants = [(await taken(bus)).job.tenant for _ in range(6)]
    assert {tenant: tenants.count(tenant) for tenant in "ab"} == {"a": 3, "b": 3}


async def test_jobs_that_run_one_at_a_time_take_turns(backend: Backend) -> None:
    bus = backend.bus()
    for tenant in ("a", "b", "c"):
        await publish(bus, tenant, 3)
    names = await served(bus, 9)
    assert names[:3] == ["a-0", "b-0", "c-0"]
    assert names == ["a-0", "b-0", "c-0", "a-1", "b-1", "c-1", "a-2", "b-2", "c-2"]


async def test_two_tenants_that_send_one_job_at_a_time_do_not_starve_a_third(
    backend: Backend,
) -> None:
    bus = backend.bus()
    await publish(bus, "patient", 10)
    await publish(bus, "x", 1)
    await publish(bus, "y", 1)
    order = []
    for number in range(1, 13):
        [name] = await served(bus, 1)
        tenant = name.partition("-")[0]
        order.append(tenant)
        if tenant != "patient":
            await publish(bus, tenant, 1, first=number)
    assert order.count("patient") == 4
    assert order.count("x") == order.count("y") == 4


async def test_a_job_that_went_silent_comes_first_whoever_has_fewer_running(
    backend: Backend,
) -> None:
    bus = backend.bus(job_idle_s=IDLE_S)
    await publish(bus, "a", 2)
    lost = [await taken(bus, "dead"), await taken(bus, "dead")]
    await backend.pass_time(IDLE_S + 0.05)
    await publish(bus, "b", 1)
    again = [await taken(bus), await taken(bus)]
    assert [each.job.request_id for each in again] == [each.job.request_id for each in lost]
    assert (await taken(bus)).job.tenant == "b"


async def test_a_tenants_own_limit_leaves_room_for_the_others(backend: Backend) -> None:
    bus = backend.bus(queue_limit=4, tenant_queue_limit=2)
    await publish(bus, "a", 2)
    with pytest.raises(QuotaExceeded) as caught:
        await publish(bus, "a", 1, first=2)
    assert caught.value.details["tenant"] == "a"
    assert int(caught.value.details["retry_after_ms"]) > 0
    await publish(bus, "b", 2)
    with pytest.raises(Overloaded) as full:
        await publish(bus, "c", 1)
    assert not isinstance(full.value, QuotaExceeded)
    assert [await bus.jobs.depth(tenant) for tenant in ("", "a", "b", "c")] == [4, 2, 2, 0]
    delivery = await taken(bus)
    await bus.jobs.ack(delivery)
    await publish(bus, delivery.job.tenant, 1, first=9)  # neither refusal has taken an id


async def test_tenants_without_jobs_leave_nothing_behind(backend: Backend) -> None:
    bus = backend.bus()
    for number in range(40):
        await publish(bus, f"tenant{number}", 1)
    assert len(set(await served(bus, 40))) == 40
    assert await backend.tenants() == set()


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "{a}", "x" * 65, "ä"])
async def test_a_tenant_that_is_no_name_is_refused(backend: Backend, tenant: str) -> None:
    bus = backend.bus()
    with pytest.raises(InvalidRequest, match="tenant"):
        await bus.jobs.publish(job("r1", tenant))
    assert await bus.jobs.depth() == 0


async def test_heartbeat_and_release_work_for_every_tenant(backend: Backend) -> None:
    bus, other = backend.bus(job_idle_s=IDLE_S), backend.bus(job_idle_s=IDLE_S)
    await publish(bus, "a", 1)
    await publish(bus, "b", 1)
    deliveries = [await taken(bus, "one"), await taken(bus, "one")]
    for delivery in deliveries:
        await bus.jobs.renew("one", delivery)
        await bus.jobs.release("one", delivery)
    again = [await taken(other, "two"), await taken(other, "two")]
    assert {(each.job.tenant, each.attempts) for each in again} == {("a", 1), ("b", 1)}
