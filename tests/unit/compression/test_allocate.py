"""The allocator against brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from hola.compression.allocate import Choice, allocate, smallest_bytes
from hola.errors import BudgetInfeasible


def table(rng: random.Random, tensors: int, options: int) -> dict[str, list[Choice]]:
    return {
        f"t{number}": [
            Choice(
                option=f"o{at}",
                bytes=rng.randrange(1, 400),
                damage=rng.choice([0.0, rng.random(), rng.random() * 1e-6]),
                ms=rng.random(),
            )
            for at in range(options)
        ]
        for number in range(tensors)
    }


def best(choices: dict[str, list[Choice]], budget: int, weight: float) -> float:
    feasible = [
        sum(choice.damage + weight * choice.ms for choice in taken)
        for taken in itertools.product(*choices.values())
        if sum(choice.bytes for choice in taken) <= budget
    ]
    return min(feasible)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_within_the_budget_is_better(seed):
    rng = random.Random(seed)
    choices = table(rng, tensors=rng.randint(1, 5), options=rng.randint(1, 5))
    smallest = smallest_bytes(choices)
    budget = smallest + rng.randrange(0, 600)
    weight = rng.choice([0.0, 0.5])
    taken = allocate(choices, budget, ms_weight=weight)
    assert taken.keys() == choices.keys()
    assert sum(choice.bytes for choice in taken.values()) <= budget
    got = sum(choice.damage + weight * choice.ms for choice in taken.values())
    assert got == pytest.approx(best(choices, budget, weight), rel=1e-5, abs=1e-7)


def test_equal_tables_give_equal_answers():
    choices = table(random.Random(1), tensors=20, options=8)
    budget = smallest_bytes(choices) + 1500
    assert allocate(choices, budget) == allocate(choices, budget)


def test_a_budget_below_the_smallest_names_it():
    choices = table(random.Random(2), tensors=3, options=3)
    smallest = smallest_bytes(choices)
    with pytest.raises(BudgetInfeasible) as caught:
        allocate(choices, smallest - 1)
    assert caught.value.details["smallest_bytes"] == str(smallest)
    assert sum(choice.bytes for choice in allocate(choices, smallest).values()) == smallest


def test_without_a_limit_everything_takes_its_best():
    choices = table(random.Random(3), tensors=12, options=6)
    found = allocate(choices, 2**62)
    assert {name: choice.damage for name, choice in found.items()} == {
        name: min(choice.damage for choice in row) for name, row in choices.items()
    }
