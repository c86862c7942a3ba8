"""What a fleet shares: owners of requests, quotas that routers agree on, verifiers on record."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from hola.bus.ports import Bus
from hola.errors import ConfigError, DuplicateRequest, ProtocolViolation, UnknownRequest
from hola.types import Exactness, VerifierInfo, VerifierRecord
from tests.support.bus import Backend, by, job, summary

INFO = VerifierInfo(
    version="1",
    model="demo",
    tokenizer_fingerprint="t",
    artifact_digest="a",
    fingerprint="f",
    exactness=Exactness.EXACT,
    context_length=512,
    active_sessions=3,
)


def record(address: str, **changes: object) -> VerifierRecord:
    return VerifierRecord(address=address, info=replace(INFO, **changes))  # type: ignore[arg-type]


async def addresses(bus: Bus) -> list[str]:
    return [each.address for each in await bus.registry.verifiers()]


# Owners


async def test_a_request_has_the_owner_and_the_digest_of_its_publication(backend: Backend) -> None:
    router, other = backend.bus(), backend.bus()
    await router.jobs.publish(replace(job("r1", "acme"), request_digest="d1"))
    with pytest.raises(DuplicateRequest):
        await other.jobs.publish(replace(job("r1", "rival"), request_digest="d2"))
    assert await other.journal.owner("r1") == "acme"
    assert await other.journal.digest("r1") == "d1"
    for ask in (router.journal.owner, router.journal.digest):
        with pytest.raises(UnknownRequest):
            await ask("never")


async def test_the_owner_is_known_as_long_as_the_journal(backend: Backend) -> None:
    bus = backend.bus(running_ttl_s=1.5, journal_ttl_s=3.0)
    await bus.jobs.publish(job("r1", "acme"))
    delivery = await bus.jobs.take("a", timeout_s=0)
    assert delivery is not None
    for _ in range(2):
        await backend.pass_time(0.8)
        await bus.jobs.renew("a", delivery)
        assert await bus.journal.owner("r1") == "acme"
    await bus.journal.append("r1", by("a", summary(0)))
    await backend.pass_time(1.6)
    assert await bus.journal.owner("r1") == "acme"
    await backend.pass_time(2.0)
    with pytest.raises(UnknownRequest):
        await bus.journal.owner("r1")


# Quotas


async def test_a_bucket_gives_its_burst_and_then_the_rate(backend: Backend) -> None:
    quota = backend.bus().quota
    spend = [await quota.spend("t", rate_per_s=0.5, burst=3) for _ in range(3)]
    assert spend == [0.0, 0.0, 0.0]
    wait_s = await quota.spend("t", rate_per_s=0.5, burst=3)
    assert 0 < wait_s <= 2.0
    assert await quota.spend("other", rate_per_s=0.5, burst=3) == 0.0
    await backend.pass_time(wait_s + 0.01)
    assert await quota.spend("t", rate_per_s=0.5, burst=3) == 0.0
    assert await quota.spend("t", rate_per_s=0.5, burst=3) > 0.0


async def test_a_refusal_takes_no_token(backend: Backend) -> None:
    quota = backend.bus().quota
    assert await quota.spend("t", rate_per_s=0.001, burst=1) == 0.0
    waits = [await quota.spend("t", rate_per_s=0.001, burst=1) for _ in range(5)]
    assert all(900 < wait <= 1000 for wait in waits), waits


async def test_a_bucket_never_holds_more_than_its_burst(backend: Backend) -> None:
    quota = backend.bus().quota
    assert await quota.spend("t", rate_per_s=50.0, burst=2) == 0.0
    await backend.pass_time(0.3)
    slow = 0.01
    spend = [await quota.spend("t", rate_per_s=slow, burst=2) for _ in range(3)]
    assert spend[:2] == [0.0, 0.0]
    assert spend[2] > 0


async def test_routers_share_a_bucket(backend: Backend) -> None:
    routers = [backend.bus() for _ in range(4)]
    answers = await asyncio.gather(
        *(router.quota.spend("t", rate_per_s=0.01, burst=5) for router in routers * 4)
    )
    assert sum(answer == 0.0 for answer in answers) == 5


async def test_a_limit_that_is_lowered_counts_at_once(backend: Backend) -> None:
    quota = backend.bus().quota
    for _ in range(10):
        assert await quota.spend("t", rate_per_s=0.01, burst=10) == 0.0
    wait_s = await quota.spend("t", rate_per_s=1.0, burst=2)
    assert 0 < wait_s <= 1.0, "what an old limit allowed is not held against the new one for long"


@pytest.mark.parametrize(
    ("rate", "burst"), [(0.0, 1), (-1.0, 1), (math.inf, 1), (math.nan, 1), (1.0, 0), (1.0, -3)]
)
async def test_a_quota_that_never_gives_a_token_is_a_config_error(
    backend: Backend, rate: float, burst: int
) -> None:
    with pytest.raises(ConfigError, match="quota"):
        await backend.bus().quota.spend("t", rate_per_s=rate, burst=burst)


# Registry


async def test_verifiers_are_listed_by_address_with_what_they_said_last(backend: Backend) -> None:
    bus, other = backend.bus(), backend.bus()
    assert await bus.registry.verifiers() == ()
    for address in ("grpc://b:1", "grpc://a:1"):
        await bus.registry.announce(record(address), ttl_s=30)
    busy = record("grpc://a:1", active_sessions=9, draining=True)
    await bus.registry.announce(busy, ttl_s=30)
    assert await other.registry.verifiers() == (busy, record("grpc://b:1"))
    await other.registry.withdraw("grpc://a:1")
    await other.registry.withdraw("grpc://a:1")
    assert await addresses(bus) == ["grpc://b:1"]


async def test_a_verifier_that_fell_silent_vanishes_and_the_others_stay(backend: Backend) -> None:
    bus = backend.bus()
    await bus.registry.announce(record("grpc://short:1"), ttl_s=0.3)
    await bus.registry.announce(record("grpc://long:1"), ttl_s=30)
    await backend.pass_time(0.5)
    assert await addresses(bus) == ["grpc://long:1"]
    await bus.registry.announce(record("grpc://short:1"), ttl_s=30)
    assert await addresses(bus) == ["grpc://long:1", "grpc://short:1"]


async def test_the_registry_is_bounded(backend: Backend) -> None:
    bus = backend.bus(registry_limit=3)
    for number in range(6):
        await bus.registry.announce(record(f"grpc://v{number}:1"), ttl_s=100 + number)
    assert await addresses(bus) == ["grpc://v3:1", "grpc://v4:1", "grpc://v5:1"]


async def test_garbage_in_the_registry_hides_no_verifier(backend: Backend) -> None:
    bus = backend.bus()
    await bus.registry.announce(record("grpc://a:1"), ttl_s=30)
    await backend.add_record("grpc://bad:1", b"\xff\xff")
    assert await addresses(bus) == ["grpc://a:1"]


async def test_a_record_that_cannot_travel_is_refused(backend: Backend) -> None:
    bus = backend.bus()
    with pytest.raises(ProtocolViolation):
        await bus.registry.announce(record("grpc://a:1", active_sessions=-1), ttl_s=30)
    assert await addresses(bus) == []
