"""What fits: memory of the machine or its cgroup, and a budget that names its numbers."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hola.errors import MemoryBudgetExceeded

_MEMINFO = Path("/proc/meminfo")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MIB = 2**20
_UNLIMITED = 2**60
# As torch, onnxruntime and the standard library of C++ say it.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad allocation", "std::bad_alloc")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of either version of cgroups


def available_bytes(meminfo: Path = _MEMINFO, cgroup_root: Path = _CGROUP_ROOT) -> int | None:
    """Bytes that can be allocated without swapping, the cgroup's limit included.

    None where neither can be read (not Linux). Page cache that the kernel can drop counts as free.
    """
    found = (_meminfo(meminfo, "MemAvailable"), _cgroup_free(cgroup_root))
    known = [free for free in found if free is not None]
    return min(known) if known else None


def total_bytes(meminfo: Path = _MEMINFO, cgroup_root: Path = _CGROUP_ROOT) -> int | None:
    """All memory of the machine or, where that is less, what its cgroup may take; in use or not.

    None where neither can be read (not Linux).
    """
    bounds = [_meminfo(meminfo, "MemTotal"), *(_number(cgroup_root / name) for name in _LIMITS)]
    return min((bound for bound in bounds if bound is not None), default=None)


def ran_out(error: BaseException) -> bool:
    """Whether an error of any library means that memory could not be had."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def give_back_freed() -> None:
    """Return memory that was freed to the system, where the C library keeps it (glibc).

    Loading a graph frees several times what it keeps: whatever was folded on the way.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class MemoryBudget:
    """Bytes one engine may hold, weights and KV caches together. Thread-safe.

    `limit_bytes` None bounds it only by what the machine has free when the budget is made. Cache
    pages count from the reservation on, though the kernel hands them out on first touch.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        *,
        free: Callable[[], int | None] = available_bytes,
    ) -> None:
        self._free = free
        bounds = [bound for bound in (limit_bytes, free()) if bound is not None]
        self._limit = min(bounds, default=_UNLIMITED)
        self._used = 0
        self._lock = threading.Lock()

    @property
    def limit_bytes(self) -> int:
        """Most bytes that may be reserved."""
        return self._limit

    @property
    def used_bytes(self) -> int:
        """Bytes reserved now."""
        return self._used

    def reserve(self, needed_bytes: int, purpose: str) -> None:
        """Take bytes out of the budget. Raises MemoryBudgetExceeded naming the numbers."""
        with self._lock:
            left = self._limit - self._used
            free = self._free()
            available = left if free is None else min(left, free)
            if needed_bytes > available:
                raise MemoryBudgetExceeded(
                    f"{purpose} needs {_mib(needed_bytes)}, {_mib(available)} are available"
                    f" (budget {_mib(self._limit)}, in use {_mib(self._used)})",
                    needed_bytes=needed_bytes,
                    available_bytes=available,
                    budget_bytes=self._limit,
                    used_bytes=self._used,
                )
            self._used += needed_bytes

    def release(self, freed_bytes: int) -> None:
        """Give reserved bytes back."""
        with self._lock:
            self._used -= freed_bytes


def _mib(count: int) -> str:
    return f"{count / _MIB:,.1f} MiB"


def _meminfo(file: Path, key: str) -> int | None:
    try:
        for line in file.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _cgroup_free(root: Path) -> int | None:
    """Limit minus use (droppable file pages excluded) of the cgroup this process sees as root."""
    for limit, used, inactive in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        ceiling, in_use = _number(root / limit), _number(root / used)
        if ceiling is not None and in_use is not None and ceiling < _UNLIMITED:
            droppable = _stat((root / limit).parent / "memory.stat", inactive)
            return max(0, ceiling - in_use + droppable)
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" is no number: no limit
        return None


def _stat(file: Path, key: str) -> int:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == key), 0)
    except (OSError, ValueError, IndexError):
        return 0
