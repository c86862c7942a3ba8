"""Held-out questions are taken evenly from the tasks, in an order that the seed decides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from hola.engines.scripted import ScriptedTokenizer
from hola.errors import ArtifactInvalid, InvalidRequest
from hola_bench import prompts


@pytest.fixture
def family(tmp_path: Path, monkeypatch):
    folder = tmp_path / "heldout"
    folder.mkdir()
    for task, count in (("reading", 6), ("word_problems", 3)):
        lines = [
            json.dumps({"id": f"{task}-{i}", "task": task, "prompt": f"{task} {i}?"})
            for i in range(count)
        ]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n\n")
    monkeypatch.setattr(prompts, "render_chat", lambda family, messages: messages[0].content)
    return SimpleNamespace(name="demo", path=tmp_path)


def take(family, count: int, **options):
    return prompts.heldout(family, ScriptedTokenizer(), count, **{"seed": 0, **options})


def test_tasks_take_turns_until_one_is_used_up(family):
    assert Counter(prompt.task for prompt in take(family, 6)) == {"reading": 3, "word_problems": 3}
    assert Counter(prompt.task for prompt in take(family, 9)) == {"reading": 6, "word_problems": 3}


def test_the_seed_decides_the_order_and_no_question_comes_twice(family):
    names = [prompt.name for prompt in take(family, 9)]
    assert names == [prompt.name for prompt in take(family, 9)]
    assert names != [prompt.name for prompt in take(family, 9, seed=1)]
    assert len(set(names)) == 9


def test_a_prompt_is_the_questions_tokens(family):
    (prompt, *_) = take(family, 1, tasks=("reading",))
    assert bytes(prompt.ids).decode() == prompt.name.replace("-", " ") + "?"


def test_too_many_are_refused_with_the_number_there_is(family):
    with pytest.raises(InvalidRequest, match="has 9"):
        take(family, 10)


def test_a_family_without_questions_is_refused(tmp_path):
    with pytest.raises(ArtifactInvalid, match="heldout"):
        take(SimpleNamespace(name="bare", path=tmp_path), 1)
