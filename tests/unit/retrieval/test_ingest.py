"""Ingesting: only changes cost anything, and one bad document costs only itself."""

from __future__ import annotations

import pytest

from hola.errors import DocumentInvalid, EmbedderMismatch, InvalidRequest
from hola.retrieval import ingest as ingest_module
from hola.retrieval.copying import Place, copy_collection
from hola.retrieval.ingest import Ingester, Outcome
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Block, Document, Query
from tests.support.retrieval import WordEmbedder

T, NAME = "t", "notes"


@pytest.fixture
async def store(tmp_path):
    opened = SqliteStore(tmp_path)
    yield opened
    await opened.close()


def doc(source: str, *texts: str) -> Document:
    return Document(source=source, blocks=tuple(Block(text=text) for text in texts))


async def put(store, embedder, *documents, **sizes) -> list[tuple[str, Outcome]]:
    ingester = Ingester(store, embedder, **sizes)
    await ingester.open(T, NAME)
    return [(one.source, one.outcome) async for one in ingester.ingest(T, NAME, iter(documents))]


async def test_what_has_not_changed_is_neither_embedded_nor_written(store):
    embedder = WordEmbedder()
    first = [doc("a", "green tea"), doc("b", "black tea")]
    assert await put(store, embedder, *first) == [("a", Outcome.ADDED), ("b", Outcome.ADDED)]
    embedder.texts.clear()
    again = await put(store, embedder, doc("a", "green tea"), doc("b", "white tea"))
    assert again == [("a", Outcome.UNCHANGED), ("b", Outcome.ADDED)]
    assert embedder.texts == ["white tea"]
    found = await store.search(T, NAME, Query(text="tea"))
    assert {passage.chunk.text for passage in found} == {"green tea", "white tea"}


async def test_a_chunk_that_is_known_is_not_embedded_again(store):
    embedder = WordEmbedder()
    await put(store, embedder, doc("a", "green tea"))
    embedder.texts.clear()
    await put(store, embedder, doc("copy", "green tea"), doc("other", "x", "green tea"))
    assert embedder.texts == ["x\n\ngreen tea"]


async def test_other_chunking_is_a_change(store):
    text = "Sentence one is here. " * 20
    await put(store, None, doc("a", text))
    assert await put(store, None, doc("a", text)) == [("a", Outcome.UNCHANGED)]
    changed = await put(store, None, doc("a", text), max_chars=100, overlap_chars=0)
    assert changed == [("a", Outcome.ADDED)]


async def test_an_error_among_documents_is_passed_on_and_the_rest_goes_in(store):
    bad = DocumentInvalid("broken", source="bad")
    outcomes = await put(store, None, doc("a", "one"), bad, doc("b", "two"))
    assert sorted(outcomes) == [
        ("a", Outcome.ADDED), ("b", Outcome.ADDED), ("bad", Outcome.FAILED)
    ]  # fmt: skip


async def test_of_two_documents_with_one_source_the_later_stays(store):
    outcomes = await put(store, WordEmbedder(), doc("a", "old"), doc("b", "x"), doc("a", "new"))
    assert outcomes == [("a", Outcome.ADDED), ("b", Outcome.ADDED), ("a", Outcome.ADDED)]
    (page,) = (await store.page(T, NAME, limit=1)).documents
    assert [chunk.text for chunk in page.chunks] == ["new"]


async def test_nothing_in_is_nothing_out(store):
    assert await put(store, None) == []


async def test_many_documents_go_in_batches(store, monkeypatch):
    monkeypatch.setattr(ingest_module, "BATCH_DOCUMENTS", 3)
    outcomes = await put(store, None, *(doc(f"d{number}", f"n{number}") for number in range(10)))
    assert [source for source, _ in outcomes] == [f"d{number}" for number in range(10)]
    assert (await store.collection(T, NAME)).documents == 10


async def test_a_known_chunk_that_is_deleted_meanwhile_is_embedded_after_all(store):
    class Racing(WordEmbedder):
        async def embed(self, texts, *, query=False):
            await store.delete(T, NAME, "a")
            return await super().embed(texts, query=query)

    await put(store, WordEmbedder(), doc("a", "green tea"))
    embedder = Racing()
    outcomes = await put(store, embedder, doc("b", "green tea"), doc("c", "new"))
    assert outcomes == [("b", Outcome.ADDED), ("c", Outcome.ADDED)]
    assert embedder.texts == ["new", "green tea"]


async def test_an_embedder_that_is_not_the_collections_is_refused(store):
    await put(store, WordEmbedder(), doc("a", "x"))
    for other in (None, WordEmbedder(name="other"), WordEmbedder(dimensions=8)):
        with pytest.raises(EmbedderMismatch, match="collections copy"):
            await put(store, other, doc("b", "y"))


async def test_a_collection_without_vectors_takes_documents_from_anyone(store):
    await put(store, None, doc("a", "x"))
    embedder = WordEmbedder()
    assert await put(store, embedder, doc("b", "y")) == [("b", Outcome.ADDED)]
    assert embedder.texts == []


def test_impossible_sizes_are_refused_at_once(store):
    with pytest.raises(InvalidRequest):
        Ingester(store, None, max_chars=100, overlap_chars=90)


async def test_a_copy_keeps_documents_and_vectors(store):
    embedder = WordEmbedder()
    await put(store, embedder, *(doc(f"d{number:03}", f"n{number}") for number in range(150)))
    counts: list[int] = []
    held = await copy_collection(
        Place(store, T, NAME), Place(store, "other", "copy"), progress=counts.append
    )
    assert (held.documents, held.embedder, sum(counts)) == (150, embedder.id, 150)
    query = Query(text="n7", mode="dense", vector=embedder.vector("n7"), k=1)
    (best,) = await store.search("other", "copy", query)
    assert best.source == "d007"


async def test_a_copy_for_another_embedder_or_for_none(store):
    await put(store, WordEmbedder(), doc("a", "green tea", "green tea"), doc("b", "x"))
    other = WordEmbedder(dimensions=16)
    source = Place(store, T, NAME)
    copied = await copy_collection(
        source, Place(store, T, "c16"), reembed=True, embedder=other, progress=lambda _: None
    )
    assert (copied.embedder, copied.dimensions) == (other.id, 16)
    plain = await copy_collection(
        source, Place(store, T, "plain"), reembed=True, progress=lambda _: None
    )
    assert (plain.embedder, plain.chunks) == ("", copied.chunks)


async def test_a_copy_onto_itself_or_over_another_embedders_is_refused(store):
    await put(store, WordEmbedder(), doc("a", "x"))
    await store.create(T, "other", embedder="e", dimensions=3)
    place = Place(store, T, NAME)
    with pytest.raises(InvalidRequest):
        await copy_collection(place, Place(store, T, NAME), progress=lambda _: None)
    with pytest.raises(EmbedderMismatch):
        await copy_collection(place, Place(store, T, "other"), progress=lambda _: None)
