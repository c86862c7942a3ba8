"""The second hop: which names are followed, and what of its passages is kept."""

from __future__ import annotations

from hola.retrieval.deepen import bridging, follow_up, merged, new_names, unanswered
from hola.retrieval.types import Chunk, Passage


def passage(text: str, title: str = "") -> Passage:
    return Passage(chunk=Chunk(text=text, title=title), source=text[:8], ordinal=0, score=1.0)


ADA = passage("Ada lives in Marsden. Today she works for Brightwell Mills.", "Ada")
MAYOR = passage("The mayor of Marsden is Tom Ferro.")
QUESTION = "Who is the mayor of the town where Ada lives?"


def test_names_that_the_question_lacks_are_followed():
    assert new_names(QUESTION, [ADA]) == ["Brightwell", "Marsden", "Mills"]


def test_a_word_that_only_begins_a_sentence_is_no_name():
    assert "Today" not in new_names(QUESTION, [ADA])


def test_a_passage_about_something_else_names_nothing():
    assert new_names("What is a quark?", [ADA]) == []


def test_the_best_passages_names_come_first():
    other = passage("Ada once saw Ostry and Velm.")
    assert new_names("Where does Ada live?", [other, ADA])[:2] == ["Ostry", "Velm"]


def test_the_follow_up_asks_for_what_is_open():
    assert unanswered(QUESTION, [ADA]) == {"mayor", "town"}
    assert follow_up(QUESTION, [ADA]) == "mayor town Brightwell Marsden Mills"


def test_a_question_that_the_best_passage_covers_is_not_followed():
    assert follow_up("Who works in Marsden?", [ADA]) == ""


def test_nothing_found_leads_nowhere():
    assert follow_up(QUESTION, []) == ""
    assert bridging(QUESTION, [], []) == ()


def test_only_passages_with_an_open_word_are_kept():
    neighbour = passage("Bob lives in Marsden.")
    assert bridging(QUESTION, [ADA], [MAYOR, neighbour]) == (True, False)


def test_rankings_are_merged_by_rank_and_ties_keep_their_order():
    assert list(merged([["a", "b"], ["b", "c"]])) == ["b", "a", "c"]
    assert merged([[], ["x"]]) == {"x": 1 / 60}
