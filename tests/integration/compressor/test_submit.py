"""What a submission looks at, and what is left for when the job begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.compression.request import JobRequest
from hola.errors import UnknownModel
from tests.support.compression import done, plan_json, running_compressor


async def test_memory_that_is_in_use_is_looked_at_when_the_job_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At submission another job may have it; then this one waits for it."""
    monkeypatch.setattr("hola_compressor.workdir.available_bytes", lambda: 10)
    async with running_compressor(tmp_path) as client:
        last = await done(client)
    assert last.failure is not None
    assert last.failure.reason == "MEMORY_BUDGET_EXCEEDED"
    assert last.failure.details["available_bytes"] == "10"


async def test_the_target_of_a_draft_is_looked_for_though_its_source_is_a_hubs(
    tmp_path: Path,
) -> None:
    plan = plan_json(objective="draft", draft_for="nope")
    async with running_compressor(tmp_path, compress_hub=True) as client:
        with pytest.raises(UnknownModel, match="known: tiny"):
            await client.submit(JobRequest(model="org/name", plan_json=plan))
