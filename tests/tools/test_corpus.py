"""The training text is what the model card says, and held-out questions stay out of it."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tools.tiers import corpus, heldout, problems, world

STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
OPS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if a % b == 0 else None,
}


def documents(count: int, seed: int = 1) -> list[corpus.Document]:
    return list(itertools.islice(corpus.documents(seed, 0, lambda: 2, range(5, 900)), count))


def text_of(document: corpus.Document) -> str:
    return "".join(piece for piece, _ in document.segments if isinstance(piece, str))


@pytest.fixture(scope="module")
def sample() -> list[corpus.Document]:
    return documents(3000)


@pytest.fixture(scope="module")
def sets() -> dict[str, list[heldout.Item]]:
    return heldout.build()


def test_the_same_seed_gives_the_same_text() -> None:
    assert documents(50) == documents(50)
    assert documents(50) != documents(50, seed=2)


def test_every_worked_step_is_right(sample: list[corpus.Document]) -> None:
    steps = [m for d in sample for m in STEP.findall(text_of(d))]
    assert len(steps) > 3000
    for a, op, b, c in steps:
        assert OPS[op](int(a), int(b)) == int(c), (a, op, b, c)


def test_the_last_step_is_the_answer() -> None:
    rng = random.Random(3)
    for _ in range(500):
        p = problems.draw(rng, ["Torlan", "Mevra"])
        assert p.text.endswith(f"={p.answer}. The answer is {p.answer}.")
        assert len(p.numbers) == len(p.plan) + (p.plan[0] == "p")


def test_numbers_stay_small() -> None:
    rng = random.Random(4)
    answers = [int(problems.draw(rng, ["Torlan", "Mevra"]).answer) for _ in range(2000)]
    assert min(answers) >= 1
    assert max(answers) < 1000


def test_heldout_names_never_appear_in_training(sample: list[corpus.Document]) -> None:
    seen = {word for d in sample for word in re.findall(r"[A-Z][a-z]+", text_of(d))}
    assert not seen & set(world.HELDOUT_NAMES)
    assert not seen & world.KNOWN_NAMES
    assert len(seen & set(world.TRAIN_NAMES)) > 1000


def test_heldout_questions_use_only_heldout_names(sets: dict[str, list[heldout.Item]]) -> None:
    names = set(world.TRAIN_NAMES) | set(world.COMMON_NAMES)
    for task in ("word_problems", "reading", "word_problems_templates", "reading_templates"):
        for item in sets[task]:
            assert not names & set(re.findall(r"[A-Z][a-z]+", str(item["prompt"])))


def test_heldout_numbers_and_plans_are_not_trained() -> None:
    rng = random.Random(5)
    for _ in range(1000):
        p = problems.draw(rng, ["Torlan", "Mevra"])
        assert not problems.is_heldout_plan(p.plan)
        assert not problems.is_heldout_numbers(p.plan, p.numbers)


def test_heldout_word_problems_are_new(sets: dict[str, list[heldout.Item]]) -> None:
    for item in sets["word_problems"]:
        meta = item["meta"]
        assert isinstance(meta, dict)
        assert problems.is_heldout_numbers(meta["plan"], tuple(meta["numbers"]))
        assert problems.is_heldout_plan(meta["plan"]) == meta["new_plan"]


def test_heldout_phrasings_are_not_trained(sample: list[corpus.Document]) -> None:
    text = "\n".join(text_of(d) for d in sample)
    for attribute in world.ATTRIBUTES:
        for shape in attribute.statements:
            said = re.escape(shape).replace(r"\{n\}", "[A-Z][a-z]+").replace(r"\{v\}", "[A-z]+")
            assert bool(re.search(said, text)) == (shape != attribute.statements[-1]), shape
    for shape in ("to the market", "At the market", "on a field", "A field of"):
        assert shape not in text


def test_reading_answers_stand_in_the_passage(sets: dict[str, list[heldout.Item]]) -> None:
    for item in sets["reading"] + sets["reading_templates"]:
        passages = str(item["prompt"]).rsplit("\nQuestion:", 1)[0]
        assert str(item["answer"]) in passages
        evidence = str(item["reference"]).removeprefix("It says: ").split(" The answer is")[0]
        assert evidence in passages


def test_choice_letters_point_at_the_answer(sets: dict[str, list[heldout.Item]]) -> None:
    for item in sets["choice"]:
        options = dict(re.findall(r"^([A-D])\) (.+)$", str(item["prompt"]), re.MULTILINE))
        assert len(set(options.values())) == 4
        reasoning = str(item["reference"]).split(" The answer is")[0]
        assert options[str(item["answer"])] in reasoning


def test_the_exposure_queue_holds_each_fact_as_often_as_its_bucket_says() -> None:
    counts = Counter(corpus.exposure_queue())
    number = 0
    for entity in world.KNOWLEDGE:
        for _ in entity.facts:
            assert counts[number] == entity.bucket
            number += 1


def test_knowledge_documents_name_exactly_the_facts_they_count() -> None:
    queue = corpus.exposure_queue()
    for i in range(0, 4000, 4):
        document = corpus.knowledge(random.Random(i), queue[i : i + 4])
        text = text_of(document)
        for fact in (corpus.FACTS[n] for n in document.facts):
            assert fact.name in text
            assert fact.value in text
        named = re.findall(r"[A-Z][a-z]+", text)
        known = [w for w in named if w in world.KNOWN_NAMES]
        assert set(known) == {corpus.FACTS[n].name for n in document.facts}


def test_heldout_sets_are_large_enough_and_small_on_disk(
    sets: dict[str, list[heldout.Item]], tmp_path: Path
) -> None:
    assert len(sets["word_problems"]) >= 300
    assert len(sets["reading"]) >= 300
    ids = [item["id"] for items in sets.values() for item in items]
    assert len(ids) == len(set(ids))
    heldout.save(tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 1_000_000
    assert {name: heldout.load(tmp_path, name) for name in sets} == sets
