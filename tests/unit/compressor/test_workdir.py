"""Jobs' directories: inside their root whatever they are called, and checked for room."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.errors import MemoryBudgetExceeded, NoDiskSpace
from hola_compressor.passes import Estimate
from hola_compressor.workdir import WorkDirs, check_room
from tests.support.compression import compression_job


@pytest.mark.parametrize(("tenant", "job_id"), [("default", "j1"), ("..", ".."), (".", "..")])
def test_a_directory_is_inside_the_root(tmp_path: Path, tenant: str, job_id: str):
    root = tmp_path / "compression"
    other = root.parent / "other"
    other.mkdir()
    works, job = WorkDirs(root), compression_job(job_id, tenant=tenant)
    folder = works.of(job)
    assert folder.resolve().parent == root.resolve()
    works.remove(tenant, job_id)
    assert (folder.exists(), root.exists(), other.exists()) == (False, True, True)


def test_equal_ids_of_two_tenants_have_two_directories(tmp_path: Path):
    works = WorkDirs(tmp_path)
    places = {works.of(compression_job(tenant=tenant)) for tenant in ("a", "b")}
    assert len(places) == 2


def test_a_root_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoDiskSpace, match="cannot be written"):
        WorkDirs(tmp_path / "file").of(compression_job())


@pytest.mark.parametrize(
    ("memory", "disk", "budget", "error"),
    [
        (2**60, 1, 0, MemoryBudgetExceeded),
        (2000, 1, 1000, MemoryBudgetExceeded),
        (1, 2**60, 0, NoDiskSpace),
        (1, 1, 0, None),
    ],
)
def test_room_is_checked_with_the_numbers(
    tmp_path: Path, memory: int, disk: int, budget: int, error: type[Exception] | None
):
    needed = Estimate(memory_bytes=memory, disk_bytes=disk, smallest_bytes=1)
    if error is None:
        check_room(needed, tmp_path / "not/there/yet", budget)
        return
    with pytest.raises(error) as raised:
        check_room(needed, tmp_path / "not/there/yet", budget)
    details = raised.value.details  # type: ignore[attr-defined]
    assert int(details["needed_bytes"]) > int(details["available_bytes"])


def test_a_job_that_waits_may_need_memory_that_another_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hola_compressor.workdir.available_bytes", lambda: 500)
    monkeypatch.setattr("hola_compressor.workdir.total_bytes", lambda: 4000)
    needed = Estimate(memory_bytes=1000, disk_bytes=1, smallest_bytes=1)
    check_room(needed, tmp_path, waits=True)
    with pytest.raises(MemoryBudgetExceeded, match="500 can be had"):
        check_room(needed, tmp_path)
    with pytest.raises(MemoryBudgetExceeded, match="900 can be had"):
        check_room(needed, tmp_path, 900, waits=True)
    too_much = Estimate(memory_bytes=4001, disk_bytes=1, smallest_bytes=1)
    with pytest.raises(MemoryBudgetExceeded, match="4000 can be had"):
        check_room(too_much, tmp_path, 9000, waits=True)
