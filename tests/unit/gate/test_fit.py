"""A gate learns from logs what they show, judges by its best stage, and survives storage."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.retrieval.gate.fit import (
    FitOptions,
    columns,
    fit_gate,
    folds_of,
    held_out_scores,
    signal_table,
    stage_families,
)
from hola.retrieval.gate.logs import LogEntry
from hola.retrieval.gate.measures import auroc
from hola.retrieval.gate.model import FORMAT, Gate, family
from hola.retrieval.gate.policy import Depth
from hola.retrieval.gate.words import WordCounts
from tests.support.gate import logs

QUICK = FitOptions(trees=20, min_leaf=5, folds=4)
LOOKUP = "In which year was the Otter Lake bridge number 3 opened?"
ASIDE = "why do people like rain so much"


@pytest.fixture(scope="module")
def gate() -> Gate:
    return fit_gate(logs(160), QUICK)


def gain(gate: Gate, question: str) -> float:
    return gate.judge(gate.signals(question)).estimates[Depth.LIGHT].gain


def test_it_tells_lookups_from_asides(gate):
    assert gain(gate, LOOKUP) > 0.6
    assert gain(gate, ASIDE) < 0.0
    judged = gate.judge(gate.signals(LOOKUP))
    assert judged.estimates[Depth.LIGHT].helps > 0.8
    assert judged.families == ("question",)


def test_it_says_the_same_after_a_round_trip(gate, tmp_path):
    gate.save(tmp_path / "new" / "gate.json")
    again = Gate.load(tmp_path / "new" / "gate.json")
    assert again.as_json() == gate.as_json()
    assert gain(again, LOOKUP) == gain(gate, LOOKUP)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gate.json"]


def test_the_same_seed_fits_the_same_gate():
    few = logs(60)
    assert fit_gate(few, QUICK).as_json() == fit_gate(few, QUICK).as_json()


def test_a_better_draft_is_used_where_it_is_there_and_only_there():
    gate = fit_gate(logs(160, noise=0.4, drafts=True), QUICK)
    assert [sorted(stage.families) for stage in gate.stages] == [["q"], ["q", "u"]]
    assert gate.stages[1].gain_share > gate.stages[0].gain_share
    assert gate.needs() == {"q", "u"}
    alone = gate.judge(gate.signals(LOOKUP))
    sure = gate.judge({**gate.signals(LOOKUP), "u_nll_mean": 0.1, "u_tokens": 0.5})
    unsure = gate.judge({**gate.signals(LOOKUP), "u_nll_mean": 1.4, "u_tokens": 0.5})
    assert alone.families == ("question",)
    assert sure.families == ("question", "uncertainty")
    assert sure.estimates[Depth.LIGHT].gain < 0.2 < unsure.estimates[Depth.LIGHT].gain


def test_a_missing_or_broken_signal_is_filled_with_the_usual_value():
    gate = fit_gate(logs(160, noise=0.4, drafts=True), QUICK)
    stage = gate.stages[1]
    row = stage.row({**gate.signals(LOOKUP), "u_nll_mean": math.nan})
    at = stage.signals.index("u_nll_mean")
    assert row[at] == stage.fill[at]
    assert np.isfinite(row).all()


def test_deep_is_judged_where_it_was_logged():
    entries = [replace(entry, deep=1.0) for entry in logs(80)]
    assert set(fit_gate(entries, QUICK).stages[0].heads) == {Depth.LIGHT, Depth.DEEP}
    some = [*entries[:-1], replace(entries[-1], deep=None)]
    assert set(fit_gate(some, QUICK).stages[0].heads) == {Depth.LIGHT}


def test_held_out_scores_know_nothing_of_their_own_entry():
    """Labels of pure noise cannot be foretold; scores of what was fitted on would look good."""
    rng = np.random.default_rng(3)
    entries = [
        LogEntry(question=f"q {i} {rng.random()}", none=0.0, light=float(rng.random() < 0.5))
        for i in range(300)
    ]
    scores = held_out_scores(entries, frozenset("q"), QUICK)
    assert abs(auroc(scores, np.array([entry.light > 0 for entry in entries])) - 0.5) < 0.15


def test_a_group_is_never_split():
    entries = [LogEntry(question="x", none=0, light=1, group=f"g{i % 7}") for i in range(70)]
    folds = folds_of(entries, 5, np.random.default_rng(0))
    for group in range(7):
        assert len({int(fold) for i, fold in enumerate(folds) if i % 7 == group}) == 1
    with pytest.raises(InvalidRequest, match="one group"):
        folds_of([replace(entry, group="g") for entry in entries], 5, np.random.default_rng(0))


def test_left_out_signals_are_left_out():
    table = signal_table(logs(50), WordCounts(texts=0, counts={}), own=False)
    every = columns(table, frozenset("q"))
    assert "q_words" in every
    assert "q_words" not in columns(table, frozenset("q"), frozenset(["q_words"]))
    assert "q_foreign" not in every  # the same everywhere


def test_stages_add_what_a_draft_gives_one_by_one():
    row = {"q_x": 1.0, "s_x": 1.0, "u_x": 1.0, "c_x": 1.0, "a_x": 1.0}
    found = ["".join(sorted(families)) for families in stage_families([row])]
    assert found == ["q", "qs", "qu", "cqu", "acqu", "acqsu"]
    assert [family(name) for name in ("q_a", "s_a", "c_b", "a_b", "u_c", "mine")] == list("qscauu")
    seldom = [row, {"q_x": 1.0}, {"q_x": 1.0}]
    assert stage_families(seldom) == [frozenset("q")]


def test_too_few_or_useless_logs_are_refused():
    with pytest.raises(InvalidRequest, match="at least 40"):
        fit_gate(logs(39), QUICK)
    same = [replace(entry, light=entry.none) for entry in logs(80)]
    with pytest.raises(InvalidRequest, match="nothing to learn"):
        fit_gate(same, QUICK)
    with pytest.raises(InvalidRequest, match="folds"):
        FitOptions(folds=1)


def test_a_question_without_its_own_signals_cannot_be_judged(gate):
    with pytest.raises(InvalidRequest, match="question's own signals"):
        gate.judge({"s_top": 1.0})


def test_background_texts_make_words_common():
    plain = fit_gate(logs(60), QUICK)
    more = fit_gate(logs(60), QUICK, background=["the otter sleeps"] * 50)
    assert more.words.rarity("otter") < plain.words.rarity("otter")


def broken(gate: Gate, path: str, value: object) -> dict:
    stored = json.loads(json.dumps(gate.as_json()))
    at = stored
    *way, last = path.split("/")
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[last] = value
    return stored


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", FORMAT + 1),
        ("words", None),
        ("words/counts", {"the": -1}),
        ("words/counts", {"the": 10**9}),
        ("words/texts", "many"),
        ("stages", None),
        ("stages/0/signals", []),
        ("stages/0/signals", [1] * 40),
        ("stages/0/fill", [0.0]),
        ("stages/0/gain_share", math.nan),
        ("stages/0/heads", {}),
        ("stages/0/heads/none", {}),
        ("stages/0/heads/light/forest", {}),
        ("stages/0/heads/light/gain", None),
        ("about", 3),
    ],
)
def test_a_malformed_gate_is_refused(gate, tmp_path, path, value):
    file = tmp_path / "gate.json"
    file.write_text(json.dumps(broken(gate, path, value)))
    with pytest.raises(ArtifactInvalid, match=r"gate\.json is not a gate"):
        Gate.load(file)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b'"x"', b"[" * 5000])
def test_garbage_is_refused(tmp_path, content):
    (tmp_path / "gate.json").write_bytes(content)
    with pytest.raises(ArtifactInvalid, match="not a gate"):
        Gate.load(tmp_path / "gate.json")
    with pytest.raises(ArtifactInvalid, match="not a gate"):
        Gate.load(tmp_path / "missing.json")
