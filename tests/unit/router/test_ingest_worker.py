"""What routers delete from the spool: what is old, and whose job has ended or never was."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hola.bus.memory import MemoryBus
from hola.retrieval.ingest_job import IngestJob, IngestReport, IngestState
from hola.retrieval.readers.limits import Limits
from hola.retrieval.spool import SpoolLimits, Spools
from hola.retrieval.sqlite_store import SqliteStore
from hola.telemetry import Metrics
from hola_router.ingest_run import Works
from hola_router.ingest_worker import KEPT_S, IngestWorker
from hola_router.library import OneEmbedder


def spooled(spools: Spools, job_id: str, *, age_s: float) -> None:
    writer = spools.begin("acme", job_id)
    writer.close(durable=False)
    folder = spools._root / f"{job_id}.acme"
    then = time.time() - age_s
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


async def test_old_spools_without_a_job_are_swept_and_no_others(tmp_path: Path) -> None:
    spools, bus = Spools(tmp_path, SpoolLimits()), MemoryBus()
    queue = bus.ingests(spools.place(make=True))
    for job_id in ("waiting", "ended"):
        await queue.publish(IngestJob(job_id=job_id, tenant="acme"))
    delivery = await queue.take("a", timeout_s=0)
    ended = await queue.take("a", timeout_s=0)
    assert delivery is not None
    assert ended is not None
    await queue.release("a", delivery)
    done = IngestReport(job_id="ended", state=IngestState.DONE)
    await queue.finish("a", ended, done)
    for job_id in ("waiting", "ended", "never"):
        spooled(spools, job_id, age_s=KEPT_S + 60)
    spooled(spools, "young", age_s=60)
    store, metrics = SqliteStore(tmp_path), Metrics()
    works = Works(
        store=store,
        embedder=OneEmbedder(lambda: None),
        spools=spools,
        limits=Limits(),
        metrics=metrics,
    )
    worker = IngestWorker(works, bus, name="w", concurrency=0, idle_s=10.0)
    await worker._sweep_once()
    left = {job_id for _, job_id in spools.older_than(-1)}
    assert left == {"waiting", "young"}
    await worker.close()
    await store.close()
