"""Is speculative output, token for token, what the target alone would have written?"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hola.engines.tokenizer import load_tokenizer
from hola.errors import InvalidRequest
from hola.models.store import ModelStore
from hola_bench.cases import TEMPERATURES, Case, cases
from hola_bench.exactness import chi2, distribution, process_kill, shards
from hola_bench.exactness.compare import GATED, PROCESS_KILL, PROCESS_KILL_CASES, Mismatch, Tally
from hola_bench.models import Models
from hola_bench.prompts import Prompt, heldout
from hola_bench.report import Report, rounded, usable_cores

MOST_JOBS = 4
CHI2_DRAWS = 20_000
SHOWN_MISMATCHES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to compare. Empty `configurations` and `case` mean all; `jobs` 0 one per core."""

    models_dir: str
    model: str
    prompts: int = 500
    configurations: tuple[str, ...] = ()
    case: str = ""
    max_tokens: int = 32
    jobs: int = 0
    seed: int = 0
    chi2_draws: int = CHI2_DRAWS


def run(options: Options) -> Report:
    """Run the benchmark on a family. Raises what loading it raises, and InvalidRequest."""
    family = ModelStore.at(options.models_dir).get(options.model)
    tokenizer = load_tokenizer(family.target.path)
    prompts = heldout(family, tokenizer, options.prompts, seed=options.seed)
    return run_on(Models.of(family), prompts, options)


def run_on(models: Models, prompts: Sequence[Prompt], options: Options) -> Report:
    """Run the benchmark on these tiers and prompts."""
    began = time.monotonic()
    chosen = _choose_cases(
        cases(prompts, seed=options.seed, max_tokens=options.max_tokens), options
    )
    names = _choose_names(shards.known_names(models), options)
    jobs = options.jobs or min(usable_cores(), MOST_JOBS)
    work = shards.Work(models=models, names=names, cases=tuple(chosen))
    tallies = shards.run(work, min(jobs, len(prompts)))
    tests = [
        *chi2.sampler_tests(options.seed, options.chi2_draws),
        *distribution.stream_tests(options.seed, options.chi2_draws // 10),
    ]
    exact = [tally for tally in tallies if tally.name != GATED]
    mismatches = [mismatch for tally in exact for mismatch in tally.mismatches]
    for mismatch in mismatches[:SHOWN_MISMATCHES]:
        print(replay_line(mismatch, options), file=sys.stderr)
    return Report(
        bench="exactness",
        seed=options.seed,
        repeats=1,
        headline={
            "prompts": len({case.prompt.name for case in chosen}),
            "configurations": len(exact),
            "mismatches": len(mismatches),
            "chi2_p_min": rounded(min(test.p for test in tests)),
        },
        details={
            "assignment": _assignment(chosen, names),
            "outputs_compared": sum(tally.compared for tally in exact),
            "tokens_compared": sum(tally.tokens for tally in exact),
            "tasks": _tasks(prompts),
            "temperatures": list(TEMPERATURES),
            "max_tokens": options.max_tokens,
            "processes": jobs,
            "configurations": [_row(tally) for tally in exact],
            "gated": [_gated_row(tally) for tally in tallies if tally.name == GATED],
            "mismatches": [_shown(mismatch, options) for mismatch in mismatches],
            "chi2": _chi2(tests),
            "chi2_tests": [_test_row(test) for test in tests],
            "minutes": rounded((time.monotonic() - began) / 60),
        },
    )


def _choose_cases(every: list[Case], options: Options) -> list[Case]:
    if not options.case:
        return every
    chosen = [case for case in every if case.name == options.case]
    if not chosen:
        raise InvalidRequest(
            f"no case is called {options.case!r} among these prompts, e.g. {every[0].name}",
            field="case",
        )
    return chosen


def _choose_names(known: Sequence[str], options: Options) -> tuple[str, ...]:
    unknown = [name for name in options.configurations if name not in known]
    if unknown:
        raise InvalidRequest(
            f"no configuration is called {unknown[0]!r}; known: {', '.join(known)}",
            field="configurations",
        )
    return options.configurations or tuple(known)


def replay_line(mismatch: Mismatch, options: Options) -> str:
    """A command that repeats one comparison and nothing else."""
    return (
        f"mismatch at token {mismatch.position}; replay: {os.path.basename(sys.argv[0]) or 'hola'} "
        f"bench exactness --model {options.model}"
        f"{' --models-dir ' + options.models_dir if options.models_dir else ''} "
        f"--prompts {options.prompts} --max-tokens {options.max_tokens} --seed {options.seed} "
        f"--configurations {mismatch.configuration} --case {mismatch.case} --jobs 1"
    )


def _assignment(chosen: Sequence[Case], names: Sequence[str]) -> str:
    text = f"each configuration ran all {len(chosen)} cases (prompt x temperature)"
    if PROCESS_KILL in names:
        text += f", but {PROCESS_KILL} the first {PROCESS_KILL_CASES} of the first process"
    elif process_kill.redis_server() is None:
        text += f"; {PROCESS_KILL} was not run, since redis-server is not installed"
    return text


def _tasks(prompts: Sequence[Prompt]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for prompt in prompts:
        counts[prompt.task] = counts.get(prompt.task, 0) + 1
    return counts


def _row(tally: Tally) -> dict[str, Any]:
    row: dict[str, Any] = {
        "configuration": tally.name,
        "compared": tally.compared,
        "mismatches": len(tally.mismatches),
        "tokens": tally.tokens,
        "accepted_per_verify": rounded(tally.accepted / tally.rounds if tally.rounds else 0.0),
        "seconds": rounded(tally.seconds, 3),
    }
    if tally.hit:
        row["hit_in_mid_stream"] = tally.hit
    return row


def _gated_row(tally: Tally) -> dict[str, Any]:
    agreement = tally.agreed / tally.unverified if tally.unverified else 1.0
    return {
        "outputs": tally.compared,
        "outputs_equal": tally.compared - len(tally.mismatches),
        "unverified_tokens": tally.unverified,
        "target_agrees_with": rounded(agreement),
    }


def _shown(mismatch: Mismatch, options: Options) -> dict[str, Any]:
    return {
        "configuration": mismatch.configuration,
        "case": mismatch.case,
        "position": mismatch.position,
        "expected": list(mismatch.expected),
        "got": list(mismatch.got),
        "replay": replay_line(mismatch, options),
    }


def _chi2(tests: Sequence[chi2.ChiSquared]) -> dict[str, Any]:
    return {
        "alarms": [test.name for test in chi2.alarms(tests)],
        "false_alarm_probability": chi2.FALSE_ALARM_PROBABILITY,
        "level_per_test": rounded(chi2.FALSE_ALARM_PROBABILITY / len(tests)),
    }


def _test_row(test: chi2.ChiSquared) -> dict[str, Any]:
    p = rounded(test.p)
    return {"test": test.name, "draws": test.draws, "freedom": test.freedom, "p": p}
