"""Every scenario runs on each document store: the embedded one, exact and with its graph; Weaviate
over loopback, and a real server where HOLA_TEST_WEAVIATE_URL names one."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hola.retrieval.ports import DocumentStore
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.weaviate_connect import parse_weaviate
from hola.retrieval.weaviate_store import WeaviateStore
from tests.support.weaviate import remove_collections, running_weaviate

URL = "HOLA_TEST_WEAVIATE_URL"
# Read before the tests' environment is cleaned. The key is that of HOLA_STORE_KEY_FILE.
REAL_URL, REAL_KEY_FILE = (os.environ.get(name, "") for name in (URL, "HOLA_STORE_KEY_FILE"))


@pytest.fixture(params=["sqlite", "sqlite-graph", "weaviate", "weaviate-real"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DocumentStore]:
    """An empty store of each engine."""
    if request.param.startswith("sqlite"):
        exact_limit = {"sqlite": 10_000, "sqlite-graph": 0}[request.param]
        opened: DocumentStore = SqliteStore(tmp_path / "data", exact_limit=exact_limit)
        yield opened
        await opened.close()
    elif request.param == "weaviate":
        async with running_weaviate() as server:
            opened = WeaviateStore(parse_weaviate(server.url), timeout_s=60)
            yield opened
            await opened.close()
    elif not REAL_URL:
        pytest.skip(f"{URL} names no server")
    else:
        address = replace(parse_weaviate(REAL_URL), prefix=f"HolaTest{uuid.uuid4().hex[:8]}")
        opened = WeaviateStore(address, key_file=REAL_KEY_FILE, timeout_s=60)
        yield opened
        await opened.close()
        await remove_collections(address, REAL_KEY_FILE)
