"""Signals of texts and searches: worked out by hand, and finite for any text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from hola.retrieval.gate.question import answer_signals, question_signals
from hola.retrieval.gate.search_shape import search_signals
from hola.retrieval.gate.words import MAX_WORDS, WordCounts, words
from hola.retrieval.types import Chunk, Passage

NOTHING = WordCounts(texts=0, counts={})


def test_words_keep_apostrophes_and_are_bounded():
    assert words("Who's the KING?") == ["who's", "the", "king"]
    assert len(words("a " * 10_000)) == MAX_WORDS


def test_rarity_falls_with_the_texts_a_word_stands_in():
    counts = WordCounts.of(["red cat", "red dog", "red red"])
    assert counts.rarity("red") == 0
    assert counts.rarity("bird") == pytest.approx(math.log(4))
    assert counts.rarity("cat") == pytest.approx(math.log(2))


def test_a_text_that_was_counted_looks_like_one_that_was_not():
    texts = ["red cat", "red dog", "blue bird"]
    inside = question_signals("red cat", WordCounts.of(texts), own=True)
    outside = question_signals("red cat", WordCounts.of(texts[1:]))
    assert inside == pytest.approx(outside)


def test_signals_of_a_question():
    signals = question_signals('In 1999, how many "Nobel" prizes did Marie win ?', NOTHING)
    expected = {
        "q_words": 9,
        "q_digit": 1,
        "q_year": 1,
        "q_quotes": 2,
        "q_commas": 1,
        "q_how_many": 1,
        "q_how": 1,
        "q_who": 0,
        "q_asks_at": 2,
        "q_asks_first": 0,
        "q_starts_upper": 1,
        "q_spaced_mark": 1,
        "q_question_mark": 1,
        "q_capital_words": 1,
    }
    assert {name: signals[name] for name in expected} == expected


def test_signals_of_an_answer():
    signals = answer_signals("Where is Paris?", "Paris, in 1871", NOTHING)
    assert (signals["a_year"], signals["a_in_question"], signals["a_none"]) == (1, 0, 0)
    assert signals["a_repeated_share"] == 0.5
    assert answer_signals("Where is Paris?", "paris", NOTHING)["a_in_question"] == 1
    assert answer_signals("x", "There is no answer.", NOTHING)["a_none"] == 1
    assert answer_signals("x", "12,000", NOTHING)["a_number"] == 1


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_gives_the_same_names_and_finite_values(question, answer):
    counts = WordCounts.of([question])
    found = question_signals(question, counts) | answer_signals(question, answer, counts)
    assert found.keys() == (question_signals("a", counts) | answer_signals("a", "b", counts)).keys()
    assert all(math.isfinite(value) for value in found.values())


def passage(text: str, bm25: float | None, dense: float | None = None) -> Passage:
    return Passage(chunk=Chunk(text=text), source="s", ordinal=0, score=1.0, bm25=bm25, dense=dense)


def test_shape_of_a_search():
    hits = [passage("the red cat", 6.0, 0.5), passage("a dog", 3.0), passage("red", None)]
    signals = search_signals("where is the red cat and the dog", hits)
    assert signals == {
        "s_hits": 3,
        "s_top": pytest.approx(2.0),  # of red, cat, dog
        "s_gap": 1.0,
        "s_coverage": pytest.approx(2 / 3),
        "s_coverage_all": 1.0,
        "s_dense": 0.5,
    }


def test_gap_is_that_to_the_fifth():
    hits = [passage("x", score) for score in (10.0, 9.0, 8.0, 7.0, 4.0, 1.0)]
    assert search_signals("x", hits)["s_gap"] == pytest.approx(0.6)


def test_nothing_found_is_all_zero():
    assert set(search_signals("where is it", ()).values()) == {0.0}
    assert set(search_signals("", ()).values()) == {0.0}
