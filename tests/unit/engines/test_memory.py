"""Memory arithmetic: what the machine and its cgroup leave, and a budget that names numbers."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hola.engines.memory import (
    MemoryBudget,
    available_bytes,
    ran_out,
    total_bytes,
)
from hola.errors import MemoryBudgetExceeded

GIB = 2**30


def machine(folder: Path, *, free_kib: int) -> Path:
    file = folder / "meminfo"
    file.write_text(f"MemTotal:       99999999 kB\nMemAvailable:   {free_kib} kB\n")
    return file


def cgroup(folder: Path, **files: str) -> Path:
    root = folder / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def test_machine_alone(tmp_path: Path) -> None:
    meminfo = machine(tmp_path, free_kib=2048)
    assert available_bytes(meminfo, tmp_path / "none") == 2048 * 1024


def test_cgroup_is_the_smaller(tmp_path: Path) -> None:
    root = cgroup(
        tmp_path,
        memory__max=f"{GIB}\n",
        memory__current=f"{GIB // 2}\n",
        memory__stat=f"anon 1\ninactive_file {GIB // 4}\n",
    )
    meminfo = machine(tmp_path, free_kib=8 * 2**20)
    assert available_bytes(meminfo, root) == GIB // 2 + GIB // 4


def test_cgroup_without_limit_does_not_count(tmp_path: Path) -> None:
    root = cgroup(tmp_path, memory__max="max\n", memory__current="5\n")
    assert available_bytes(machine(tmp_path, free_kib=4), root) == 4096


def test_cgroup_beyond_its_limit_leaves_nothing(tmp_path: Path) -> None:
    root = cgroup(tmp_path, memory__max="100\n", memory__current="150\n")
    assert available_bytes(machine(tmp_path, free_kib=4), root) == 0


def test_older_cgroups(tmp_path: Path) -> None:
    root = tmp_path / "v1"
    (root / "memory").mkdir(parents=True)
    (root / "memory" / "memory.limit_in_bytes").write_text("3000\n")
    (root / "memory" / "memory.usage_in_bytes").write_text("1000\n")
    (root / "memory" / "memory.stat").write_text("total_inactive_file 500\n")
    assert available_bytes(machine(tmp_path, free_kib=4), root) == 2500


def test_all_memory_is_the_smaller_of_machine_and_limit_whatever_is_in_use(tmp_path: Path) -> None:
    meminfo, nothing = machine(tmp_path, free_kib=4), tmp_path / "none"
    limited = cgroup(tmp_path, memory__max="3000\n", memory__current="2999\n")
    (tmp_path / "v1/memory").mkdir(parents=True)
    (tmp_path / "v1/memory/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert total_bytes(meminfo, nothing) == 99999999 * 1024
    assert total_bytes(meminfo, limited) == 3000
    assert total_bytes(meminfo, tmp_path / "v1") == 99999999 * 1024
    assert total_bytes(nothing, nothing) is None


@pytest.mark.parametrize("text", ["", "MemAvailable:", "MemAvailable: x kB", "nonsense"])
def test_unreadable_machine_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert available_bytes(tmp_path / "meminfo", tmp_path / "none") is None


def test_budget_counts_and_gives_back() -> None:
    budget = MemoryBudget(1000, free=lambda: 10**9)
    budget.reserve(600, "weights")
    with pytest.raises(MemoryBudgetExceeded) as caught:
        budget.reserve(500, "a KV cache")
    assert caught.value.details == {
        "needed_bytes": "500",
        "available_bytes": "400",
        "budget_bytes": "1000",
        "used_bytes": "600",
    }
    assert "a KV cache" in caught.value.message
    budget.release(600)
    budget.reserve(1000, "all of it")
    assert budget.used_bytes == 1000


def test_budget_never_exceeds_the_machine() -> None:
    assert MemoryBudget(10**12, free=lambda: 500).limit_bytes == 500


def test_machine_that_fills_up_later_refuses() -> None:
    free = [1000, 1000, 10]
    budget = MemoryBudget(None, free=lambda: free.pop(0))
    budget.reserve(100, "first")
    with pytest.raises(MemoryBudgetExceeded, match="second"):
        budget.reserve(100, "second")


def test_unknown_machine_is_bounded_by_the_limit_only() -> None:
    budget = MemoryBudget(50, free=lambda: None)
    budget.reserve(50, "all")
    with pytest.raises(MemoryBudgetExceeded):
        budget.reserve(1, "one more")


@pytest.mark.parametrize(
    ("error", "did"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("size mismatch"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_what_means_that_memory_ran_out(error: Exception, did: bool) -> None:
    assert ran_out(error) is did


FREED = """
from pathlib import Path
from hola.engines.memory import give_back_freed

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

pieces = [b"x" * 100_000 + bytes([n % 256]) for n in range(1000)]
last = pieces.pop()  # above all others: what is freed below it stays the process's own
full = resident()
pieces.clear()
give_back_freed()
print(full - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing")
def test_freed_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 80_000_000
