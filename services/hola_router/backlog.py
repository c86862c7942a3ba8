"""Looks at the bus now and then, so that what waits there is in the metrics."""

from __future__ import annotations

import asyncio
import math

from hola.bus.ports import Bus
from hola.errors import BusUnavailable
from hola.telemetry import Metrics, get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 5.0


async def watch_backlog(bus: Bus, metrics: Metrics, *, every_s: float = LOOK_EVERY_S) -> None:
    """Keep the gauges of the queue up to date until cancelled.

    While the bus is away they say nothing: NaN, and no old number.
    """
    gauges = (metrics.requests_waiting, metrics.jobs_taken, metrics.dead_letters)
    while True:
        numbers: tuple[float, float, float] = (math.nan, math.nan, math.nan)
        try:
            backlog = await bus.jobs.backlog()
            numbers = (backlog.waiting, backlog.taken, backlog.dead_letters)
        except BusUnavailable as error:
            log.debug("backlog_unknown", message=error.message)
        for gauge, number in zip(gauges, numbers, strict=True):
            gauge.set(number)
        await asyncio.sleep(every_s)
