"""`hola bench retrieval` on a small gate set: figures of the right form, and files that are not."""

from __future__ import annotations

import json
import random

import pytest

from hola.errors import ArtifactInvalid, InvalidRequest
from hola_bench.retrieval import Options, run
from hola_bench.retrieval.gate import GateOptions, measure_gate
from hola_bench.retrieval.gate_rows import f1, read_rows
from tests.support.gate import logs


def gate_rows(count: int = 90, *, unc: object = None) -> list[dict]:
    rng = random.Random(5)
    rows = []
    for number, entry in enumerate(logs(count)):
        helped = entry.none == 0
        row = {
            "dataset": ("nq", "squad", "trivia", "musique")[number % 4],
            "qid": f"single_{number}",
            "question": entry.question,
            "refs": ["yes"],
            "nor": "no" if helped else "yes",
            "nor_in": int(not helped),
            "oner": "yes" if helped or rng.random() < 0.7 else "no",
            "oner_in": int(entry.light > 0.9),
        }
        rows.append(row if unc is None else row | {"unc": unc})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_headline_and_tables(tmp_path):
    write(tmp_path / "gate.dev.jsonl", gate_rows())
    report = run(Options(data=(str(tmp_path),), models_dir=str(tmp_path), repeats=1, trees=10))
    assert report.headline.keys() == {
        "gate_gain",
        "gate_gain_question_only",
        "gate_rate_at_always_accuracy",
    }
    assert report.headline["gate_gain_question_only"] > 0.3
    assert "demo" in report.details["demo_note"]
    stages = [row["gate"] for row in report.details["gate_stages"]]
    assert stages == ["question", "question + answer text"]
    assert [row["set"] for row in report.details["gate_per_set"]] == ["nq", "squad", "trivia"]
    assert len(report.details["gate_ablation"]) == 6
    assert all(row["signals"] for row in report.details["gate_ablation"])
    json.dumps(report.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("unc", "names"),
    [
        (
            {"ppl": 1.5, "eigen": [1, 2], "bad": None},
            {"u_unc_ppl", "u_unc_eigen_0", "u_unc_eigen_1"},
        ),
        (2.5, {"u_unc"}),
        (float("nan"), set()),
        ("text", set()),
    ],
)
def test_uncertainties_of_any_form_are_signals(tmp_path, unc, names):
    (row, *_) = read_rows(write(tmp_path / "gate.test.jsonl", gate_rows(4, unc=unc)))
    assert set(row.entry.signals) == names


def test_the_test_part_is_taken_where_there_is_one_and_its_uncertainty_used(tmp_path):
    write(tmp_path / "gate.dev.jsonl", gate_rows())
    rows = gate_rows()
    for row in rows:
        row["unc"] = {"ppl": 1.0 - row["nor_in"] + random.Random(row["qid"]).random()}
    write(tmp_path / "gate.test.jsonl", rows)
    options = GateOptions(data=str(tmp_path), repeats=1, trees=10, folds=4)
    result = measure_gate(options)
    assert result.details["gate_set"] == "gate.test.jsonl"
    assert "question + uncertainty" in {row["gate"] for row in result.details["gate_stages"]}
    single = measure_gate(GateOptions(data=str(tmp_path / "gate.dev.jsonl"), repeats=1, trees=5))
    assert single.details["gate_set"] == "gate.dev.jsonl"


def test_f1_is_that_of_squad():
    assert f1("The Red Cat.", ["a red cat"]) == 1
    assert f1("red dog", ["red cat", "blue"]) == pytest.approx(0.5)
    assert f1("", ["x"]) == 0


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"dataset": 1}', "\\xff"])
def test_a_malformed_set_is_refused(tmp_path, line):
    (tmp_path / "gate.dev.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactInvalid, match=r"gate\.dev\.jsonl"):
        measure_gate(GateOptions(data=str(tmp_path)))


def test_too_small_a_set_is_refused(tmp_path):
    write(tmp_path / "gate.dev.jsonl", gate_rows(8))
    with pytest.raises(InvalidRequest, match="at least"):
        measure_gate(GateOptions(data=str(tmp_path)))
