"""What must not become a job, or ends one: each a typed error with its status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from hola.compression.request import JobRequest
from hola.errors import (
    ArtifactInvalid,
    BudgetInfeasible,
    CalibrationTooShort,
    HolaError,
    InvalidRequest,
    MemoryBudgetExceeded,
    NoDiskSpace,
    TokenizerMismatch,
    UnknownModel,
    UnsupportedArchitecture,
    from_reason,
)
from hola.models.family import TierSource, write_manifest
from hola.rpc.errors import code_of
from tests.support import passes_child
from tests.support.compression import done, plan_json, running_compressor, write_source_family
from tests.support.tiny_models import write_tokenizer

Status = grpc.StatusCode


def nothing(_family: Path) -> None:
    """The models as they are."""


def pickled(family: Path) -> None:
    (family / "target/model.safetensors").unlink()
    (family / "target/pytorch_model.bin").write_bytes(b"\x80\x04K\x00.")


def cut_off(family: Path) -> None:
    file = family / "target/model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def no_header(family: Path) -> None:
    (family / "target/model.safetensors").write_bytes(b"\xff" * 30)


def no_checkpoint(family: Path) -> None:
    (family / "target/config.json").unlink()


def other_tokenizer(family: Path) -> None:
    """A family of the default name whose tokenizer is another one."""
    other = write_source_family(family.parent, f"{family.name}-lobi").path
    for tier in ("draft", "target"):
        write_tokenizer(other / tier, merges=3)
    write_manifest(
        other,
        name=other.name,
        target=TierSource(name="target", path="target"),
        ladder=[TierSource(name="draft", path="draft")],
    )


REFUSED: list[tuple[str, Callable[[Path], None], dict[str, Any], type[HolaError], Status]] = [
    ("no model", nothing, {"model": ""}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("unknown model", nothing, {"model": "nope"}, UnknownModel, Status.NOT_FOUND),
    ("a path", nothing, {"model": "/etc"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("a way out", nothing, {"model": "../../etc"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("a hub id", nothing, {"model": "org/name"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("unknown tier", nothing, {"tier": "x"}, ArtifactInvalid, Status.FAILED_PRECONDITION),
    ("a bad name", nothing, {"name": "../x"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("a bad tier", nothing, {"publish_tier": "a/b"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("a bad id", nothing, {"job_id": "a b"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("no JSON", nothing, {"plan_json": "{"}, InvalidRequest, Status.INVALID_ARGUMENT),
    ("no budget", nothing, {"plan_json": "{}"}, InvalidRequest, Status.INVALID_ARGUMENT),
    (
        "two budgets",
        nothing,
        {"plan_json": '{"bits": 4}', "budget_bytes": 9},
        InvalidRequest,
        Status.INVALID_ARGUMENT,
    ),
    (
        "an unknown key",
        nothing,
        {"plan_json": plan_json(target="x")},
        InvalidRequest,
        Status.INVALID_ARGUMENT,
    ),
    (
        "a file for calibration",
        nothing,
        {"plan_json": plan_json(calibration={"source": "/etc/passwd"})},
        InvalidRequest,
        Status.INVALID_ARGUMENT,
    ),
    (
        "a path as target",
        nothing,
        {"plan_json": plan_json(objective="draft", draft_for="/etc")},
        InvalidRequest,
        Status.INVALID_ARGUMENT,
    ),
    ("no UTF-8", nothing, {"calibration": b"\xff"}, InvalidRequest, Status.INVALID_ARGUMENT),
    (
        "below what is possible",
        nothing,
        {"plan_json": plan_json(target_bytes=passes_child.SMALLEST - 1)},
        BudgetInfeasible,
        Status.INVALID_ARGUMENT,
    ),
    (
        "an unknown architecture",
        nothing,
        {"plan_json": plan_json(seed=passes_child.UNKNOWN_KIND)},
        UnsupportedArchitecture,
        Status.FAILED_PRECONDITION,
    ),
    (
        "more memory than there is",
        nothing,
        {"plan_json": plan_json(seed=passes_child.HUGE_MEMORY)},
        MemoryBudgetExceeded,
        Status.RESOURCE_EXHAUSTED,
    ),
    (
        "more disk than there is",
        nothing,
        {"plan_json": plan_json(seed=passes_child.HUGE_DISK)},
        NoDiskSpace,
        Status.RESOURCE_EXHAUSTED,
    ),
    ("pickled weights", pickled, {}, ArtifactInvalid, Status.FAILED_PRECONDITION),
    ("a cut shard", cut_off, {}, ArtifactInvalid, Status.FAILED_PRECONDITION),
    ("a shard of garbage", no_header, {}, ArtifactInvalid, Status.FAILED_PRECONDITION),
    ("no checkpoint", no_checkpoint, {}, ArtifactInvalid, Status.FAILED_PRECONDITION),
    ("another tokenizer", other_tokenizer, {}, TokenizerMismatch, Status.FAILED_PRECONDITION),
]


async def test_what_is_refused_and_how(tmp_path: Path) -> None:
    """One service for all of them: it goes on after each."""
    for number, (_, spoil, *_) in enumerate(REFUSED):
        family = write_source_family(tmp_path / "models", f"f{number}").path
        spoil(family)
    async with running_compressor(tmp_path) as client:
        for number, (what, _, changes, kind, code) in enumerate(REFUSED):
            values: dict[str, Any] = {"model": f"f{number}", "plan_json": plan_json(), **changes}
            with pytest.raises(HolaError) as raised:
                await client.submit(JobRequest(**values))
            check(what, raised.value, kind, code)


def check(what: str, error: HolaError, kind: type[HolaError], code: Status) -> None:
    """The error is of its class and status, and has the numbers it should name."""
    assert type(error) is kind, f"{what}: {error!r}"
    assert code_of(error) is code, what
    if kind is BudgetInfeasible:
        assert error.details["smallest_bytes"] == str(passes_child.SMALLEST)
    if kind in (MemoryBudgetExceeded, NoDiskSpace):
        assert int(error.details["needed_bytes"]) > int(error.details["available_bytes"])


ENDS: list[tuple[int, type[HolaError], str]] = [
    (passes_child.TOO_SHORT, CalibrationTooShort, "12 tokens"),
    (passes_child.KILLED, MemoryBudgetExceeded, "were killed"),
    (passes_child.NO_MEMORY, MemoryBudgetExceeded, "out of memory"),
    (passes_child.ALLOCATION, MemoryBudgetExceeded, "out of memory"),
    (passes_child.DISK_FULL, NoDiskSpace, "disk filled up"),
    (passes_child.DISK_FULL_IN_WORDS, NoDiskSpace, "disk filled up"),
    (passes_child.CRASHES, HolaError, "index out of range"),
    (passes_child.QUIET, HolaError, "code 3"),
]


async def test_how_a_job_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    async with running_compressor(tmp_path) as client:
        for seed, kind, text in ENDS:
            last = await done(client, plan_json=plan_json(seed=seed))
            assert last.failure is not None, seed
            error = from_reason(last.failure.reason, last.failure.message, {})
            assert type(error) is kind, last
            assert text in error.message
            if kind in (MemoryBudgetExceeded, NoDiskSpace):
                assert int(last.failure.details["available_bytes"]) > 0
        assert (await done(client)).failure is None
    assert not list((tmp_path / "data/compression").glob("*"))
