"""Resident memory of processes over time, and how much it has grown."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hola_bench.chaos.fleet import Fleet
from hola_bench.chaos.stalls import percentile

EVERY_S = 1.0
# Growth is the low-water mark of the last part against that of the first part after warming up. A
# verifier's memory goes up and down by a tenth with the sessions it holds; what leaks stays.
PART = 1 / 3
LOW_WATER = 0.1


@dataclass(slots=True, kw_only=True)
class Samples:
    """One process: (seconds since the start, bytes)."""

    name: str
    points: list[tuple[float, int]] = field(default_factory=list)

    def between(self, begin_s: float, end_s: float) -> list[int]:
        """Bytes of the samples in a span of time."""
        return [size for at, size in self.points if begin_s <= at < end_s]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A process's memory in a span of time, bytes: low-water marks early and late, medians by
    minute, and by how many percent the median grew."""

    name: str
    early: float
    late: float
    by_minute: tuple[float, ...]
    median_percent: float

    @property
    def percent(self) -> float:
        """Growth in percent; negative when it shrank."""
        return 100.0 * (self.late / self.early - 1.0)


def resident_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Memory of a process that is in RAM. Raises OSError when there is no such process."""
    pages = int((proc / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def watch(fleet: Fleet, samples: Sequence[Samples], began: float) -> None:
    """Add a sample of every process each second, until cancelled."""
    while True:
        for each in samples:
            pid = fleet.pid(each.name)
            if pid is not None:
                each.points.append((time.monotonic() - began, resident_bytes(pid)))
        await asyncio.sleep(EVERY_S)


def growth(samples: Samples, begin_s: float, end_s: float) -> Growth | None:
    """Early against late between two times; None when there are too few samples."""
    part_s = (end_s - begin_s) * PART
    early = samples.between(begin_s, begin_s + part_s)
    late = samples.between(end_s - part_s, end_s)
    if not early or not late:
        return None
    minutes = range(int((end_s - begin_s) // 60))
    sizes = [samples.between(begin_s + 60 * at, begin_s + 60 * (at + 1)) for at in minutes]
    return Growth(
        name=samples.name,
        early=percentile(early, LOW_WATER),
        late=percentile(late, LOW_WATER),
        by_minute=tuple(statistics.median(each) for each in sizes if each),
        median_percent=100.0 * (statistics.median(late) / statistics.median(early) - 1.0),
    )
