"""The same plan of publications, takes and returns goes the same way on memory and on Redis."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from hola.bus.ports import Bus
from hola.errors import Fenced, HolaError
from hola.types import Delivery
from tests.support.bus import MemoryBackend, RedisBackend, job

pytestmark = pytest.mark.redis

STEPS = 150
TENANTS = 4
ACTIONS = ["publish"] * 4 + ["take"] * 4 + ["ack"] * 2 + ["release", "renew", "steal", "depth"]
LIMITS = {"queue_limit": 24, "tenant_queue_limit": 10, "job_idle_s": 1000.0}


@dataclass
class Run:
    """One backend on the way through a plan."""

    bus: Bus
    held: list[tuple[str, Delivery]] = field(default_factory=list)
    log: list[object] = field(default_factory=list)

    async def step(self, number: int, action: str, dice: random.Random) -> None:
        """Do one step and note what came of it."""
        tenant, consumer = f"t{dice.randrange(TENANTS)}", f"c{dice.randrange(3)}"
        at = dice.randrange(1000)
        try:
            self.log.append((number, action, await self._do(number, action, tenant, consumer, at)))
        except HolaError as error:
            self.log.append((number, action, error.reason))

    async def _do(self, number: int, action: str, tenant: str, consumer: str, at: int) -> object:
        jobs = self.bus.jobs
        if action == "publish":
            return await jobs.publish(job(f"r{number}", tenant))
        if action == "depth":
            return await jobs.depth(tenant), await jobs.depth()
        if action == "take":
            taken = await jobs.take(consumer, timeout_s=0)
            if taken is None:
                return None
            self.held.append((consumer, taken))
            return taken.job.request_id, taken.attempts
        if not self.held:
            return None
        owner, delivery = self.held[at % len(self.held)]
        if action == "renew":
            return await jobs.renew(owner, delivery)
        if action == "steal":
            with pytest.raises(Fenced):
                await jobs.renew("nobody", delivery)
            return await jobs.release("nobody", delivery)
        self.held.remove((owner, delivery))
        return await (jobs.ack(delivery) if action == "ack" else jobs.release(owner, delivery))


@pytest.mark.parametrize("seed", range(6))
async def test_a_plan_goes_the_same_way_on_both(seed: int, redis_url: str) -> None:
    memory, redis = MemoryBackend(), RedisBackend(redis_url)
    runs = [Run(memory.bus(**LIMITS)), Run(redis.bus(**LIMITS))]
    plan = random.Random(seed)
    for number in range(STEPS):
        action, step_seed = plan.choice(ACTIONS), plan.getrandbits(32)
        for run in runs:
            await run.step(number, action, random.Random(step_seed))
        assert runs[0].log[-1] == runs[1].log[-1], f"seed {seed}, step {number}"
    assert await memory.tenants() == await redis.tenants()
    for backend in (memory, redis):
        await backend.close()
