"""`hola ask` on a node inside the process: the answer, its sources, the plan, the refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.answers import PEOPLE, SUM, TOWN, UNKNOWN

ENV = {"HOLA_THREADS": "1", "HOLA_EMBEDDER": "none", "HOLA_MODEL": "demo"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ask")


@pytest.fixture
def ask(run, data: Path, demo_models_dir: str):
    """`ask("question", ...)` on the demo knowledge base."""
    env = {**ENV, "HOLA_MODELS_DIR": demo_models_dir}
    if not (data / "default").exists():
        file = f"{demo_models_dir}/demo/knowledge.jsonl"
        done = run("ingest", file, "-c", PEOPLE, "--data-dir", str(data), "--source", "kb", env=env)
        assert done.exit_code == 0, done.stderr
    return lambda *words, command="ask": run(command, *words, "--data-dir", str(data), env=env)


def test_the_answer_then_its_sources(ask):
    result = ask(UNKNOWN, "-c", PEOPLE)
    assert result.exit_code == 0, result.stderr
    answer, source = result.stdout.splitlines()
    assert TOWN in answer
    assert source.startswith("[1] kb#Verul (Verul): Verul has a home in")
    assert "exact: yes" in result.stderr


def test_explain_shows_decision_signals_costs_kept_and_cut(ask):
    shown = ask(UNKNOWN, "-c", PEOPLE, "--explain").stdout
    assert "retrieval: light (asked for: auto)" in shown
    assert "judged by: question, uncertainty, answer in passages" in shown, (
        "sure without the target"
    )
    for piece in ("light: gain +", "u_nll_max", "kept [1] kb#Verul", "characters 0-", "cut kb#"):
        assert piece in shown
    assert "measured by the verifier" in shown
    none = ask(SUM, "-c", PEOPLE, "--explain").stdout
    assert "The answer is 17." in none
    assert "retrieval: none (asked for: auto)" in none
    assert "judged by: question, uncertainty, target's check" in none
    assert "cut kb#Bropeth (Bropeth) in people" in none


def test_json_has_the_plan_in_the_first_event(ask):
    first = json.loads(ask(UNKNOWN, "-c", PEOPLE, "--json").stdout.splitlines()[0])
    plan = first["plan"]
    assert (first["event"], plan["depth"], plan["mode"]) == ("started", "light", "auto")
    assert plan["citations"][0]["source"] == "kb#Verul"
    assert plan["citations"][0]["ranges"] == [[0, 115]]


def test_generate_retrieves_too_and_its_check_reads_the_same_passages(ask):
    result = ask(UNKNOWN, "-c", PEOPLE, "--check-exact", command="generate")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1, "stdout has the answer alone"
    source, stats, _ = result.stderr.splitlines()
    assert source.startswith("[1] kb#Verul")
    assert stats.endswith("exact: yes")


REFUSED = [
    ((UNKNOWN, "-c", "nope"), 3, "no collection 'nope'; known: people"),
    ((UNKNOWN, "-c", "../x"), 2, "../x"),
    ((UNKNOWN, "-c", PEOPLE, "--max-passage-tokens", "-1"), 2, "max_passage_tokens"),
    (("", "-c", PEOPLE), 2, "the prompt is empty"),
]


@pytest.mark.parametrize(("words", "code", "said"), REFUSED)
def test_what_is_refused(ask, words, code, said):
    result = ask(*words)
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
