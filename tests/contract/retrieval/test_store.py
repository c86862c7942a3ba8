"""What every document store does: write, replace, delete, list, and keep tenants apart."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hola.errors import EmbedderMismatch, InvalidRequest, UnknownCollection
from hola.retrieval.types import Changes, ChunkedDocument, Collection, Query
from tests.support.retrieval import WordEmbedder, document, vectors_of

A, B = "tenant-a", "tenant-b"
TEA = document("tea.md", "Green tea is steeped at eighty degrees.", title="Tea")
COFFEE = document("coffee.md", "Espresso needs nine bars of pressure.", "Filter coffee needs none.")


async def sources(store, text: str, tenant: str = A, name: str = "notes") -> list[str]:
    return [passage.source for passage in await store.search(tenant, name, Query(text=text))]


@pytest.fixture
async def notes(store):
    await store.create(A, "notes")
    await store.put(A, "notes", [TEA, COFFEE])
    return store


async def test_what_was_put_is_found_and_counted(notes):
    assert await sources(notes, "how hot is green tea?") == ["tea.md"]
    held = await notes.collection(A, "notes")
    assert (held.tenant, held.name, held.documents, held.chunks) == (A, "notes", 2, 3)
    assert (held.embedder, held.dimensions) == ("", 0)


async def test_a_passage_says_where_it_stands(notes):
    (best, other) = await notes.search(A, "notes", Query(text="coffee pressure needs"))
    assert {best.chunk, other.chunk} == set(COFFEE.chunks)
    assert best.chunk == COFFEE.chunks[best.ordinal]
    assert best.score == best.bm25 > other.score == other.bm25 > 0
    assert best.dense is None
    assert best.also_in == ()


async def test_putting_a_source_again_replaces_what_it_had(notes):
    changes = await notes.put(A, "notes", [document("tea.md", "Oolong is half oxidised.")])
    assert changes == Changes(documents=1, chunks_added=1, chunks_removed=1)
    assert await sources(notes, "steeped eighty") == []
    assert await sources(notes, "oolong") == ["tea.md"]


async def test_putting_the_same_again_changes_nothing(notes):
    before = await notes.collection(A, "notes")
    assert await notes.put(A, "notes", [TEA, COFFEE]) == Changes(documents=2)
    after = await notes.collection(A, "notes")
    assert (after.documents, after.chunks) == (before.documents, before.chunks)


async def test_equal_chunks_are_kept_once_and_name_every_source(notes):
    copy = ChunkedDocument(source="b/copy.md", digest="x", chunks=TEA.chunks)
    assert await notes.put(A, "notes", [copy]) == Changes(documents=1)
    (passage,) = await notes.search(A, "notes", Query(text="green tea"))
    assert (passage.source, passage.also_in) == ("b/copy.md", ("tea.md",))
    assert await notes.delete(A, "notes", "b/copy.md") == Changes(documents=1)
    assert await sources(notes, "green tea") == ["tea.md"]


async def test_a_chunk_may_stand_twice_in_one_document(notes):
    await notes.put(A, "notes", [document("twice", "Once more.", "Between.", "Once more.")])
    passages = await notes.search(A, "notes", Query(text="once more"))
    assert [(p.source, p.ordinal, p.also_in) for p in passages] == [("twice", 0, ())]
    assert await notes.delete(A, "notes", "twice") == Changes(documents=1, chunks_removed=2)


async def test_deleting_a_source_deletes_its_parts_and_no_others(notes):
    parts = [document(name, name) for name in ("f#1", "f#2", "f", "f2", "F#1", "fo#1", "f%")]
    await notes.put(A, "notes", parts)
    assert await notes.delete(A, "notes", "f") == Changes(documents=3, chunks_removed=3)
    kept = {document.source for document in (await notes.page(A, "notes")).documents}
    assert kept == {"F#1", "coffee.md", "f%", "f2", "fo#1", "tea.md"}


async def test_deleting_without_parts_keeps_them(notes):
    await notes.put(A, "notes", [document("f", "whole"), document("f#1", "part")])
    assert (await notes.delete(A, "notes", "f", parts=False)).documents == 1
    assert await notes.digests(A, "notes", ["f", "f#1"]) == {"f#1": document("", "part").digest}


async def test_sources_are_listed_by_prefix_in_pages(notes):
    names = ["a/1", "a/2", "a/3", "a2", "A/1", "a%1", "b"]
    await notes.put(A, "notes", [document(name, name) for name in names])
    assert await notes.sources(A, "notes", prefix="a/") == ("a/1", "a/2", "a/3")
    assert await notes.sources(A, "notes", prefix="a/", limit=2) == ("a/1", "a/2")
    assert await notes.sources(A, "notes", prefix="a/", after="a/2") == ("a/3",)
    assert await notes.sources(A, "notes", prefix="a%") == ("a%1",)
    assert await notes.sources(A, "notes") == tuple(sorted([*names, "coffee.md", "tea.md"]))
    with pytest.raises(InvalidRequest):
        await notes.sources(A, "notes", limit=0)


async def test_deleting_what_is_not_there_changes_nothing(notes):
    assert await notes.delete(A, "notes", "nowhere.md") == Changes()


async def test_a_document_may_have_no_chunks(notes):
    empty = ChunkedDocument(source="empty.md", digest="d", chunks=())
    assert await notes.put(A, "notes", [empty]) == Changes(documents=1)
    assert await notes.digests(A, "notes", ["empty.md"]) == {"empty.md": "d"}


async def test_digests_and_known_chunks_tell_what_need_not_be_put(notes):
    asked = ["tea.md", "nowhere.md"]
    assert await notes.digests(A, "notes", asked) == {"tea.md": TEA.digest}
    ids = [chunk.id for chunk in COFFEE.chunks]
    assert await notes.known(A, "notes", [*ids, "0" * 32]) == set(ids)
    assert await notes.digests(A, "notes", []) == {}
    many = [f"s{number}" for number in range(1200)]
    assert await notes.digests(A, "notes", [*many, "tea.md"]) == {"tea.md": TEA.digest}


async def test_pages_go_through_every_document_in_order(store):
    embedder = WordEmbedder()
    documents = [document(f"d{number:02}", f"word{number} shared") for number in range(23)]
    await store.create(A, "notes", embedder=embedder.id, dimensions=embedder.dimensions)
    vectors = vectors_of(embedder, *documents)
    await store.put(A, "notes", list(reversed(documents)), vectors)
    seen, after = [], ""
    while page := (await store.page(A, "notes", after=after, limit=10)).documents:
        seen += page
        after = page[-1].source
    assert seen == documents
    last = await store.page(A, "notes", after="d21", limit=10)
    (chunk,) = documents[22].chunks
    assert list(last.vectors) == [chunk.id]
    assert np.abs(last.vectors[chunk.id] - vectors[chunk.id]).max() < 1e-3


async def test_collections_are_listed_by_name(notes):
    await notes.create(A, "a-first")
    assert [held.name for held in await notes.collections(A)] == ["a-first", "notes"]
    assert await notes.collections("nobody") == ()


async def test_creating_twice_gives_the_same_and_for_another_embedder_is_refused(store):
    made = await store.create(A, "notes", embedder="words-64", dimensions=64)
    assert isinstance(made, Collection)
    again = await store.create(A, "notes", embedder="words-64", dimensions=64)
    assert (again.embedder, again.dimensions) == ("words-64", 64)
    for embedder, dimensions in (("other", 64), ("words-64", 32), ("", 0)):
        with pytest.raises(EmbedderMismatch):
            await store.create(A, "notes", embedder=embedder, dimensions=dimensions)


async def test_a_dropped_collection_is_gone_and_can_be_made_anew(notes):
    await notes.drop(A, "notes")
    assert await notes.collections(A) == ()
    with pytest.raises(UnknownCollection):
        await sources(notes, "tea")
    await notes.create(A, "notes")
    assert await sources(notes, "tea") == []


async def test_tenants_see_and_change_only_their_own(notes):
    await notes.create(B, "notes")
    await notes.put(B, "notes", [document("tea.md", "Rooibos tea is no tea.")])
    assert [p.chunk.text for p in await notes.search(B, "notes", Query(text="tea"))] == [
        "Rooibos tea is no tea."
    ]
    await notes.delete(B, "notes", "coffee.md")
    await notes.drop(B, "notes")
    assert await sources(notes, "espresso") == ["coffee.md"]
    held = await notes.collection(A, "notes")
    assert held.documents == 2


FORBIDDEN = {
    "collection": lambda store: store.collection(B, "notes"),
    "drop": lambda store: store.drop(B, "notes"),
    "put": lambda store: store.put(B, "notes", [TEA]),
    "delete": lambda store: store.delete(B, "notes", "tea.md"),
    "digests": lambda store: store.digests(B, "notes", ["tea.md"]),
    "sources": lambda store: store.sources(B, "notes"),
    "known": lambda store: store.known(B, "notes", [TEA.chunks[0].id]),
    "page": lambda store: store.page(B, "notes"),
    "search": lambda store: store.search(B, "notes", Query(text="tea")),
}


@pytest.mark.parametrize("call", FORBIDDEN, ids=str)
async def test_another_tenants_collection_does_not_exist(notes, call):
    with pytest.raises(UnknownCollection):
        await FORBIDDEN[call](notes)
    assert (await notes.collection(A, "notes")).documents == 2


TENANTS = ["../tenant-a", "tenant-a/", "TENANT-A", "tenant-a\x00", "..", ".", "/", "té nant", "%"]


@pytest.mark.parametrize("tenant", TENANTS)
async def test_no_spelling_of_a_tenant_reaches_another(notes, tenant):
    assert await notes.collections(tenant) == ()
    with pytest.raises(UnknownCollection):
        await sources(notes, "tea", tenant)
    await notes.create(tenant, "notes")
    await notes.put(tenant, "notes", [document("x", "mine alone")])
    assert await sources(notes, "tea", tenant) == []
    assert await sources(notes, "alone") == []


@pytest.mark.parametrize(
    "name", ["", "Notes", "../notes", "a/b", ".db", "n" * 65, "é", "a b", "-a"]
)
async def test_an_impossible_collection_name_is_refused(store, name):
    for call in (store.create(A, name), store.search(A, name, Query(text="x"))):
        with pytest.raises(InvalidRequest):
            await call


@pytest.mark.parametrize("tenant", ["", "t" * 201, "\ud800"])
async def test_an_impossible_tenant_is_refused(store, tenant):
    with pytest.raises(InvalidRequest):
        await store.create(tenant, "notes")


BAD_DOCUMENTS = {
    "empty source": [document("", "text")],
    "long source": [document("s" * 5000, "text")],
    "half a surrogate pair in the source": [document("\ud800", "text")],
    "half a surrogate pair in the text": [document("s", "broken \ud800")],
    "NUL in the text": [document("s", "broken \x00")],
    "a source twice": [document("s", "one"), document("s", "two")],
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
async def test_a_bad_document_is_refused_and_nothing_of_its_batch_is_written(notes, case):
    with pytest.raises(InvalidRequest):
        await notes.put(A, "notes", [document("good", "good"), *BAD_DOCUMENTS[case]])
    assert await notes.digests(A, "notes", ["good"]) == {}


async def test_writers_and_readers_at_the_same_time(notes):
    async def write(number: int) -> None:
        await notes.put(A, "notes", [document(f"w{number}", f"item{number} common")])

    async def read() -> None:
        for passage in await notes.search(A, "notes", Query(text="common", k=100)):
            assert passage.source.startswith("w")

    await asyncio.gather(*(write(n) for n in range(30)), *(read() for _ in range(30)))
    assert len(await notes.search(A, "notes", Query(text="common", k=100))) == 30


async def test_closing_twice_does_no_harm(notes):
    await notes.close()
    await notes.close()
