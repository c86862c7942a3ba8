"""The gauges of the queue follow the bus, and say nothing while it is away."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hola.bus.memory import MemoryBus
from hola.errors import BusUnavailable
from hola.telemetry import Metrics
from hola.types import GenerateJob
from hola_router.backlog import watch_backlog


def gauges(metrics: Metrics) -> list[float | None]:
    names = ("num_requests_waiting", "jobs_taken", "dead_letters")
    return [metrics.registry.get_sample_value(f"hola_{name}") for name in names]


async def watched(bus: Any, metrics: Metrics, holds: Callable[[], bool]) -> None:
    """Watch until it holds."""
    watching = asyncio.create_task(watch_backlog(bus, metrics, every_s=0.001))
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the watcher changes it
            await asyncio.sleep(0.001)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_the_gauges_follow_the_bus() -> None:
    bus, metrics = MemoryBus(), Metrics()
    for request_id in ("r1", "r2"):
        await bus.jobs.publish(GenerateJob(request_id=request_id, model="demo", prompt="Hi"))
    await bus.jobs.take("a", timeout_s=1)
    await watched(bus, metrics, lambda: gauges(metrics) == [1, 1, 0])
    await bus.close()


async def test_a_bus_that_is_away_has_no_numbers() -> None:
    async def backlog() -> None:
        raise BusUnavailable("away")

    metrics = Metrics()
    away = SimpleNamespace(jobs=SimpleNamespace(backlog=backlog))
    await watched(away, metrics, lambda: all(math.isnan(v or 0) for v in gauges(metrics)))
