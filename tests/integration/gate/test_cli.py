"""`hola gate fit | evaluate | show` from log files to a decision, and its complaints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hola_cli.main import app

LOOKUP = "In which year was the Otter Lake bridge number 3 opened?"
ASIDE = "why do people like rain so much"
QUICK = ("--trees", "20", "--min-leaf", "5", "--folds", "4")


@pytest.fixture
def run(tmp_path):
    def run(*arguments: str, **options: object) -> Result:
        env = {
            "HOLA_DATA_DIR": str(tmp_path / "data"),
            "HOLA_MODELS_DIR": str(tmp_path / "models"),  # no family, so no gate of its own
        }
        return CliRunner().invoke(app, ["gate", *arguments], env=env, **options)  # type: ignore[arg-type]

    return run


def test_from_logs_to_a_decision(run, log_file, tmp_path):
    fitted = run("fit", str(log_file), *QUICK)
    assert fitted.exit_code == 0, fitted.output
    assert "fitted on 160 questions" in fitted.output
    assert (tmp_path / "data" / "gate.json").is_file()

    shown = run("show")
    assert shown.exit_code == 0, shown.output
    assert "question" in shown.output

    lookup, aside = run("show", LOOKUP), run("show", ASIDE)
    assert lookup.output.splitlines()[0] == "light"
    assert aside.output.splitlines()[0] == "none"
    assert "expected gain" in lookup.output

    dear = run("show", LOOKUP, "--prefill-ms", "1000")
    assert dear.output.splitlines()[0] == "none"


def test_json_everywhere(run, log_file):
    fitted = json.loads(run("fit", str(log_file), *QUICK, "--json").output)
    assert fitted["about"]["entries"] == 160
    assert fitted["stages"][0]["signals"] == ["question"]
    assert fitted["stages"][0]["gain"] > 0.3
    assert json.loads(run("show", "--json").output)["stages"] == fitted["stages"]
    judged = json.loads(run("show", LOOKUP, "--json").output)
    assert judged["depth"] == "light"
    assert judged["estimates"]["light"]["gain"] > 0.5
    facts = json.loads(run("evaluate", str(log_file), "--json").output)
    assert facts["questions"] == 160
    assert facts["gain"] > 0.5
    assert facts["never"] < facts["always"]
    assert "gain" in run("evaluate", str(log_file)).output


def test_logs_from_standard_input_and_texts_for_rare_words(run, log_file, tmp_path):
    (tmp_path / "texts.txt").write_text("the otter sleeps\n\n" * 30)
    file = str(tmp_path / "mine.json")
    texts = ("--texts", str(tmp_path / "texts.txt"))
    done = run("fit", "-", *QUICK, "--gate", file, *texts, input=log_file.read_text())
    assert done.exit_code == 0, done.output
    assert json.loads(Path(file).read_text())["words"]["texts"] == 160 + 30


def test_complaints(run, log_file, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text(log_file.read_text().splitlines()[0] + "\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("what\n")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    cases = [
        (("fit", str(few)), 2, "at least 40"),
        (("fit", str(bad)), 2, "bad.jsonl:1: not JSON"),
        (("fit", str(tmp_path / "none.jsonl")), 2, "cannot be read"),
        (("fit", str(log_file), *QUICK, "--texts", "/nowhere"), 2, "cannot be read"),
        (("show",), 4, "is not a gate"),
        (("evaluate", str(empty)), 2, "has no entry"),
        (("evaluate", str(log_file)), 4, "is not a gate"),
        (("show", "--gate", str(log_file)), 4, "is not a gate"),
    ]
    for arguments, code, words in cases:
        done = run(*arguments)
        assert (done.exit_code, words in done.output) == (code, True), (arguments, done.output)
        assert len(done.stderr.strip().splitlines()) == 1
