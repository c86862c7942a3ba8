"""What of a question is looked up."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, strategies as st

from hola.retrieval.terms import MAX_TERM_CHARS, MAX_TERMS, match_expression, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", ("capital", "france")),
        ("cat Cat CAT dog", ("cat", "dog")),
        ("to be or not to be", ("to", "be", "or", "not")),
        ("COVID-19 in 2020", ("covid", "19", "2020")),
        ("", ()),
        ("?!", ()),
    ],
)
def test_terms(text, expected):
    assert terms(text) == expected


def test_there_are_never_too_many_or_too_long_ones():
    words = terms(" ".join(f"word{number}" for number in range(1000)) + "x" * 1000)
    assert len(words) == MAX_TERMS
    assert terms("a" * (MAX_TERM_CHARS + 1)) == ()


@pytest.fixture(scope="module")
def table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
    connection.execute("INSERT INTO words VALUES ('something to match')")
    yield connection
    connection.close()


@given(text=st.text())
def test_any_text_makes_an_expression_that_fts5_accepts(table, text):
    if found := terms(text):
        table.execute("SELECT rowid FROM words WHERE words MATCH ?", (match_expression(found),))
