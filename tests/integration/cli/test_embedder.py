"""`hola embedder` from the command line, and what `hola doctor` says of it."""

from __future__ import annotations

import json

import pytest

from tests.support.encoders import write_encoder

pytestmark = pytest.mark.torch


def doctor_says(run, models_dir, **env: str) -> dict[str, str]:
    result = run("doctor", "--models-dir", str(models_dir), "--json", env=env)
    findings = json.loads(result.stdout)["findings"]
    (found,) = [finding for finding in findings if finding["check"] == "embedder"]
    return found


def test_an_embedder_is_added_listed_and_checked(run, tmp_path):
    source, models = write_encoder(tmp_path / "source"), tmp_path / "models"
    where = ["--models-dir", str(models)]
    assert "BM25 alone" in run("embedder", "list", *where).stdout
    before = doctor_says(run, models)
    assert (before["status"], before["found"]) == (
        "note",
        "no embedder 'minilm': retrieval is BM25 alone",
    )
    added = run("embedder", "add", str(source), "--precision", "fp32", *where)
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith("added minilm@")
    assert added.stderr == ""
    (listed,) = json.loads(run("embedder", "list", "--json", *where).stdout)
    assert (listed["name"], listed["dimensions"], listed["precision"]) == ("minilm", 32, "fp32")
    assert listed["id"] in run("embedder", "list", *where).stdout
    assert doctor_says(run, models)["status"] == "ok"
    assert doctor_says(run, models, HOLA_EMBEDDER="none")["found"] == "none wanted: BM25 alone"
    with (models / "minilm" / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert doctor_says(run, models)["status"] == "broken"
    (models / "minilm" / "embedder.json").write_text("{")
    assert "broken" in run("embedder", "list", *where).stdout


def test_adding_as_json_prints_one_object(run, tmp_path):
    source = write_encoder(tmp_path / "source")
    arguments = ["--models-dir", str(tmp_path / "m"), "--name", "e", "--json"]
    result = run("embedder", "add", str(source), *arguments)
    assert json.loads(result.stdout)["precision"] == "int8"
    assert result.stderr == "", "the quantizer's advice is not for users"


def test_a_source_that_is_nowhere_gives_one_line_and_exit_code_4(run, tmp_path):
    result = run("embedder", "add", "/no/such", "--models-dir", str(tmp_path))
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1
