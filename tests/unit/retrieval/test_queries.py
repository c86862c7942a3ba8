"""Several collections' lists made one."""

from __future__ import annotations

import pytest

from hola.errors import InvalidRequest
from hola.retrieval.queries import SearchQuestion, check_question, merge
from hola.retrieval.types import Chunk, Passage


def passage(text: str, score: float = 1.0) -> Passage:
    return Passage(chunk=Chunk(text=text), source=text, ordinal=0, score=score)


def names(merged: tuple[tuple[str, Passage], ...]) -> list[tuple[str, str]]:
    return [(name, found.chunk.text) for name, found in merged]


def test_one_list_keeps_its_scores():
    merged = merge([("a", [passage("x", 7.0), passage("y", 3.0), passage("z", 1.0)])], 2)
    assert [(name, found.score) for name, found in merged] == [("a", 7.0), ("a", 3.0)]


def test_several_are_merged_by_rank_and_no_chunk_comes_twice():
    first = [passage("x", 0.1), passage("both", 0.1), passage("tail", 0.1)]
    second = [passage("both", 900.0), passage("y", 800.0)]
    merged = merge([("a", first), ("b", second)], 10)
    assert names(merged) == [("a", "x"), ("b", "both"), ("b", "y"), ("a", "tail")]
    scores = [found.score for _, found in merged]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1 / 60)
    assert names(merge([("a", first), ("b", second)], 2)) == names(merged)[:2]
    assert merge([("a", []), ("b", [])], 5) == ()


@pytest.mark.parametrize("collections", [(), ("a", "a"), tuple(map(str, range(17)))])
def test_collections_are_some_and_different(collections):
    with pytest.raises(InvalidRequest):
        check_question(SearchQuestion(text="x", collections=collections))
