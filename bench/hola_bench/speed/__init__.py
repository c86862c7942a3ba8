"""How fast is speculation here, ladder by ladder, and what does the protocol cost?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hola.engines.tokenizer import load_tokenizer
from hola.models.store import ModelStore
from hola.speculation.proposers import LOOKUP
from hola.types import SamplingParams
from hola_bench.cases import Case
from hola_bench.models import Models
from hola_bench.plan import Plan, ladder_name
from hola_bench.processes import environment, free_port, service, wait_for_port
from hola_bench.prompts import Prompt, heldout
from hola_bench.report import Report, rounded, spread, usable_cores
from hola_bench.rig import open_rig
from hola_bench.speed import draft_step, echo, ladders, overhead, wire
from hola_bench.speed.scale import scale_models

TASK = "word_problems"
OVERHEAD_ROUNDS = 400
DRAFT_STEPS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to time. `scale` is a directory, "auto" or "none"; `threads` 0 is one per core."""

    models_dir: str
    model: str
    prompts: int = 8
    repeats: int = 5
    max_tokens: int = 96
    scale: str = "auto"
    threads: int = 0
    seed: int = 0
    rounds: int = OVERHEAD_ROUNDS
    steps: int = DRAFT_STEPS


def run(options: Options) -> Report:
    """Run the benchmark on a family. Raises what loading it and making its scale model raise."""
    family = ModelStore.at(options.models_dir).get(options.model)
    tokenizer = load_tokenizer(family.target.path)
    prompts = heldout(family, tokenizer, options.prompts, seed=options.seed, tasks=(TASK,))
    return run_on(Models.of(family), scale_models(family, options.scale), prompts, options)


def run_on(
    demo: Models, scale: Models | None, prompts: Sequence[Prompt], options: Options
) -> Report:
    """Run the benchmark on these tiers, with the scale model where there is one."""
    began = time.monotonic()
    cases = [
        Case(prompt=prompt, params=SamplingParams(max_tokens=options.max_tokens))
        for prompt in prompts
    ]
    families = [demo] if scale is None else [demo, scale]
    timed = {models.name: _time(models, cases, options) for models in families}
    details = asyncio.run(_protocol(demo, cases, options))
    return Report(
        bench="speed",
        seed=options.seed,
        repeats=options.repeats,
        headline=_headline(timed[demo.name], timed[scale.name] if scale else None, details),
        details={
            "task": prompts[0].task,
            "prompts": len(prompts),
            "temperature": 0,
            "threads": _threads(options),
            "rates": "tokens/s while decoding; prompt processing is in whole_request only",
            **{name: _summary(runs, _default(demo)) for name, runs in timed.items()},
            **{f"{name}_methods": list(ladders.rows(runs)) for name, runs in timed.items()},
            **details,
            "minutes": rounded((time.monotonic() - began) / 60),
        },
    )


def _time(models: Models, cases: Sequence[Case], options: Options) -> list[ladders.Runs]:
    methods = len(ladders.plans(models)) + 1
    with _bar(f"timing {models.name}", methods * (options.repeats + 1)) as progress:
        return asyncio.run(
            ladders.measure(
                models,
                cases,
                repeats=options.repeats,
                seed=options.seed,
                threads=_threads(options),
                progress=progress,
            )
        )


class _bar:
    """A progress bar on stderr; entering gives the function that advances it."""

    def __init__(self, title: str, total: int) -> None:
        columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._bar = Progress(
            *columns, console=Console(stderr=True), disable=not sys.stderr.isatty()
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda done: self._bar.advance(self._task, done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


async def _protocol(models: Models, cases: Sequence[Case], options: Options) -> dict[str, Any]:
    """Overhead and bytes against a verifier in a process of its own, and the draft step."""
    port, echo_port = free_port(), free_port()
    environ = environment(models, listen=f"127.0.0.1:{port}", threads=_threads(options))
    full = (LOOKUP, *models.draft_names)
    plan = Plan(name=ladder_name(full), ladder=full)
    bare = environment(models) | {echo.PORT: str(echo_port)}
    async with (
        service("hola_verifier", environ) as process,
        service("hola_bench.speed.echo", bare) as echoing,
    ):
        await wait_for_port(process, port)
        await wait_for_port(echoing, echo_port)
        async with open_rig(models, threads=_threads(options)) as rig:
            rounds = await overhead.measure(rig, port, echo_port, rounds=options.rounds)
            bytes_ = await wire.measure(rig, port, plan, cases)
            steps = [
                draft_step.measure(name, engine, steps=options.steps)
                for name, engine in rig.engines.drafts.items()
                if not models.scripted
            ]
    return {"overhead": rounds, "wire": bytes_, "draft_step": steps}


def _headline(
    demo: Sequence[ladders.Runs], scale: Sequence[ladders.Runs] | None, details: dict[str, Any]
) -> dict[str, int | float]:
    best = ladders.best_ladder(scale or demo)
    headline = {"demo_speculative_over_plain": _ratio(demo)}
    if scale is not None:
        headline = {"scale_speculative_over_plain": _ratio(scale), **headline}
    (rounds,) = [
        row for row in details["overhead"] if row["draft_tokens"] == overhead.HEADLINE_LENGTH
    ]
    return {
        **headline,
        "overhead_ms_p50": rounds["p50_ms"],
        "wire_bytes_per_token": details["wire"]["bytes_per_token"],
        "accepted_per_verify": rounded(best.accepted_per_verify),
    }


def _ratio(runs: Sequence[ladders.Runs]) -> float:
    best, plain = ladders.best_ladder(runs), ladders.best_plain(runs)
    return spread(ladders.over(best, plain))["median"]


def _default(models: Models) -> str:
    """The method that a request gets which asks for nothing: every tier, lengths that adapt."""
    return ladder_name((LOOKUP, *models.draft_names))


def _summary(runs: Sequence[ladders.Runs], default: str) -> dict[str, Any]:
    best, plain = ladders.best_ladder(runs), ladders.best_plain(runs)
    (usual,) = [run for run in runs if run.name == default]
    return {
        "plain": plain.name,
        "plain_tokens_per_s": rounded(plain.median),
        "best": best.name,
        "best_tokens_per_s": rounded(best.median),
        "best_over_plain": spread(ladders.over(best, plain)),
        "default": usual.name,
        "default_tokens_per_s": rounded(usual.median),
        "default_over_plain": spread(ladders.over(usual, plain)),
        "outputs_equal": all(run.equal for run in runs),
    }


def _threads(options: Options) -> int:
    return options.threads or usable_cores()
