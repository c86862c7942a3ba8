"""Which directories of jobs are removed between jobs, and which stay."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from hola.bus.memory import MemoryBus
from hola_compressor.child import LOCK_FILE
from hola_compressor.sweep import sweep
from hola_compressor.workdir import KEPT_S, WorkDirs
from tests.support.compression import compression_job, queued


async def begun(bus: MemoryBus, works: WorkDirs, job_id: str, *, cancelled: bool = False) -> Path:
    """The directory of a job that the bus knows."""
    job = compression_job(job_id, tenant="acme")
    await bus.compression.submit(job, queued(job_id))
    if cancelled:
        await bus.compression.cancel("acme", job_id)
    folder = works.of(job)
    (folder / "calibration.txt").write_text("a secret text")
    return folder


def grown_old(folder: Path) -> Path:
    """The same directory, which nobody has touched for long."""
    long_ago = time.time() - KEPT_S - 60
    os.utime(folder, (long_ago, long_ago))
    return folder


async def test_what_ended_in_nobodys_hands_is_removed(tmp_path: Path) -> None:
    works, bus = WorkDirs(tmp_path), MemoryBus()
    over = await begun(bus, works, "over", cancelled=True)
    busy = await begun(bus, works, "busy", cancelled=True)
    waits = grown_old(await begun(bus, works, "waits"))
    with (busy / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await sweep(works, bus.compression)
        assert [each.exists() for each in (over, busy, waits)] == [False, True, True]
    await sweep(works, bus.compression)
    assert not busy.exists(), "its passes have ended by now"


async def test_what_the_bus_does_not_know_is_kept_for_a_while(tmp_path: Path) -> None:
    """`hola compress` here goes on from it, with a bus that has just begun."""
    works = WorkDirs(tmp_path)
    young, old = works.of(compression_job("young")), grown_old(works.of(compression_job("old")))
    await sweep(works, MemoryBus().compression)
    assert (young.exists(), old.exists()) == (True, False)


async def test_no_directories_at_all(tmp_path: Path) -> None:
    await sweep(WorkDirs(tmp_path / "none"), MemoryBus().compression)
