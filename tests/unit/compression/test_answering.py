"""Accuracy of an engine: greedy replies and likelihoods, against what the engine really says."""

from __future__ import annotations

import math

import pytest

from hola.compression.answering import accuracy, heldout_files
from hola.compression.questions import Question, final_answer
from hola.engines.scripted import Script, ScriptedEngine, ScriptedTokenizer

ENGINE = ScriptedEngine(Script(eos_bias=2.0, context_length=400))
TOKENIZER = ScriptedTokenizer()


def greedy(prompt: str) -> str:
    """The plainest loop: a new session for every token."""
    tokens, end = TOKENIZER.encode(prompt + "\n"), ENGINE.info.eos_token_ids[0]
    reply: list[int] = []
    while len(reply) < 256:
        session = ENGINE.open(400)
        token = int(session.forward([*tokens, *reply])[-1].argmax())
        if token == end:
            break
        reply.append(token)
    return TOKENIZER.decode(reply)


def log_likelihood(prompt: str, choice: str) -> float:
    tokens, total = TOKENIZER.encode(prompt + "\n"), 0.0
    for token in TOKENIZER.encode(choice):
        row = ENGINE.open(400).forward(tokens)[-1].astype(float)
        total += row[token] - math.log(sum(math.exp(x) for x in row))
        tokens = [*tokens, token]
    return total / len(choice.encode())


def test_a_written_answer_is_the_greedy_reply(tmp_path):
    right = Question(prompt="How many?", answer=final_answer(greedy("How many?")))
    wrong = Question(prompt="How many?", answer="something else")
    seen: list[int] = []
    share = accuracy(
        ENGINE, TOKENIZER, tmp_path, [right, wrong, right, wrong], done=lambda: seen.append(1)
    )
    assert share == 0.5
    assert len(seen) == 4


@pytest.mark.parametrize("seed", range(4))
def test_a_choice_is_the_likeliest_per_byte(tmp_path, seed):
    choices = (f"a{seed}", f"much longer {seed}", f"{seed}{seed}{seed}")
    prompt = f"Why {seed}?"
    best = max(choices, key=lambda choice: log_likelihood(prompt, choice))
    questions = [Question(prompt=prompt, answer=c, choices=choices) for c in choices]
    assert [accuracy(ENGINE, TOKENIZER, tmp_path, [q]) for q in questions] == [
        float(c == best) for c in choices
    ]


def test_what_does_not_fit_is_not_right(tmp_path):
    long = "x" * 400
    assert accuracy(ENGINE, TOKENIZER, tmp_path, [Question(prompt=long, answer="")]) == 0.0
    choices = Question(prompt=long, answer="a", choices=("a", "b"))
    assert accuracy(ENGINE, TOKENIZER, tmp_path, [choices]) == 0.0
    assert accuracy(ENGINE, TOKENIZER, tmp_path, []) == 0.0


def test_held_out_questions_are_those_of_a_family(tmp_path):
    (tmp_path / "heldout").mkdir()
    (tmp_path / "heldout" / "b.jsonl").touch()
    (tmp_path / "heldout" / "a.jsonl").touch()
    assert heldout_files(tmp_path / "target") == []
    (tmp_path / "hola.json").touch()
    assert [file.name for file in heldout_files(tmp_path / "target")] == ["a.jsonl", "b.jsonl"]
