"""A Weaviate that dies, hangs, refuses or answers garbage; and what several writers leave."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from hola.errors import (
    ConfigError,
    EmbedderMismatch,
    StoreCorrupt,
    StoreUnavailable,
    UnknownCollection,
)
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Changes, Query, SearchMode
from hola.retrieval.weaviate_connect import parse_weaviate
from hola.retrieval.weaviate_schema import document_id
from hola.retrieval.weaviate_store import WeaviateStore
from tests.support.retrieval import WordEmbedder, document, vectors_of
from tests.support.weaviate import API_KEY, READ_ONLY_KEY, running_weaviate

T, NAME = "acme", "notes"
PATIENT_S, HASTY_S = 60.0, 3.0
TEA = document("tea.md", "Green tea is steeped.", "Black tea is boiled.")
COFFEE = document("coffee.md", "Espresso needs pressure.")
EMBEDDER = WordEmbedder()


@pytest.fixture
async def server():
    async with running_weaviate() as running:
        yield running


@pytest.fixture
async def open_store(server):
    """Opens stores on the server, each as another process would; closes them all."""
    opened: list[WeaviateStore] = []

    def another(**more) -> WeaviateStore:
        store = WeaviateStore(parse_weaviate(server.url), **({"timeout_s": PATIENT_S} | more))
        opened.append(store)
        return store

    yield another
    server.hang = None
    for store in opened:
        await store.close()


@pytest.fixture
async def notes(open_store):
    store = open_store()
    await store.create(T, NAME)
    await store.put(T, NAME, [TEA])
    return store


async def found(store, text: str, **more) -> list[str]:
    return [p.chunk.text for p in await store.search(T, NAME, Query(text=text, **more))]


async def everything(store) -> dict[str, tuple[str, ...]]:
    """Texts by source, read page by page."""
    page = await store.page(T, NAME)
    return {one.source: tuple(chunk.text for chunk in one.chunks) for one in page.documents}


async def test_a_server_that_is_not_there_is_said_and_found_again_when_it_is(server, open_store):
    await server.kill()
    store = open_store()
    with pytest.raises(StoreUnavailable, match="cannot be reached: start it"):
        await store.collections(T)
    await server.start()
    assert await store.collections(T) == ()


async def test_a_grpc_port_that_is_not_there_is_named(server, open_store):
    await server.kill_grpc()
    with pytest.raises(StoreUnavailable, match=f"gRPC at 127.0.0.1:{server.grpc_port}"):
        await open_store().collections(T)


async def test_a_server_that_dies_during_a_put_and_comes_back(server, notes, open_store):
    hasty = open_store(timeout_s=HASTY_S)
    server.once["BatchObjects"] = server.kill_meanwhile
    with pytest.raises(StoreUnavailable):
        await hasty.put(T, NAME, [COFFEE])
    assert server.dying is not None
    await server.dying
    await server.start()
    assert await everything(notes) == {"tea.md": ("Green tea is steeped.", "Black tea is boiled.")}
    assert await hasty.put(T, NAME, [COFFEE]) == Changes(documents=1, chunks_added=1)
    assert await found(notes, "espresso") == ["Espresso needs pressure."]


BEFORE = document("a", "kept words", "old words")
AFTER = document("a", "kept words", "new words", "more words")
OTHER = document("b", "other words")


async def test_a_crash_at_any_write_shows_each_document_old_or_new(server, open_store):
    old, new = (tuple(chunk.text for chunk in one.chunks) for one in (BEFORE, AFTER))
    store = open_store()
    for writes in range(7):
        await store.create(T, NAME)
        await store.put(T, NAME, [BEFORE])
        server.writes_left = writes
        try:
            await store.put(T, NAME, [AFTER, OTHER])
            finished = True
        except StoreUnavailable:
            finished = False
        server.revive()
        held = await everything(store)
        assert held["a"] in (old, new), writes
        assert held.get("b", ("other words",)) == ("other words",)
        assert finished or writes < 6, writes  # 3 chunks, 2 documents, 1 chunk to remove
        shown = {text for texts in held.values() for text in texts}
        assert set(await found(store, "words", k=100)) == shown, writes
        again = await store.put(T, NAME, [AFTER, OTHER])
        assert again.documents == 2
        assert await everything(store) == {"a": new, "b": ("other words",)}
        assert set(await found(store, "words", k=100)) == {*new, "other words"}
        await store.drop(T, NAME)


async def test_a_crash_while_deleting_shows_whole_documents(server, open_store):
    store = open_store()
    parts = [document(name, f"text of {name}", "shared text") for name in ("f", "f#1", "f#2")]
    texts = {one.source: tuple(chunk.text for chunk in one.chunks) for one in parts}
    for writes in range(8):
        await store.create(T, NAME)
        await store.put(T, NAME, parts)
        server.writes_left = writes
        try:
            await store.delete(T, NAME, "f")
        except StoreUnavailable:
            assert writes < 7
        server.revive()
        held = await everything(store)
        assert held.items() <= texts.items()
        shown = {text for left in held.values() for text in left}
        assert set(await found(store, "text", k=100)) == shown
        await store.delete(T, NAME, "f")
        assert await everything(store) == {}
        assert await found(store, "text", k=100) == []
        await store.drop(T, NAME)


async def test_a_crash_while_dropping_or_creating_leaves_it_there_or_not(server, open_store):
    store = open_store()
    await store.create(T, NAME)
    await store.put(T, NAME, [TEA])
    server.writes_left = 0
    with pytest.raises(StoreUnavailable):
        await store.drop(T, NAME)
    server.revive()
    assert await found(store, "green") == ["Green tea is steeped."]
    server.writes_left = 1
    await asyncio.gather(store.drop(T, NAME), return_exceptions=True)
    server.revive()
    assert await store.collections(T) == ()
    server.writes_left = 0
    with pytest.raises(StoreUnavailable):
        await store.create(T, NAME)
    server.revive()
    with pytest.raises(UnknownCollection):
        await store.collection(T, NAME)
    await store.create(T, NAME)
    assert await everything(store) == {}


async def test_what_no_document_names_is_passed_over_and_does_not_cost_a_place(server, open_store):
    store = open_store()
    embedder = EMBEDDER
    await store.create(T, NAME, embedder=embedder.id, dimensions=embedder.dimensions)
    kept = [document(f"d{number}", f"words here {number}") for number in range(5)]
    await store.put(T, NAME, kept, vectors_of(embedder, *kept))
    orphans = document("lost", *(f"words here words {number}" for number in range(40)))
    server.writes_left = 40
    with pytest.raises(StoreUnavailable):
        await store.put(T, NAME, [orphans], vectors_of(embedder, orphans))
    server.revive()
    for mode in SearchMode:
        query = Query(text="words", k=5, candidates=8, mode=mode, vector=embedder.vector("words"))
        passages = await store.search(T, NAME, query)
        assert {p.source for p in passages} == {one.source for one in kept}, mode
    assert await store.put(T, NAME, [orphans]) == Changes(documents=1)  # no vector is asked for
    assert (await store.collection(T, NAME)).chunks == 45


async def test_a_chunk_taken_up_while_it_is_removed_stays(server, notes, open_store):
    """One process deletes the only document with a chunk; another puts it into its own."""
    other = open_store()
    copy = document("copy.md", "Green tea is steeped.")

    async def delete() -> None:
        await other.delete(T, NAME, "tea.md")

    server.once["BatchObjects"] = delete  # before the copy is written: its chunk is there by then
    await notes.put(T, NAME, [copy])
    assert await everything(notes) == {"copy.md": ("Green tea is steeped.",)}

    async def put() -> None:
        await other.put(T, NAME, [document("third.md", "Green tea is steeped.")])

    async def before_the_chunk_goes() -> None:
        server.once["BatchDelete"] = put

    server.once["BatchDelete"] = before_the_chunk_goes
    await notes.delete(T, NAME, "copy.md")
    assert await everything(notes) == {"third.md": ("Green tea is steeped.",)}
    assert await found(notes, "steeped") == ["Green tea is steeped."]


async def test_several_processes_make_and_fill_one_collection(open_store):
    stores = [open_store() for _ in range(4)]
    await asyncio.gather(*(store.create(T, NAME) for store in stores))
    documents = [document(f"s{number}", "common", f"own{number}") for number in range(4)]
    puts = zip(stores, documents, strict=True)
    await asyncio.gather(*(store.put(T, NAME, [one]) for store, one in puts))
    held = await stores[0].collection(T, NAME)
    assert (held.documents, held.chunks) == (4, 5)
    (passage,) = await stores[1].search(T, NAME, Query(text="common"))
    assert (passage.source, passage.also_in) == ("s0", ("s1", "s2", "s3"))


async def test_a_collection_dropped_by_another_process_is_unknown_at_once(notes, open_store):
    await open_store().drop(T, NAME)
    for call in (notes.put(T, NAME, [COFFEE]), notes.search(T, NAME, Query(text="tea"))):
        with pytest.raises(UnknownCollection):
            await call


async def test_one_dropped_in_the_middle_of_a_call_is_unknown(server, notes, open_store):
    async def drop() -> None:
        await open_store().drop(T, NAME)

    server.once["BatchObjects"] = drop
    with pytest.raises(UnknownCollection):
        await notes.put(T, NAME, [COFFEE])


async def test_a_put_whose_caller_goes_away_ends_all_the_same(server, notes):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await go_on.wait()

    server.once["BatchObjects"] = wait
    putting = asyncio.create_task(notes.put(T, NAME, [COFFEE]))
    await reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    go_on.set()
    await notes.put(T, NAME, [])  # the next write waits for its turn
    assert await found(notes, "espresso") == ["Espresso needs pressure."]


async def test_a_server_that_hangs_is_given_up_and_nothing_is_held_up(server, notes, open_store):
    hasty = open_store(timeout_s=0.3)
    server.hang = asyncio.Event()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.3 s"):
        await hasty.search(T, NAME, Query(text="tea"))
    server.hang.set()
    assert await found(notes, "green") == ["Green tea is steeped."]


GARBAGE = [b"", b"<html>login</html>", b"{}", b"[]", b"null", b'{"version": 7}', b'{"version": ""}']
GARBAGE += [b'{"version": "1.20.0"}', json.dumps({"version": "x" * 10_000}).encode(), b"\xff\xfe"]


@pytest.mark.parametrize("answer", GARBAGE, ids=lambda answer: repr(answer[:20]))
async def test_a_server_of_something_else_is_unusable(server, open_store, answer):
    server.garbage = answer
    with pytest.raises(StoreUnavailable) as caught:
        await open_store().collections(T)
    assert len(caught.value.message) < 500


async def test_a_server_that_is_too_old_is_told_so(open_store, monkeypatch):
    monkeypatch.setattr("tests.support.weaviate.VERSION", "1.28.9")
    with pytest.raises(StoreUnavailable, match=r"is '1\.28\.9', and 1\.29 or newer is needed"):
        await open_store().collections(T)


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "key"
    file.write_text(API_KEY + "\n")
    return file


async def test_a_key_is_shown_and_a_wrong_or_missing_one_is_said(server, open_store, key_file):
    server.keys = True
    store = open_store(key_file=str(key_file))
    await store.create(T, NAME)
    await store.put(T, NAME, [TEA])
    with pytest.raises(StoreUnavailable, match="wants an API key: name a file"):
        await open_store().search(T, NAME, Query(text="tea"))
    key_file.write_text("wrong-key")
    with pytest.raises(
        StoreUnavailable, match=r"refuses the key in .*/key: write a valid"
    ) as error:
        await open_store(key_file=str(key_file)).search(T, NAME, Query(text="tea"))
    assert "wrong-key" not in error.value.message


async def test_a_key_that_was_changed_costs_no_call(server, open_store, key_file, monkeypatch):
    server.keys = True
    store = open_store(key_file=str(key_file))
    await store.create(T, NAME)
    monkeypatch.setattr("tests.support.weaviate.API_KEY", "new-key")
    with pytest.raises(StoreUnavailable, match="refuses the key"):
        await store.collection(T, NAME)
    for key in ("new-key", "newer-key"):
        monkeypatch.setattr("tests.support.weaviate.API_KEY", key)
        key_file.write_text(key)
        assert (await store.put(T, NAME, [TEA])).documents == 1


async def test_a_key_without_the_right_to_write_is_said(server, open_store, key_file):
    server.keys = True
    store = open_store(key_file=str(key_file))
    await store.create(T, NAME)
    await store.put(T, NAME, [TEA])
    key_file.write_text(READ_ONLY_KEY)
    reader = open_store(key_file=str(key_file))
    assert await found(reader, "green") == ["Green tea is steeped."]
    for call in (reader.put(T, NAME, [COFFEE]), reader.create(T, "new")):
        with pytest.raises(StoreUnavailable, match=r"does not allow this: .* Hola\*"):
            await call
    assert list(await everything(store)) == ["tea.md"]


@pytest.mark.parametrize("content", [b"", b"  \n", b"two\nlines", b"\xff", None])
async def test_a_key_file_without_a_key_is_a_wrong_setting(open_store, tmp_path, content):
    file = tmp_path / "bad"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="HOLA_STORE_KEY_FILE"):
        await open_store(key_file=str(file)).collections(T)


async def test_tenants_may_have_collections_of_one_name_and_unlike_vectors(open_store):
    store = open_store()
    for tenant, dimensions in ((T, 16), ("other", 32)):
        embedder = WordEmbedder(dimensions)
        await store.create(tenant, NAME, embedder=embedder.id, dimensions=dimensions)
        await store.put(tenant, NAME, [TEA], vectors_of(embedder, TEA))
        query = Query(text="", k=1, mode=SearchMode.DENSE, vector=embedder.vector("green tea"))
        (best,) = await store.search(tenant, NAME, query)
        assert best.chunk.text == "Green tea is steeped."
    query = Query(text="", mode=SearchMode.DENSE, vector=np.ones(32, np.float32))
    with pytest.raises(EmbedderMismatch):
        await store.search(T, NAME, query)


async def test_objects_of_another_making_are_called_damaged(server, notes):
    (shard,) = server.memory.tenants("HolaDocument")
    stored = server.memory.shard("HolaDocument", shard)[document_id("tea.md")]
    good = dict(stored.properties)
    for change in ({"pages": [1]}, {"source": None}, {"digest": None}, {"chunks": ["0" * 32] * 2}):
        stored.properties = {k: v for k, v in (good | change).items() if v is not None}
        with pytest.raises(StoreCorrupt):
            await notes.page(T, NAME)


async def test_both_engines_rank_alike(open_store, tmp_path):
    """The same stems, k1 and b; idf and what a title weighs differ."""
    draw = np.random.default_rng(20)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lling", "rness", "ts", "n")]
    odds = 1 / np.arange(1, len(words) + 1)

    def text(length: int) -> str:
        return " ".join(draw.choice(words, length, p=odds / odds.sum()))

    documents = [document(f"d{number}", text(30), title=text(3)) for number in range(150)]
    stores = (SqliteStore(tmp_path), open_store())
    for store in stores:
        await store.create(T, NAME)
        await store.put(T, NAME, documents)
    shared = []
    for _ in range(20):
        query = Query(text=text(4), k=10)
        one, other = [
            {passage.source for passage in await store.search(T, NAME, query)} for store in stores
        ]
        shared.append(len(one & other) / 10)
    await stores[0].close()
    assert np.mean(shared) > 0.7, shared


async def test_texts_that_are_not_taken_reach_no_log(server, notes, caplog):
    (shard,) = server.memory.tenants("HolaChunk")
    server.memory.definitions["HolaChunk"]["properties"] = []
    with pytest.raises(StoreUnavailable, match="no such prop"):
        await notes.put(T, NAME, [document("secret", "my secret"), COFFEE])
    assert "secret" not in caplog.text
    assert list(server.memory.shard("HolaDocument", shard)) == [document_id("tea.md")]


async def test_a_closed_store_answers_no_more(notes):
    await notes.close()
    for call in (notes.collections(T), notes.put(T, NAME, [TEA]), notes.create(T, NAME)):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
