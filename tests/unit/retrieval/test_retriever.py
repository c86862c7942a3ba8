"""Which search is done: the best that can be, with a reason where that is not all."""

from __future__ import annotations

import pytest

from hola.errors import EmbedderMismatch
from hola.retrieval.retriever import Retriever, dense_obstacle
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import Collection, SearchMode
from tests.support.retrieval import WordEmbedder, document, vectors_of

EMBEDDER = WordEmbedder(kitten="cat")
DOCUMENTS = [document("cat", "a cat sleeps"), document("dog", "a dog barks")]


@pytest.fixture
async def store(tmp_path):
    opened = SqliteStore(tmp_path)
    await opened.create("t", "dense", embedder=EMBEDDER.id, dimensions=EMBEDDER.dimensions)
    await opened.put("t", "dense", DOCUMENTS, vectors_of(EMBEDDER, *DOCUMENTS))
    await opened.create("t", "plain")
    await opened.put("t", "plain", DOCUMENTS)
    yield opened
    await opened.close()


async def test_hybrid_where_it_can_be(store):
    found = await Retriever(store, EMBEDDER).search("t", "dense", "kitten barks", k=2)
    assert (found.mode, found.note) == (SearchMode.HYBRID, "")
    assert {passage.source for passage in found.passages} == {"cat", "dog"}


@pytest.mark.parametrize(
    ("name", "embedder", "reason"),
    [
        ("plain", EMBEDDER, "no vectors"),
        ("dense", None, "not installed"),
        ("dense", WordEmbedder(name="other"), "the embedder here is other-64"),
    ],
)
async def test_else_words_alone_and_the_reason(store, name, embedder, reason):
    retriever = Retriever(store, embedder)
    found = await retriever.search("t", name, "barks")
    assert found.mode is SearchMode.BM25
    assert reason in found.note
    assert [passage.source for passage in found.passages] == ["dog"]
    asked = await retriever.search("t", name, "barks", mode=SearchMode.BM25)
    assert asked.note == "", "who asks for words alone misses nothing"
    for mode in (SearchMode.DENSE, SearchMode.HYBRID):
        with pytest.raises(EmbedderMismatch, match=reason):
            await retriever.search("t", name, "barks", mode=mode)


async def test_words_alone_cost_no_embedding(store):
    embedder = WordEmbedder()
    await Retriever(store, embedder).search("t", "dense", "cat", mode=SearchMode.BM25)
    assert embedder.texts == []


def test_an_embedder_of_another_size_is_another():
    held = Collection(tenant="t", name="c", embedder=EMBEDDER.id, dimensions=32)
    assert dense_obstacle(held, EMBEDDER)
