"""Runs configurations over cases and compares every output with the reference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hola_bench.cases import Case
from hola_bench.exactness import faults, process_kill
from hola_bench.exactness.plans import fault_plan, gated, plans
from hola_bench.exactness.reference import decode
from hola_bench.models import Models
from hola_bench.plan import Plan
from hola_bench.rig import Decoded, Rig, open_rig

Run = Callable[[Rig, Plan, Sequence[Case]], AsyncIterator[Decoded]]
References = Mapping[str, tuple[int, ...]]

GATED = "gated"
PROCESS_KILL = "drafter-process-killed"
# Starting processes is slow, so this many cases in all go through a real kill.
PROCESS_KILL_CASES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A plan and how it is run; `most_cases` None runs every case."""

    plan: Plan
    run: Run
    most_cases: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Where an output left the reference."""

    configuration: str
    case: str
    position: int
    expected: tuple[int, ...]
    got: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Tally:
    """One configuration's outcome; tallies of several processes add up."""

    name: str
    compared: int = 0
    tokens: int = 0
    rounds: int = 0
    accepted: int = 0
    hit: int = 0
    unverified: int = 0
    agreed: int = 0
    seconds: float = 0.0
    mismatches: list[Mismatch] = field(default_factory=list)

    def note(self, decoded: Decoded, expected: tuple[int, ...]) -> None:
        """Compare one output with what it should be."""
        self.compared += 1
        self.tokens += len(decoded.ids)
        self.rounds += decoded.summary.rounds
        self.accepted += decoded.summary.accepted_tokens
        self.hit += bool(decoded.summary.reconnects or decoded.takeovers)
        self.unverified += decoded.summary.unverified_tokens
        self.agreed += decoded.summary.agreed_tokens
        if decoded.ids != expected:
            self.mismatches.append(_mismatch(self.name, decoded, expected))

    def add(self, other: Tally) -> None:
        """Take another process's outcome in."""
        self.compared += other.compared
        self.tokens += other.tokens
        self.rounds += other.rounds
        self.accepted += other.accepted
        self.hit += other.hit
        self.unverified += other.unverified
        self.agreed += other.agreed
        self.seconds += other.seconds
        self.mismatches += other.mismatches


def configurations(models: Models) -> list[Configuration]:
    """Everything that is compared; `gated` is last and is no claim of exactness."""
    drafts = models.draft_names
    found = [Configuration(plan=plan, run=in_turn) for plan in plans(drafts)]
    found.append(Configuration(plan=fault_plan("verifier-restarted", drafts), run=faults.restarted))
    found.append(Configuration(plan=fault_plan("drafter-killed", drafts), run=faults.taken_over))
    if process_kill.redis_server() and not models.scripted:
        found.append(
            Configuration(
                plan=fault_plan(PROCESS_KILL, drafts),
                run=process_kill.killed,
                most_cases=PROCESS_KILL_CASES,
            )
        )
    return [*found, Configuration(plan=gated(drafts), run=in_turn)]


async def in_turn(rig: Rig, plan: Plan, cases: Sequence[Case]) -> AsyncIterator[Decoded]:
    """Cases one after the other, or `plan.together` at a time."""
    for start in range(0, len(cases), plan.together):
        batch = cases[start : start + plan.together]
        for decoded in await asyncio.gather(*(rig.decode(plan, case) for case in batch)):
            yield decoded


async def compare(
    models: Models,
    wanted: Sequence[Configuration],
    cases: Sequence[Case],
    progress: Callable[[int], None],
) -> list[Tally]:
    """All wanted configurations over all cases; `progress(n)` after every n outputs."""
    tallies = []
    async with open_rig(models, threads=1) as rig:
        references = {}
        for case in cases:
            references[case.name] = await _reference(rig, case)
            progress(1)
        single = [item for item in wanted if item.plan.threads == 1]
        tallies += [await _run(rig, item, cases, references, progress) for item in single]
    double = [item for item in wanted if item.plan.threads == 2]
    if double:
        async with open_rig(models, threads=2) as rig:
            tallies += [await _run(rig, item, cases, references, progress) for item in double]
    return tallies


async def _reference(rig: Rig, case: Case) -> tuple[int, ...]:
    engine, ids, params = rig.engines.target, case.prompt.ids, case.params
    return (await rig.target_worker.run(lambda: decode(engine, ids, params))).value


async def _run(
    rig: Rig,
    item: Configuration,
    cases: Sequence[Case],
    references: References,
    progress: Callable[[int], None],
) -> Tally:
    tally = Tally(name=item.plan.name)
    began = time.perf_counter()
    async for decoded in item.run(rig, item.plan, cases[: item.most_cases]):
        tally.note(decoded, references[decoded.case.name])
        progress(1)
    tally.seconds = time.perf_counter() - began
    return tally


def _mismatch(name: str, decoded: Decoded, expected: tuple[int, ...]) -> Mismatch:
    pairs = zip(decoded.ids, expected, strict=False)
    same = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
    position = min(len(decoded.ids), len(expected)) if same is None else same
    return Mismatch(
        configuration=name,
        case=decoded.case.name,
        position=position,
        expected=expected,
        got=decoded.ids,
    )
