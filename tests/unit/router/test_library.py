"""A router's library on a real store: what a broken embedder costs, and loading it once."""

from __future__ import annotations

import asyncio

import pytest

from hola.bus.memory import MemoryBus
from hola.errors import ArtifactCorrupt
from hola.retrieval.queries import SearchQuestion
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.types import SearchMode
from hola.telemetry import Metrics
from hola_router.library import LOOK_AGAIN_S, Library, OneEmbedder
from tests.support.retrieval import WordEmbedder, document, vectors_of


@pytest.fixture
async def store(tmp_path):
    made = SqliteStore(tmp_path)
    yield made
    await made.close()


async def test_one_embedder_is_loaded_once_and_looked_for_again_when_there_is_none():
    now, found, loads = 0.0, [None, WordEmbedder()], []

    def load():
        loads.append(now)
        return found[min(len(loads) - 1, 1)]

    embedder = OneEmbedder(load, clock=lambda: now)
    assert await asyncio.gather(embedder.get(), embedder.get()) == [None, None]
    now = LOOK_AGAIN_S / 2
    assert await embedder.get() is None
    assert loads == [0.0]
    now = LOOK_AGAIN_S
    assert await embedder.get() is found[1]
    assert await embedder.get() is found[1]
    assert loads == [0.0, LOOK_AGAIN_S]
    await embedder.close()


async def test_collections_are_searched_as_well_as_each_allows(store):
    embedder = WordEmbedder()
    texts = document("a", "green tea"), document("b", "black coffee")
    await store.create("t", "dense", embedder=embedder.id, dimensions=embedder.dimensions)
    await store.put("t", "dense", texts, vectors_of(embedder, *texts))
    await store.create("t", "words")
    await store.put("t", "words", [document("c", "tea leaves")])
    library = Library(store, OneEmbedder(lambda: embedder), MemoryBus(), Metrics())
    answer = await library.search(
        SearchQuestion(text="tea", collections=("dense", "words")), tenant="t"
    )
    assert [one.mode for one in answer.searched] == [SearchMode.HYBRID, SearchMode.BM25]
    assert [name for name, _ in answer.passages[:2]] == ["dense", "words"]
    assert (await library.stats(tenant="t")).embedder == embedder.id


async def test_a_broken_embedder_costs_its_vectors_alone(store):
    embedder = WordEmbedder()
    text = document("a", "green tea")
    await store.create("t", "dense", embedder=embedder.id, dimensions=embedder.dimensions)
    await store.put("t", "dense", [text], vectors_of(embedder, text))

    def broken():
        raise ArtifactCorrupt("model.onnx differs from its digest")

    library = Library(store, OneEmbedder(broken), MemoryBus(), Metrics())
    question = SearchQuestion(text="tea", collections=("dense",))
    answer = await library.search(question, tenant="t")
    assert answer.searched[0].mode is SearchMode.BM25
    assert "not installed" in answer.searched[0].note
    assert (await library.stats(tenant="t")).embedder == ""
    with pytest.raises(ArtifactCorrupt):
        await library.search(
            SearchQuestion(text="tea", collections=("dense",), mode=SearchMode.DENSE), tenant="t"
        )
