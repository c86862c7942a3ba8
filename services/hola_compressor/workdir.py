"""A job's own directory: what finished passes left, until the job has ended."""

from __future__ import annotations

import fcntl
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hola.compression.job import CompressionJob
from hola.engines.memory import available_bytes, total_bytes
from hola.errors import MemoryBudgetExceeded, NoDiskSpace
from hola_compressor.child import LOCK_FILE
from hola_compressor.passes import Estimate

KEPT_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class WorkDirs:
    """The directories of all jobs in `root`. Workers may share them."""

    root: Path

    def of(self, job: CompressionJob) -> Path:
        """The job's directory; made if it is not there. Raises NoDiskSpace."""
        folder = self._folder(job.tenant, job.job_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NoDiskSpace(f"{self.root} cannot be written: {error}", path=self.root) from error
        return folder

    def remove(self, tenant: str, job_id: str) -> None:
        """Forget what a job that has ended left. Idempotent."""
        shutil.rmtree(self._folder(tenant, job_id), ignore_errors=True)

    def unused(self) -> list[tuple[str, str, float]]:
        """Jobs whose directories nobody works in now: tenant, id, seconds since the last change."""
        found = []
        for folder in sorted(self.root.glob("*~*")):
            tenant, _, job_id = folder.name.partition("~")
            with suppress(OSError):  # another worker removed it
                age_s = time.time() - folder.stat().st_mtime
                if not _is_locked(folder):
                    found.append((tenant, job_id, age_s))
        return found

    def _folder(self, tenant: str, job_id: str) -> Path:
        """One name of both: a tenant or a job may be called ".."."""
        return self.root / f"{tenant}~{job_id}"


def bytes_in(folder: Path) -> int:
    """Size of all files below a folder; one that goes meanwhile counts nothing."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            status = file.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def check_room(
    estimate: Estimate,
    folder: Path,
    memory_budget_bytes: int = 0,
    kept_bytes: int = 0,
    *,
    waits: bool = False,
) -> None:
    """Raises MemoryBudgetExceeded or NoDiskSpace, naming the numbers, for what does not fit now.

    `memory_budget_bytes` 0 is whatever is free or, of a job that still `waits`, whatever there is:
    what has memory now may have ended before it begins. `kept_bytes` of what the job needs lie on
    the disk already, in passes that are done: a job that goes on needs the rest.
    """
    here = total_bytes() if waits else available_bytes()
    bounds = [bound for bound in (memory_budget_bytes or None, here) if bound]
    if bounds and estimate.memory_bytes > min(bounds):
        raise MemoryBudgetExceeded(
            f"the job needs about {estimate.memory_bytes} bytes of memory, {min(bounds)} can be"
            " had here",
            needed_bytes=estimate.memory_bytes,
            available_bytes=min(bounds),
        )
    place = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(place).free
    needed = estimate.disk_bytes - kept_bytes
    if needed > free:
        raise NoDiskSpace(
            f"the job needs about {needed} bytes on the disk of {place}, {free} are free",
            needed_bytes=needed,
            available_bytes=free,
            path=place,
        )


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / LOCK_FILE).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
