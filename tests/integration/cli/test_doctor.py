"""`hola doctor`: exit code 1 and a remedy for each thing that is broken, and only for those."""

from __future__ import annotations

import importlib.util
import json
import socket

import pytest


def findings(result) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_no_model_is_broken_and_says_how_to_get_one(run, tmp_path):
    result = run("doctor", "--models-dir", str(tmp_path), "--json")
    assert result.exit_code == 1
    found = findings(result)["models"]
    assert found["status"] == "broken"
    assert "hola models add" in found["remedy"]


def test_an_unknown_setting_is_broken(run, tmp_path):
    result = run("doctor", "--json", env={"HOLA_MODLE": "x"})
    assert result.exit_code == 1
    assert "HOLA_MODLE" in findings(result)["settings"]["found"]


@pytest.mark.redis
def test_a_redis_that_answers(run, tmp_path, redis_url):
    result = run("doctor", "--models-dir", str(tmp_path), "--bus", redis_url, "--json")
    assert findings(result)["bus"]["status"] == "ok"


def test_a_redis_that_does_not(run, tmp_path):
    url = f"redis://127.0.0.1:{closed_port()}/0"
    result = run("doctor", "--models-dir", str(tmp_path), "--json", env={"HOLA_BUS": url})
    found = findings(result)["bus"]
    assert result.exit_code == 1
    assert found["status"] == "broken"
    assert found["remedy"]


def test_a_missing_extra_is_a_note_but_the_edge_extra_is_needed(run, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    gone = {"tokenizers", "torch"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in gone else real(name, *rest)
    )
    found = findings(run("doctor", "--models-dir", str(tmp_path), "--json"))
    assert found["extra edge"]["status"] == "broken"
    assert found["extra edge"]["remedy"] == "pip install 'hola-edge[edge]'"
    assert found["extra compress"]["status"] == "note"


def test_the_table_is_for_people(run, tmp_path):
    table = run("doctor", "--models-dir", str(tmp_path)).stdout
    for word in ("versions", "providers", "memory", "onnxruntime"):
        assert word in table
