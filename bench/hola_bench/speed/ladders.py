"""Tokens per second of every ladder and of plain decoding, in turn, on the same prompts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hola.speculation.proposers import LOOKUP
from hola_bench.cases import Case
from hola_bench.models import Models
from hola_bench.plan import Plan, every_ladder, ladder_name
from hola_bench.report import rounded, spread
from hola_bench.rig import Rig, open_rig
from hola_bench.speed import plain

LOOP = "plain loop"
SESSION = "plain, k=0"
FIXED_LENGTHS = (3, 5, 7)
NS_PER_S = 1e9


@dataclass(slots=True, kw_only=True)
class Runs:
    """One method's repeats; rates are tokens per second over all prompts of a repeat.

    `decode` leaves prompt processing out, `whole` is the request from its start.
    """

    name: str
    decode: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0
    rounds: int = 0
    accepted: int = 0
    equal: bool = True

    @property
    def median(self) -> float:
        """Median decoding rate."""
        return statistics.median(self.decode)

    @property
    def accepted_per_verify(self) -> float:
        """Draft tokens accepted per verifier call."""
        return self.accepted / self.rounds if self.rounds else 0.0


def plans(models: Models) -> list[Plan]:
    """k = 0, every ladder at its own pace, and the largest and smallest at fixed lengths."""
    full = (LOOKUP, *models.draft_names)
    adaptive = [
        Plan(name=ladder_name(tiers), ladder=tiers) for tiers in every_ladder(full) if tiers
    ]
    fixed = [
        Plan(name=f"{ladder_name(tiers)}, k={k}", ladder=tiers, draft_tokens=k)
        for tiers in dict.fromkeys((full, models.draft_names, models.draft_names[:1]))
        if tiers
        for k in FIXED_LENGTHS
    ]
    return [Plan(name=SESSION, draft_tokens=0), *adaptive, *fixed]


async def measure(
    models: Models,
    cases: Sequence[Case],
    *,
    repeats: int,
    seed: int,
    threads: int,
    progress: Callable[[int], None],
) -> list[Runs]:
    """Time all methods; in every repeat each runs all cases, in an order drawn anew.

    One round of all methods comes first and is not timed.
    """
    methods = plans(models)
    runs = {name: Runs(name=name) for name in (LOOP, *(plan.name for plan in methods))}
    rng = random.Random(seed)
    async with open_rig(models, threads=threads) as rig:
        expected = [(await _loop(rig, case)).ids for case in cases]
        for repeat in range(repeats + 1):
            order: list[Plan | None] = [None, *methods]
            rng.shuffle(order)
            for plan in order:
                one = Runs(name=LOOP if plan is None else plan.name)
                await _run(rig, plan, cases, expected, one)
                if repeat:
                    _add(runs[one.name], one)
                progress(1)
    return list(runs.values())


async def _run(
    rig: Rig,
    plan: Plan | None,
    cases: Sequence[Case],
    expected: Sequence[tuple[int, ...]],
    one: Runs,
) -> None:
    """All cases once."""
    decode_s = whole_s = 0.0
    for case, ids in zip(cases, expected, strict=True):
        if plan is None:
            timed = await _loop(rig, case)
            got, spent_s, all_s = timed.ids, timed.decode_s, timed.prefill_s + timed.decode_s
        else:
            decoded = await rig.decode(plan, case)
            timings = decoded.summary.timings
            got, all_s = decoded.ids, timings.total_ns / NS_PER_S
            spent_s = all_s - (timings.prefill_ns + timings.queue_ns) / NS_PER_S
            one.rounds += decoded.summary.rounds
            one.accepted += decoded.summary.accepted_tokens
        decode_s += spent_s
        whole_s += all_s
        one.tokens += len(got)
        one.equal = one.equal and got == ids
    one.decode.append(one.tokens / decode_s)
    one.whole.append(one.tokens / whole_s)


async def _loop(rig: Rig, case: Case) -> plain.Timed:
    engine = rig.engines.target
    return (await rig.target_worker.run(lambda: plain.decode(engine, case))).value


def _add(total: Runs, one: Runs) -> None:
    total.decode += one.decode
    total.whole += one.whole
    total.tokens += one.tokens
    total.rounds += one.rounds
    total.accepted += one.accepted
    total.equal = total.equal and one.equal


def best_plain(runs: Sequence[Runs]) -> Runs:
    """The faster of the two plain ways."""
    return max((run for run in runs if run.name in (LOOP, SESSION)), key=lambda run: run.median)


def best_ladder(runs: Sequence[Runs]) -> Runs:
    """The fastest way that speculates."""
    return max((run for run in runs if run.name not in (LOOP, SESSION)), key=lambda run: run.median)


def over(run: Runs, baseline: Runs) -> list[float]:
    """Ratio of decoding rates, repeat by repeat."""
    return [ours / theirs for ours, theirs in zip(run.decode, baseline.decode, strict=True)]


def rows(runs: Sequence[Runs]) -> Iterator[dict[str, Any]]:
    """One row per method, the fastest first."""
    baseline = best_plain(runs)
    for run in sorted(runs, key=lambda run: -run.median):
        yield {
            "method": run.name,
            "tokens_per_s": spread(run.decode),
            "over_plain": spread(over(run, baseline)),
            "whole_request_tokens_per_s": rounded(statistics.median(run.whole)),
            "accepted_per_verify": rounded(run.accepted_per_verify),
            "output_equal": run.equal,
        }
