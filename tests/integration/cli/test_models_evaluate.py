"""`hola models evaluate`: accuracy of tiers on question files, or an error that says what to do."""

from __future__ import annotations

import json

import pytest


def test_tiers_side_by_side_on_the_familys_own_questions(run, demo_models_dir):
    result = run(
        "models", "evaluate", "demo", "demo/draft", "--limit", "3", "--models-dir", demo_models_dir,
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = {row["task"]: row for row in json.loads(result.stdout)}
    assert rows["word_problems"]["questions"] == 3
    assert rows["word_problems"]["metric"] == "ema"
    assert rows["word_problems"]["accuracy"]["demo"] > 0.5
    assert set(rows["reading"]["accuracy"]) == {"demo", "demo/draft"}


def test_files_of_both_forms(run, demo_models_dir, tmp_path):
    sums = [{"question": f"What is {n}+{n}?", "answer": f"#### {2 * n}"} for n in (11, 12)]
    which = [{"question": "Which?", "choices": ["this", "that"], "answer": n} for n in (0, 1)]
    for name, entries in (("sums", sums), ("which", which)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    files = [
        part for name in ("sums", "which") for part in ("--tasks", str(tmp_path / f"{name}.jsonl"))
    ]
    result = run("models", "evaluate", "demo", *files, "--models-dir", demo_models_dir)
    assert result.exit_code == 0, result.stderr
    assert "50.0 %" in result.stdout, "one of the two answers to Which? is the likelier"
    assert "mca" in result.stdout
    assert "ema" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("demo/nothing",), 4, "draft"),
        (("nobody",), 3, "nobody"),
        (("demo", "--tasks", "missing.jsonl"), 2, "missing.jsonl"),
    ],
)
def test_what_is_not_there(run, demo_models_dir, arguments, code, said):
    result = run("models", "evaluate", *arguments, "--models-dir", demo_models_dir)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
