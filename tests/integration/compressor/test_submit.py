"""What a submission looks at, and what is left for when the job begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compression import done, running_compressor


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
