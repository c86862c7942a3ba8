"""Whether passages bear an answer out: its new words, names and numbers, its last word."""

from __future__ import annotations

import pytest

from hola.retrieval.gate.fit import FitOptions, fit_gate, stage_families
from hola.retrieval.gate.held import held_signals
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.model import family
from hola.retrieval.types import Chunk, Passage


def passages(*texts: str) -> list[Passage]:
    return [
        Passage(chunk=Chunk(text=text), source=str(n), ordinal=0, score=1.0 - n)
        for n, text in enumerate(texts)
    ]


FOUND = passages("Verul lives in Marsden.", "Torlan lives in Oakby and keeps 12 ducks.")


def test_an_answer_that_the_best_passage_has():
    held = held_signals("Where does Verul live?", "It is Marsden", FOUND)
    assert held == {"h_new": 1, "h_share": 1, "h_share_all": 1, "h_names": 1, "h_last": 1}


def test_an_answer_that_only_another_passage_has():
    held = held_signals("Where does Verul live?", "Oakby", FOUND)
    assert (held["h_share"], held["h_share_all"], held["h_last"]) == (0, 1, 0)


def test_what_the_question_says_already_counts_for_nothing():
    held = held_signals("Where does Verul live?", "Verul lives in Fenwick", FOUND)
    assert (held["h_new"], held["h_share"]) == (1, 0)


@pytest.mark.parametrize(("answer", "found"), [("", FOUND), ("Marsden", []), ("...", FOUND)])
def test_nothing_to_compare(answer, found):
    held = held_signals("Where does Verul live?", answer, found)
    assert set(held.values()) <= {0.0, 1.0}
    assert held["h_share"] == held["h_last"] == 0


def test_the_gate_learns_that_a_held_answer_needs_nothing():
    """Right where it is held, wrong where not; the draft's doubt says nothing."""
    entries = [
        LogEntry(
            question=f"Where does person {number % 7} live?",
            none=number % 2,
            light=1,
            signals={"u_nll_max": 1.0, "h_last": number % 2, "h_share": number % 2},
        )
        for number in range(80)
    ]
    gate = fit_gate(entries, FitOptions(trees=10, min_leaf=4, folds=4))
    assert "h" in gate.needs()
    asked = {"q_words": 5.0, "u_nll_max": 1.0}
    held = gate.judge(asked | {"h_last": 1.0, "h_share": 1.0}).estimates
    unheld = gate.judge(asked | {"h_last": 0.0, "h_share": 0.0}).estimates
    assert next(iter(held.values())).gain < 0.1 < 0.8 < next(iter(unheld.values())).gain


def test_it_is_a_family_of_its_own_that_needs_no_check():
    assert family("h_last") == "h"
    stages = stage_families([{"q_words": 1.0, "u_a": 1.0, "c_a": 1.0, "h_last": 1.0}])
    assert [set(stage) for stage in stages] == [
        {"q"},
        {"q", "u"},
        {"q", "u", "c"},
        {"q", "u", "h"},
        {"q", "u", "c", "h"},
    ]
