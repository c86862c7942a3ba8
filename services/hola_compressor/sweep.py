"""Removes what jobs left that ended in nobody's hands: their directories hold calibration text."""

from __future__ import annotations

import asyncio

from hola.compression.queue import CompressionQueue
from hola.errors import UnknownRequest
from hola.telemetry import get_logger
from hola_compressor.workdir import KEPT_S, WorkDirs

log = get_logger(__name__)


async def sweep(works: WorkDirs, jobs: CompressionQueue) -> None:
    """Remove the directories of jobs that are over, where nobody works in them.

    A job that was given back or abandoned, and then cancelled or given up, has no worker that
    would. One that the bus does not know may be another bus's, or go on when it is submitted again:
    its directory stays until nobody has touched it for KEPT_S seconds.
    Raises BusUnavailable, and ProtocolViolation for the status of a later version.
    """
    for tenant, job_id, age_s in await asyncio.to_thread(works.unused):
        try:
            is_over = (await jobs.status(tenant, job_id)).state.ended
        except UnknownRequest:
            is_over = age_s > KEPT_S
        if is_over:
            log.info("work_removed", tenant=tenant, job_id=job_id)
            await asyncio.to_thread(works.remove, tenant, job_id)
