"""Do streams survive when every process, link and client around them may die at any moment?"""

from __future__ import annotations

import asyncio
from pathlib import Path

from hola.models.store import ModelStore
from hola_bench.chaos import inside
from hola_bench.chaos.options import Options
from hola_bench.chaos.run import Scenario, play
from hola_bench.chaos.schedule import Shape
from hola_bench.chaos.summary import failed, report
from hola_bench.chaos.workload import prepare
from hola_bench.models import Models
from hola_bench.report import Report

CASES = 60
SCRIPTED = "seed=7,eos_bias=-1000"


def run(options: Options) -> Report:
    """Run the benchmark. Raises HolaError when the fleet does not come up."""
    if inside.wanted(options.network):
        return inside.run(options)
    return run_here(options, namespaces=False)


def run_here(options: Options, *, namespaces: bool) -> Report:
    """Run it in this process; with `namespaces` it has a network namespace of its own."""
    models, family = scripted_models(), None
    if options.model != "scripted":
        family = ModelStore.at(options.models_dir).get(options.model)
        models = Models.of(family)
    work = prepare(models, family, CASES, seed=options.seed)
    scenario = Scenario(
        seed=options.seed,
        streams=options.streams,
        faults=options.faults,
        together=options.together,
        shape=Shape(
            verifiers=options.verifiers, drafters=options.drafters, routers=options.routers
        ),
        namespaces=namespaces,
        rolling=options.rolling,
        logs=Path(options.logs).absolute() if options.logs else None,
    )
    outcome = asyncio.run(play(scenario, models, work))
    return report(options, work, outcome)


def scripted_models() -> Models:
    """A target and two noisy copies, without model files."""
    target = f"scripted:{SCRIPTED}"
    drafts = (("tiny", f"{target},noise=0.7"), ("small", f"{target},noise=0.3"))
    return Models(name=target, target=target, drafts=drafts)


__all__ = ["Options", "failed", "run", "run_here", "scripted_models"]
