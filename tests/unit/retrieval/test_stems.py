"""Stems are those that the embedded store's index counts."""

from __future__ import annotations

import sqlite3

import pytest

from hola.retrieval.stems import TOKENIZER, Stemmer


def test_words_in_any_form_have_one_stem():
    forms = ["Running through connected rooms", "she runs", "CONNECTIONS of a room", "Café cafe"]
    assert Stemmer().stems(forms) == [
        ["run", "through", "connect", "room"],
        ["she", "run"],
        ["connect", "of", "a", "room"],
        ["cafe", "cafe"],
    ]


def test_texts_stay_apart_and_nothing_is_kept():
    stemmer = Stemmer()
    assert stemmer.stems(["one two", "", "two", "?!"]) == [["on", "two"], [], ["two"], []]
    assert stemmer.stems(["three"]) == [["three"]]
    assert stemmer.stems([]) == []


@pytest.mark.parametrize("text", ['"', "a AND b", "NEAR(x)", "-x", "^y*", "a\x00b", "猫 🐈 ﬁ ß"])
def test_no_text_is_syntax(text):
    (stems,) = Stemmer().stems([text])
    assert all(isinstance(stem, str) for stem in stems)


def test_they_are_the_terms_of_a_collections_index():
    text = "Generalizations of the connected, running oscillators' relational hopefulness"
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, tokenize='{TOKENIZER}')")
    database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, row)")
    database.execute("INSERT INTO words VALUES (?)", (text,))
    (stems,) = Stemmer().stems([text])
    assert sorted(set(stems)) == [row[0] for row in database.execute("SELECT term FROM terms")]


def test_half_a_surrogate_pair_leaves_it_usable():
    stemmer = Stemmer()
    with pytest.raises(UnicodeEncodeError):
        stemmer.stems(["fine", "\ud800"])
    assert stemmer.stems(["fine"]) == [["fine"]]
