"""The held-out questions: new numbers, names, step combinations and templates."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tools.tiers import corpus, problems
from tools.tiers.corpus import HELD_PHRASING, TRAIN_PHRASINGS, Turn
from tools.tiers.world import BUCKETS, BY_KEY, HELDOUT_NAMES, KNOWLEDGE, Entity

SEED = "hola held-out"
Item = dict[str, object]


def item(task: str, number: int, turn: Turn, **meta: object) -> Item:
    """One line of a held-out file."""
    return {
        "id": f"{task}-{number:04d}",
        "task": task,
        "prompt": turn.prompt,
        "answer": turn.answer,
        "reference": turn.reference,
        "meta": meta,
    }


def word_problems(
    task: str, count: int, stories: tuple[problems.Story, ...], rng: random.Random
) -> Iterator[Item]:
    """Unseen numbers and names; every third has an unseen combination of steps."""
    for i in range(count):
        new_plan = i % 3 == 2
        p = problems.draw(
            rng, rng.sample(HELDOUT_NAMES, 2), stories=stories, heldout=True, new_plan=new_plan
        )
        turn = Turn("Question: " + p.question, p.text, p.answer)
        steps = len(p.plan) - (p.plan[0] == "s")
        yield item(
            task,
            i,
            turn,
            story=p.story,
            plan=p.plan,
            new_plan=new_plan,
            steps=steps,
            numbers=list(p.numbers),
        )


def reading(task: str, count: int, phrasings: range, rng: random.Random) -> Iterator[Item]:
    """People never seen in training, one to three in a prompt."""
    for i in range(count):
        people = i % 3 + 1
        text = corpus.passage(
            rng, rng.sample(HELDOUT_NAMES, people), 3 if people < 3 else 2, phrasings
        )
        turn = corpus.with_passage(text, corpus.ask(rng, text, phrasings, 0.2))
        yield item(task, i, turn, people=people, passages=len(text.lines))


def entities(bucket: int) -> list[Entity]:
    return [e for e in KNOWLEDGE if e.bucket == bucket]


def knowledge(rng: random.Random) -> Iterator[Item]:
    """Every fact of the knowledge base, asked in a phrasing used in training."""
    number = 0
    for bucket in BUCKETS:
        for entity in entities(bucket):
            for fact in entity.facts:
                phrasing = rng.randrange(TRAIN_PHRASINGS)
                turn = corpus.knowledge_turn(fact, phrasing)
                yield item(
                    "knowledge",
                    number,
                    turn,
                    bucket=bucket,
                    attribute=fact.key,
                    entity=fact.name,
                    chance=1 / len(BY_KEY[fact.key].values),
                )
                number += 1


def choice(count: int, rng: random.Random) -> Iterator[Item]:
    """Multiple choice over sums, passages about unseen people, and well-known facts."""
    known = [f for e in entities(100) for f in e.facts]
    for i in range(count):
        kind = ("sum", "reading", "knowledge")[i % 3]
        if kind == "sum":
            turn = corpus.choice_of_sum(rng)
        elif kind == "reading":
            names = rng.sample(HELDOUT_NAMES, rng.randint(1, 2))
            turn = corpus.choice_of_reading(rng, names, range(TRAIN_PHRASINGS))
        else:
            turn = corpus.knowledge_choice(rng.choice(known), rng.randrange(TRAIN_PHRASINGS), rng)
        yield item("choice", i, turn, over=kind)


def build(scale: float = 1.0) -> dict[str, list[Item]]:
    """All held-out sets by name."""

    def rng(name: str) -> random.Random:
        return random.Random(f"{SEED}:{name}")

    n = max(3, int(360 * scale))
    held = range(HELD_PHRASING, HELD_PHRASING + 1)
    name = "word_problems_templates"
    sets = {
        "word_problems": word_problems("word_problems", n, problems.STORIES, rng("word_problems")),
        name: word_problems(name, n // 2, problems.HELDOUT_STORIES, rng(name)),
        "reading": reading("reading", n, range(TRAIN_PHRASINGS), rng("reading")),
        "reading_templates": reading("reading_templates", n // 2, held, rng("reading_templates")),
        "knowledge": knowledge(rng("knowledge")),
        "choice": choice(n // 2, rng("choice")),
    }
    return {task: list(items) for task, items in sets.items()}


def save(folder: Path, scale: float = 1.0) -> None:
    """Write one jsonl file per set."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, items in build(scale).items():
        lines = [json.dumps(i, ensure_ascii=False) for i in items]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def load(folder: Path, name: str) -> list[Item]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    save(parser.parse_args().folder)
