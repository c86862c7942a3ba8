"""Nothing stays on Redis for ever: every key but the queue's own expires, and those empty out."""

from __future__ import annotations

import asyncio

import pytest

from hola.types import Exactness, VerifierInfo, VerifierRecord
from tests.support.bus import RedisBackend, by, followed, job, started, summary, tokens

pytestmark = pytest.mark.redis

INFO = VerifierInfo(
    version="1",
    model="demo",
    tokenizer_fingerprint="t",
    artifact_digest="a",
    fingerprint="f",
    exactness=Exactness.EXACT,
    context_length=512,
)


async def lasting(backend: RedisBackend) -> set[str]:
    """Keys of the backend that never expire, without its prefix."""
    found = set()
    async for key in backend.client.scan_iter(f"{backend.prefix}:*", count=1000):
        if await backend.client.ttl(key) == -1:
            found.add(key.decode().removeprefix(f"{backend.prefix}:"))
    return found


async def test_what_has_no_expiry_is_the_queue_and_it_empties_out(backend: RedisBackend) -> None:
    bus = backend.bus(job_idle_s=0.05, max_attempts=1)
    await bus.jobs.publish(job("lost", "a"))
    assert await bus.jobs.take("x", timeout_s=0) is not None
    await asyncio.sleep(0.1)
    assert await bus.jobs.take("x", timeout_s=0) is None  # a dead letter now
    await bus.registry.announce(VerifierRecord(address="grpc://v:1", info=INFO), ttl_s=30)
    await bus.quota.spend("tenant:a", rate_per_s=1.0, burst=3)
    await bus.notices.ended("lost")
    steady = backend.bus()
    for name, tenant in (("r1", "a"), ("r2", "b")):
        await steady.jobs.publish(job(name, tenant))
    assert await lasting(backend) == {
        "{jobs}:tenants",
        "{jobs}:queued",
        "{jobs}:queue:a",
        "{jobs}:queue:b",
    }
    for _ in range(2):
        delivery = await steady.jobs.take("y", timeout_s=0)
        assert delivery is not None
        name = delivery.job.request_id
        following = [asyncio.create_task(followed(steady, name)) for _ in range(2)]
        await steady.journal.attend(name, 5)
        for event in (started(name), tokens(0, 3), summary(3)):
            await steady.journal.append(name, by("y", event))
        await steady.jobs.renew("y", delivery)
        await steady.jobs.ack(delivery)
        await asyncio.gather(*following)
        request = await backend.client.hgetall(backend.keys.request(name))  # type: ignore[misc]
        assert set(request) == {b"nonce", b"tenant", b"digest"}, "the prompt is not kept twice"
    assert await lasting(backend) == {"{jobs}:tenants"}
    assert await backend.client.zrange(backend.keys.tenants, 0, -1) == [b""]


async def test_an_acknowledged_job_leaves_no_prompt_in_the_queue(backend: RedisBackend) -> None:
    bus = backend.bus()
    for number in range(30):
        await bus.jobs.publish(job(f"r{number}"))
    for _ in range(29):
        delivery = await bus.jobs.take("a", timeout_s=0)
        assert delivery is not None
        await bus.jobs.ack(delivery)
    assert await backend.client.xlen(backend.keys.queue("default")) == 1
    assert await backend.client.llen(backend.keys.ready) <= 30  # type: ignore[misc]
