"""What the embedded store's files survive: kills, other processes, damage, locks, old formats."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hola.errors import StoreCorrupt, StoreUnavailable, UnknownCollection
from hola.retrieval import sqlite_schema
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Query
from tests.support.retrieval import WordEmbedder, document, vectors_of

WRITER = """
import asyncio, sys
from pathlib import Path
from hola.retrieval.sqlite_store import SqliteStore
from tests.support.retrieval import document

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.create("t", "c")
    for number in range(100_000):
        batch = [document(f"{number:06}-{part}", f"item{number} part {part}") for part in range(5)]
        await store.put("t", "c", batch)
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def open_store(tmp_path):
    """Opens one more store on the same folder."""
    opened: list[SqliteStore] = []

    def another() -> SqliteStore:
        opened.append(SqliteStore(tmp_path))
        return opened[-1]

    yield another
    for store in opened:
        await store.close()


def start_writer(folder: Path, repo_root: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(repo_root / "shared"), str(repo_root)])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("batches", [1, 7, 20])
async def test_a_killed_ingest_loses_nothing_it_was_told_of_and_shows_no_half_batch(
    tmp_path, repo_root, open_store, batches
):
    with start_writer(tmp_path, repo_root) as writer:
        for line in writer.stdout:
            if int(line) >= batches:
                break
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.stdout]
        acknowledged = max([batches, *told])
    store = open_store()
    documents, after = [], ""
    while page := (await store.page("t", "c", after=after, limit=1000)).documents:
        documents += page
        after = page[-1].source
    assert len(documents) % 5 == 0, "a batch is there as a whole or not at all"
    assert len(documents) >= 5 * (acknowledged + 1)
    found = await store.search("t", "c", Query(text=f"item{acknowledged}", k=9))
    assert {passage.source[:6] for passage in found} == {f"{acknowledged:06}"}
    held = await store.collection("t", "c")
    assert held.chunks == len(documents)


async def test_a_writer_that_is_killed_gives_its_lock_back(tmp_path, repo_root, open_store):
    with start_writer(tmp_path, repo_root) as writer:
        writer.stdout.readline()
        writer.kill()
    await open_store().put("t", "c", [document("after", "after the kill")])


async def test_another_store_sees_what_is_written_deleted_and_made_anew(open_store):
    embedder = WordEmbedder()
    one, other = open_store(), open_store()
    await one.create("t", "c", embedder=embedder.id, dimensions=embedder.dimensions)
    assert await other.collections("t")
    query = Query(text="cat", mode="dense", vector=embedder.vector("cat"))
    for text in ("cat one", "cat two"):
        made = document("s", text)
        await one.put("t", "c", [made], vectors_of(embedder, made))
        assert [p.chunk.text for p in await other.search("t", "c", query)] == [text]
    await one.drop("t", "c")
    with pytest.raises(UnknownCollection):
        await other.search("t", "c", query)
    await one.create("t", "c")
    await one.put("t", "c", [document("new", "cat three")])
    assert [p.source for p in await other.search("t", "c", Query(text="cat"))] == ["new"]


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("t/*.db")
    return file


@pytest.fixture
async def closed(tmp_path) -> Path:
    """The file of a collection that nobody has open."""
    store = SqliteStore(tmp_path)
    await store.create("t", "c")
    await store.put("t", "c", [document("s", "some text " * 2000)])
    await store.close()
    return only_file(tmp_path)


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\x00" * 9])
async def test_a_file_of_something_else_is_called_damaged(closed, open_store, content):
    closed.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="damaged"):
        await open_store().search("t", "c", Query(text="text"))


async def test_a_truncated_file_is_called_damaged(closed, open_store):
    closed.write_bytes(closed.read_bytes()[: closed.stat().st_size // 2])
    with pytest.raises(StoreCorrupt):
        await open_store().search("t", "c", Query(text="text"))


@pytest.mark.parametrize("pragma", ["user_version = 99", "application_id = 1"])
async def test_a_file_of_another_format_is_refused(closed, open_store, pragma):
    with sqlite3.connect(closed) as connection:
        connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(StoreCorrupt, match="no collection of this version"):
        await open_store().collection("t", "c")


async def test_a_collection_whose_making_was_cut_short_is_not_there(tmp_path, open_store):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "c.db").write_bytes(b"")
    store = open_store()
    assert await store.collections("t") == ()
    with pytest.raises(UnknownCollection):
        await store.search("t", "c", Query(text="x"))
    await store.create("t", "c")
    assert [held.name for held in await store.collections("t")] == ["c"]


async def test_a_lock_held_for_too_long_is_said(closed, open_store, monkeypatch):
    monkeypatch.setattr(sqlite_schema, "BUSY_S", 0.05)
    holder = sqlite3.connect(closed, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = open_store()
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.put("t", "c", [document("x", "x")])
    assert await store.search("t", "c", Query(text="text")), "readers do not wait for writers"
    holder.close()
    await store.put("t", "c", [document("x", "x")])


async def test_many_writers_that_wait_leave_readers_alone(closed, open_store, monkeypatch):
    monkeypatch.setattr(sqlite_schema, "BUSY_S", 60.0)
    holder = sqlite3.connect(closed, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = open_store()
    writes = [
        asyncio.create_task(store.put("t", "c", [document(f"w{number}", "x")]))
        for number in range(8)
    ]
    await asyncio.sleep(0)  # they are under way
    assert await store.search("t", "c", Query(text="text"))
    assert not any(write.done() for write in writes)
    holder.close()
    await asyncio.gather(*writes)
    assert (await store.collection("t", "c")).documents == 9


async def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = SqliteStore(tmp_path / "file")
    with pytest.raises(StoreUnavailable):
        await store.create("t", "c")
    await store.close()


async def test_a_closed_store_answers_no_more(open_store):
    store = open_store()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.collections("t")
