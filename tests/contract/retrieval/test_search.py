"""What every document store finds: words, likeness, both; and no query that breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hola.errors import EmbedderMismatch, InvalidRequest
from hola.retrieval.types import Fusion, Query, SearchMode
from tests.support.retrieval import WordEmbedder, document, vectors_of

T, NAME = "default", "facts"
EMBEDDER = WordEmbedder(kitten="cat", feline="cat")
DOCUMENTS = [
    document("cat", "a cat sleeps"),
    document("dog", "a dog barks loudly at night"),
    document("fish", "fish swim", title="Water animals"),
    document("running", "She was running through connected rooms"),
]


@pytest.fixture
async def facts(store):
    await store.create(T, NAME, embedder=EMBEDDER.id, dimensions=EMBEDDER.dimensions)
    await store.put(T, NAME, DOCUMENTS, vectors_of(EMBEDDER, *DOCUMENTS))
    return store


async def ask(store, text: str, mode: SearchMode, **more):
    query = Query(text=text, mode=mode, vector=EMBEDDER.vector(text), **more)
    return await store.search(T, NAME, query)


async def test_words_are_found_in_any_form_and_in_titles(facts):
    for text, source in [("runs", "running"), ("connection", "running"), ("WATER", "fish")]:
        found = await ask(facts, text, SearchMode.BM25)
        assert [passage.source for passage in found] == [source], text


async def test_a_word_that_nobody_has_finds_nothing(facts):
    assert await ask(facts, "zeppelin", SearchMode.BM25) == ()


async def test_dense_search_finds_what_has_another_word_for_it(facts):
    assert await ask(facts, "kitten", SearchMode.BM25) == ()
    found = await ask(facts, "kitten", SearchMode.DENSE, k=2)
    assert found[0].source == "cat"
    assert len(found) == 2
    assert found[0].score == found[0].dense > found[1].dense
    assert found[0].bm25 is None


async def test_a_dense_score_is_the_cosine(facts):
    (best, *_) = await ask(facts, "a cat sleeps", SearchMode.DENSE)
    assert best.dense == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("fusion", list(Fusion))
async def test_hybrid_search_joins_both_and_tells_both_scores(facts, fusion):
    found = await ask(facts, "kitten sleeps", SearchMode.HYBRID, fusion=fusion)
    assert found[0].source == "cat"
    assert found[0].bm25 is not None
    assert found[0].dense is not None
    assert {passage.source for passage in found} == {d.source for d in DOCUMENTS}
    assert list(found) == sorted(found, key=lambda passage: -passage.score)


async def test_alpha_decides_between_the_rankings(facts):
    text = "feline barks"  # dense: cat; words: dog
    words = await ask(facts, text, SearchMode.HYBRID, alpha=0.0)
    assert words[0].source == "dog"
    likeness = await ask(facts, text, SearchMode.HYBRID, alpha=1.0)
    dense = await ask(facts, text, SearchMode.DENSE)
    assert likeness[0].source == dense[0].source


async def test_k_bounds_the_result(facts):
    for mode in SearchMode:
        assert len(await ask(facts, "cat dog fish", mode, k=2)) == 2


HOSTILE = [
    '"', "'", '"" OR ""', "cat AND", "NEAR(cat dog, 2)", "title:cat", "cat*", "^cat", "-cat", "(",
    "{title text}: cat", "cat NOT", "'; DROP TABLE chunks; --", "\x00", "cat\x00dog", "\ud800", "",
    "   ", "!!!", "🐈", "猫", "ﬁ", "a" * 60_000, "cat " * 10_000, "+ - * / %", "the of and",
    "_", "__cat__", "\u0301\u0302", "ß İ \u0131",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
async def test_no_text_is_query_syntax(facts, text):
    for mode in SearchMode:
        query = Query(text=text, mode=mode, vector=EMBEDDER.vector("cat"))
        found = await facts.search(T, NAME, query)
        assert all(math.isfinite(passage.score) for passage in found)
    if "cat" in text and "__" not in text:
        (passage, *_) = await ask(facts, text, SearchMode.BM25)
        assert passage.source in {"cat", "dog"}


BAD = [
    ({"k": 0}, InvalidRequest),
    ({"k": -1}, InvalidRequest),
    ({"k": 1001}, InvalidRequest),
    ({"alpha": -0.1}, InvalidRequest),
    ({"alpha": math.nan}, InvalidRequest),
    ({"candidates": 0}, InvalidRequest),
    ({"candidates": 10**6}, InvalidRequest),
    ({"text": "x" * 100_000}, InvalidRequest),
    ({"vector": None}, InvalidRequest),
    ({"vector": np.full(64, np.nan, np.float32)}, InvalidRequest),
    ({"vector": np.ones(63, np.float32)}, EmbedderMismatch),
    ({"vector": np.ones((1, 64), np.float32)}, EmbedderMismatch),
]


@pytest.mark.parametrize(("wrong", "error"), BAD, ids=lambda case: str(case)[:40])
async def test_a_query_out_of_range_is_refused(facts, wrong, error):
    right = {"text": "cat", "mode": SearchMode.HYBRID, "vector": EMBEDDER.vector("cat")}
    with pytest.raises(error):
        await facts.search(T, NAME, Query(**(right | wrong)))


async def test_vectors_that_do_not_fit_are_refused_and_nothing_is_written(facts):
    new = document("new", "brand new")
    (chunk,) = new.chunks
    cases = [
        ({}, InvalidRequest),
        ({chunk.id: np.ones(32, np.float32)}, EmbedderMismatch),
        ({chunk.id: np.full(64, np.inf, np.float32)}, InvalidRequest),
    ]
    for vectors, error in cases:
        with pytest.raises(error):
            await facts.put(T, NAME, [document("other", "a cat sleeps"), new], vectors)
    assert await facts.digests(T, NAME, ["new", "other"]) == {}


async def test_a_chunk_that_is_there_needs_no_vector_again(facts):
    await facts.put(T, NAME, [document("cat-again", "a cat sleeps")])
    (best, *_) = await ask(facts, "kitten", SearchMode.DENSE)
    assert (best.source, best.also_in) == ("cat", ("cat-again",))


async def test_a_collection_without_embedder_knows_words_only(store):
    await store.create(T, NAME)
    await store.put(T, NAME, [document("cat", "a cat sleeps")])
    assert len(await ask(store, "cat", SearchMode.BM25)) == 1
    for mode in (SearchMode.DENSE, SearchMode.HYBRID):
        with pytest.raises(EmbedderMismatch):
            await ask(store, "cat", mode)
    with pytest.raises(EmbedderMismatch):
        await store.put(T, NAME, [], {"x": np.ones(64, np.float32)})


async def test_what_was_deleted_or_replaced_is_not_found_by_likeness_either(facts):
    await ask(facts, "cat", SearchMode.DENSE)  # the vectors are in memory now
    await facts.delete(T, NAME, "cat")
    new = document("dog", "a feline purrs")
    await facts.put(T, NAME, [new], vectors_of(EMBEDDER, new))
    found = await ask(facts, "kitten", SearchMode.DENSE)
    assert [passage.chunk.text for passage in found][:1] == ["a feline purrs"]
    assert {passage.source for passage in found} == {"dog", "fish", "running"}


async def test_the_order_is_the_same_each_time(facts):
    ties = [document(f"tie{number}", f"same words {number}") for number in range(8)]
    await facts.put(T, NAME, ties, vectors_of(EMBEDDER, *ties))
    for mode in SearchMode:
        first = await ask(facts, "same words", mode)
        assert await ask(facts, "same words", mode) == first
