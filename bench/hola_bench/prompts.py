"""Prompts for the benchmarks: a family's held-out questions, rendered with its chat template."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hola.errors import ArtifactInvalid, InvalidRequest
from hola.models.family import HELDOUT_FOLDER, Family
from hola.models.prompt import render_chat
from hola.ports import Tokenizer
from hola.types import ChatMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question as token ids, template included, and as the text they were made of."""

    name: str
    task: str
    ids: tuple[int, ...]
    text: str = ""


def heldout(
    family: Family, tokenizer: Tokenizer, count: int, *, seed: int, tasks: Sequence[str] = ()
) -> list[Prompt]:
    """`count` held-out questions, as many of each task as possible, in an order set by `seed`.

    Raises ArtifactInvalid when the family ships no held-out questions, InvalidRequest when it has
    fewer than `count`.
    """
    lines = _lines(family, tasks)
    questions = _in_turn(lines, seed)
    if len(questions) < count:
        raise InvalidRequest(
            f"{count} prompts were asked for, {family.name} has {len(questions)}", field="prompts"
        )
    return [_prompt(family, tokenizer, question) for question in questions[:count]]


def _lines(family: Family, tasks: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    files = sorted((family.path / HELDOUT_FOLDER).glob("*.jsonl"))
    wanted = [file for file in files if not tasks or file.stem in tasks]
    if not wanted:
        which = f" for {', '.join(tasks)}" if tasks else ""
        raise ArtifactInvalid(
            f"{family.name} has no held-out questions{which}: no {HELDOUT_FOLDER}/*.jsonl",
            path=family.path,
        )
    return {file.stem: _read(file) for file in wanted}


def _read(file: Path) -> list[dict[str, str]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _in_turn(by_task: dict[str, list[dict[str, str]]], seed: int) -> list[dict[str, str]]:
    """One of each task, then the next of each, until all are used up."""
    rng = random.Random(seed)
    piles = [rng.sample(questions, len(questions)) for questions in by_task.values()]
    longest = max(map(len, piles))
    return [pile[i] for i in range(longest) for pile in piles if i < len(pile)]


def _prompt(family: Family, tokenizer: Tokenizer, question: dict[str, str]) -> Prompt:
    text = render_chat(family, [ChatMessage(role="user", content=question["prompt"])])
    return Prompt(
        name=question["id"], task=question["task"], ids=tuple(tokenizer.encode(text)), text=text
    )


def random_bytes(count: int, *, seed: int, length: int = 24) -> list[Prompt]:
    """Prompts of random bytes, for engines without a vocabulary of their own."""
    rng = random.Random(seed)
    return [
        Prompt(
            name=f"random-{i:04}",
            task="random",
            ids=tuple(rng.randrange(256) for _ in range(length)),
        )
        for i in range(count)
    ]
