"""The commands on the demo family: right answers, conversations, sizes, and tampered files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

QUESTION = "Question: What is 14*3?"


@pytest.fixture
def tampered(demo_models_dir, tmp_path) -> str:
    """A copy of the demo family with one byte of the target's weights flipped."""
    shutil.copytree(Path(demo_models_dir) / "demo", tmp_path / "demo")
    manifest = json.loads((tmp_path / "demo/hola.json").read_text())
    tier = manifest["tiers"][manifest["target"]]
    largest = max(tier["files"], key=lambda name: tier["files"][name]["bytes"])
    file = tmp_path / "demo" / tier["path"] / largest
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return str(tmp_path)


def test_the_answer_is_exact_and_drafts_took_part(run, demo_models_dir):
    result = run("generate", QUESTION, "--models-dir", demo_models_dir, "--check-exact", "-k", "4")
    assert result.exit_code == 0, result.stderr
    assert "The answer is" in result.stdout
    assert "exact: yes" in result.stderr
    assert "draft" in result.stderr


def test_a_conversation_in_a_pipe(run, demo_models_dir):
    talk = f"{QUESTION}\n/stats\n/nonsense\n/reset\n\n{QUESTION}\n/help\n/quit\nnever asked\n"
    result = run("chat", "--models-dir", demo_models_dir, input=talk)
    assert result.exit_code == 0, result.stderr
    answers = result.stdout.splitlines()
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert result.stderr.count("exact: yes") == 2
    assert "unknown command /nonsense" in result.stderr
    assert "answers so far" in result.stderr


def test_a_conversation_as_json(run, demo_models_dir):
    result = run("chat", "--models-dir", demo_models_dir, "--json", input=f"{QUESTION}\nAgain?\n")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    started = [event for event in events if event["event"] == "started"]
    assert len(started) == 2
    assert started[1]["prompt_tokens"] > started[0]["prompt_tokens"], "the first turn is kept"


def test_a_failed_question_in_a_pipe_gives_its_exit_code(run, demo_models_dir):
    long = "many words " * 2000
    result = run("chat", "--models-dir", demo_models_dir, input=f"{long}\n")
    assert result.exit_code == 2
    assert "context" in result.stderr


def test_list_and_show(run, demo_models_dir):
    listed = json.loads(run("models", "list", "--models-dir", demo_models_dir, "--json").stdout)
    (demo,) = [family for family in listed if family["name"] == "demo"]
    assert [tier["name"] for tier in demo["tiers"]][-1] == "target"
    shown = run("models", "show", "demo", "--models-dir", demo_models_dir, "--verify", "--json")
    assert json.loads(shown.stdout) == {**demo, "verified": True}
    table = run("models", "show", "demo", "--models-dir", demo_models_dir).stdout
    assert demo["tiers"][0]["digest"][:12] in table
    assert "demo" in run("models", "list", "--models-dir", demo_models_dir).stdout


@pytest.mark.parametrize("command", [("generate", "hi"), ("models", "show", "demo", "--verify")])
def test_a_tampered_file_is_refused_by_name(run, tampered, command):
    result = run(*command, "--models-dir", tampered)
    assert result.exit_code == 4
    assert "target/model" in result.stderr
    assert "sha256" in result.stderr


def test_a_broken_family_is_listed_as_broken(run, tampered):
    manifest = Path(tampered, "demo/hola.json")
    manifest.write_text(manifest.read_text()[:-40])
    (family,) = json.loads(run("models", "list", "--models-dir", tampered, "--json").stdout)
    assert family["name"] == "demo"
    assert family["broken"]
    assert "broken" in run("models", "list", "--models-dir", tampered).stdout


def test_the_doctor_finds_the_family_well(run, demo_models_dir):
    result = run("doctor", "--models-dir", demo_models_dir, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0, report
    findings = {finding["check"]: finding for finding in report["findings"]}
    assert report["ok"]
    assert findings["model demo"]["status"] == "ok"
    assert "CPUExecutionProvider" in findings["providers"]["found"]


def test_the_doctor_finds_what_was_tampered_with(run, tampered):
    result = run("doctor", "--models-dir", tampered)
    assert result.exit_code == 1
    assert "broken" in result.stdout
