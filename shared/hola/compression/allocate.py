"""Which tensor gets which option: the multiple-choice knapsack, least damage within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hola.errors import BudgetInfeasible
from hola.extras import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One option of one tensor: its name, exact bytes, damage (nats of KL), milliseconds."""

    option: str
    bytes: int
    damage: float
    ms: float = 0.0


Table = Mapping[str, Sequence[Choice]]
Allocation = dict[str, Choice]


def smallest_bytes(table: Table) -> int:
    """Bytes when every tensor takes its smallest option."""
    return sum(min(choice.bytes for choice in choices) for choices in table.values())


def allocate(table: Table, budget_bytes: int, *, ms_weight: float = 0.0) -> Allocation:
    """For each tensor one choice, minimal in sum of damage + `ms_weight` * ms, within the bytes.

    Solved exactly as a 0/1 programme with HiGHS; ties go to the earlier choice, so that equal
    tables give equal answers. Damages are taken as additive, which the caller measures again.
    Raises BudgetInfeasible naming the smallest feasible bytes, MissingExtra.
    """
    smallest = smallest_bytes(table)
    if smallest > budget_bytes:
        raise BudgetInfeasible(
            f"the budget of {budget_bytes:,} bytes is below what is possible: the smallest"
            f" artifact takes {smallest:,} bytes",
            budget_bytes=budget_bytes,
            smallest_bytes=smallest,
        )
    useful = {name: _undominated(choices, ms_weight) for name, choices in table.items()}
    best = {name: choices[-1] for name, choices in useful.items()}
    if sum(choice.bytes for choice in best.values()) <= budget_bytes:
        return best
    taken = _solve(useful, budget_bytes, ms_weight)
    return {name: choices[taken[name]] for name, choices in useful.items()}


def exchange_rate(allocation: Allocation) -> float:
    """Damage per millisecond at which one per cent of either is worth the same."""
    ms = sum(choice.ms for choice in allocation.values())
    return sum(choice.damage for choice in allocation.values()) / ms if ms else 0.0


def _objective(choice: Choice, ms_weight: float) -> float:
    return choice.damage + ms_weight * choice.ms


def _undominated(choices: Sequence[Choice], ms_weight: float) -> list[Choice]:
    """By rising bytes; only those that are better than everything smaller."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.bytes, _objective(c, ms_weight))):
        if not kept or _objective(choice, ms_weight) < _objective(kept[-1], ms_weight):
            kept.append(choice)
    return kept


def _solve(table: Table, budget_bytes: int, ms_weight: float) -> dict[str, int]:
    """Index of the chosen option per tensor. Values are scaled to what HiGHS's tolerances see."""
    highspy = require("highspy", "compress")
    values = [_objective(choice, ms_weight) for row in table.values() for choice in row]
    scale = max((abs(value) for value in values), default=0.0) or 1.0
    model = highspy.Highs()
    model.silent()
    model.setOptionValue("mip_rel_gap", 1e-7)
    model.setOptionValue("threads", 1)
    model.setOptionValue("random_seed", 0)
    chosen = {name: [model.addBinary() for _ in row] for name, row in table.items()}
    for variables in chosen.values():
        model.addConstr(sum(variables) == 1)
    unit = max(1, budget_bytes)
    used = sum(
        (choice.bytes / unit) * variable
        for name, row in table.items()
        for choice, variable in zip(row, chosen[name], strict=True)
    )
    model.addConstr(used <= 1.0)
    model.minimize(
        sum(
            (_objective(choice, ms_weight) / scale) * variable
            for name, row in table.items()
            for choice, variable in zip(row, chosen[name], strict=True)
        )
    )
    taken = {
        name: int(np.argmax([model.val(variable) for variable in variables]))
        for name, variables in chosen.items()
    }
    return _within(table, taken, budget_bytes, ms_weight)


def _within(table: Table, taken: dict[str, int], budget: int, ms_weight: float) -> dict[str, int]:
    """Undo a rounding of the solver's that would overshoot the budget by a few bytes."""
    while sum(table[name][at].bytes for name, at in taken.items()) > budget:
        down = [name for name, at in taken.items() if at > 0]
        cheapest = min(
            down,
            key=lambda name: (
                (
                    _objective(table[name][taken[name] - 1], ms_weight)
                    - _objective(table[name][taken[name]], ms_weight)
                )
                / (table[name][taken[name]].bytes - table[name][taken[name] - 1].bytes)
            ),
        )
        taken[cheapest] -= 1
    return taken
