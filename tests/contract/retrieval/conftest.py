"""Every scenario runs on each document store: the embedded one, exact and with its graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hola.retrieval.ports import DocumentStore
from hola.retrieval.sqlite_store import SqliteStore


@pytest.fixture(params=["sqlite", "sqlite-graph"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DocumentStore]:
    """An empty store of each engine."""
    exact_limit = {"sqlite": 10_000, "sqlite-graph": 0}[request.param]
    opened = SqliteStore(tmp_path / "data", exact_limit=exact_limit)
    yield opened
    await opened.close()
