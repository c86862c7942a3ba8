"""`hola generate` on a node inside the process: what it prints, checks and refuses."""

from __future__ import annotations

import json

import pytest

from hola_cli import generate

MODEL = "scripted:seed=3,eos_bias=-1000"
ASK = ("generate", "--raw", "--model", MODEL, "--max-tokens", "24", "Tom has 12 apples.")


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipe_gets_the_answer_on_stdout_and_numbers_on_stderr(run):
    result = run(*ASK)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.output
    assert "tokens" not in result.stdout
    assert result.stdout.endswith("\n")
    (stats,) = result.stderr.splitlines()
    assert stats.startswith("24 tokens · accepted ")
    assert stats.endswith(" verify calls · exact: yes")


def test_json_is_one_event_per_line_and_the_text_is_the_same(run):
    plain, result = run(*ASK), run(*ASK, "--json")
    events = lines(result.stdout)
    assert [events[0]["event"], events[-1]["event"]] == ["started", "finished"]
    tokens = [token for event in events[1:-1] for token in event["tokens"]]
    assert len(tokens) == events[-1]["completion_tokens"] == 24
    assert "".join(token["text"] for token in tokens) + "\n" == plain.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_the_check_decodes_again_and_finds_no_difference(run, temperature):
    result = run(*ASK, "--check-exact", "--temperature", temperature, "--seed", "9")
    assert result.exit_code == 0
    stats, compared = result.stderr.splitlines()
    assert stats.endswith("exact: yes")
    assert compared.startswith("compared with plain decoding: 24 tokens at ")


def test_the_check_as_json(run):
    result = run(*ASK, "--check-exact", "--json")
    *_, finished, checked = lines(result.stdout)
    assert finished["event"] == "finished"
    assert checked["exact"] is True
    assert len(checked["plain_token_ids"]) == 24


def test_a_difference_is_an_error(run, monkeypatch):
    monkeypatch.setattr(generate, "first_difference", lambda ours, theirs: 5)
    result = run(*ASK, "--check-exact")
    assert result.exit_code == 1
    assert "exact: no (plain decoding differs from token 5 on)" in result.stderr
    assert result.stderr.endswith("error: the output differs from plain decoding at token 5\n")


def test_gated_output_may_differ_and_says_so(run):
    result = run(*ASK, "--mode", "gated", "--entropy-threshold", "100")
    assert result.exit_code == 0
    assert "exact: no (gated: the target agrees with" in result.stderr


@pytest.mark.parametrize("speculation", [("-k", "0"), ("--ladder", "none"), ("-k", "3")])
def test_how_it_guesses_does_not_change_the_text(run, speculation):
    assert run(*ASK, *speculation).stdout == run(*ASK).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--temperature", "nan"), 2, "temperature is nan"),
        (("--seed", str(2**64)), 2, "seed"),
        (("--seed", "-1"), 2, "seed"),
        (("--max-tokens", "0"), 2, "max_tokens"),
        (("--stop", "a\udcff"), 2, "--stop"),
        (("--ladder", "draft,"), 2, "--ladder"),
        (("--ladder", "huge"), 2, "huge"),
        (("-k", "65"), 2, "65"),
        (("--stop-token", "100000"), 2, "100000"),
        (("--router", "nonsense"), 2, "nonsense"),
        (("--router", "localhost:1"), 6, "localhost:1"),
        (("--mode", "sideways"), 2, "sideways"),
    ],
)
def test_bad_input_is_one_line_and_a_code(run, arguments, code, words):
    result = run(*ASK, *arguments, env={"HOLA_CONNECT_TIMEOUT_S": "0.3", "HOLA_REATTACH_S": "0.1"})
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_an_unknown_model_is_named_with_the_known_ones(run, tmp_path):
    result = run("generate", "hi", "--model", "nope", "--models-dir", str(tmp_path))
    assert result.exit_code == 3
    assert "there is no model 'nope'; known: none" in result.stderr


def test_a_prompt_longer_than_the_context(run):
    result = run("generate", "--raw", "--model", "scripted:context_length=16", "a" * 40)
    assert result.exit_code == 2
    assert "16" in result.stderr


def test_a_model_without_a_template_asks_for_the_prompt_itself(run):
    result = run("generate", "--model", MODEL, "hi")
    assert result.exit_code == 2
    assert "chat template" in result.stderr


def test_stdin_is_a_prompt_too(run):
    piped = run(*ASK[:-1], "-", input=ASK[-1])
    assert piped.stdout == run(*ASK).stdout
