"""Collects what admission needs to know from the bus, and turns requests away before they queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hola.bus.ports import Bus
from hola.types import VerifierInfo
from hola_router.admission import LoadFacts, over_rate, refusal
from hola_router.pace import Pace
from hola_router.tenants import TenantLimits, Tenants

QUEUE_LIMIT = 256
KV_SHARE = 0.95
# Verifiers announce themselves every few seconds; asking more often tells nothing new.
REGISTRY_AGE_S = 1.0


class Gate:
    """Who may queue. Use from one event loop.

    The bus holds the bound of the queue by itself, in the same step that publishes; this comes
    before it, so that a refusal costs little, has a reason, and says when to come back.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        tenants: Tenants | None = None,
        queue_limit: int = QUEUE_LIMIT,
        kv_share: float = KV_SHARE,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._tenants = tenants or Tenants()
        self._queue_limit = queue_limit
        self._kv_share = kv_share
        self._pace = pace or Pace()
        self._clock = clock
        self._verifiers: tuple[VerifierInfo, ...] = ()
        self._look_again_at = 0.0
        self._looking = asyncio.Lock()

    @property
    def queue_limit(self) -> int:
        """Requests of all tenants that may wait or run."""
        return self._queue_limit

    def reload(self, tenants: Tenants, kv_share: float) -> None:
        """From now on these limits."""
        self._tenants, self._kv_share = tenants, kv_share

    def limits(self, tenant: str) -> TenantLimits:
        """What one tenant may use."""
        return self._tenants.limits(tenant)

    async def admit(self, tenant: str, model: str) -> None:
        """Return when the request may queue; it has then used up one of its tenant's starts.

        Raises Overloaded or QuotaExceeded with `retry_after_ms`, BusUnavailable.
        """
        limits = self.limits(tenant)
        refused = refusal(await self._facts(tenant, model, limits))
        if refused is not None:
            raise refused
        if limits.rate > 0:
            wait_s = await self._bus.quota.spend(
                f"tenant:{tenant}", rate_per_s=limits.rate, burst=limits.burst
            )
            if wait_s > 0:
                raise over_rate(tenant, limits.rate, wait_s)

    def note_end(self) -> None:
        """A request has ended: there is a place again."""
        self._pace.note_end()

    async def _facts(self, tenant: str, model: str, limits: TenantLimits) -> LoadFacts:
        jobs = self._bus.jobs
        return LoadFacts(
            tenant=tenant,
            model=model,
            requests=await jobs.depth(),
            queue_limit=self._queue_limit,
            tenant_requests=await jobs.depth(tenant) if limits.requests else 0,
            tenant_limit=limits.requests,
            verifiers=await self._announced(),
            kv_share=self._kv_share,
            requests_per_s=self._pace.requests_per_s,
        )

    async def _announced(self) -> tuple[VerifierInfo, ...]:
        async with self._looking:
            if self._clock() >= self._look_again_at:
                records = await self._bus.registry.verifiers()
                self._verifiers = tuple(record.info for record in records)
                self._look_again_at = self._clock() + REGISTRY_AGE_S
            return self._verifiers
