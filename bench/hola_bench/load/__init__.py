"""Many streams at once: is everybody served alike, and does anything grow or get stuck?"""

from __future__ import annotations

import asyncio

from hola.models.store import ModelStore
from hola_bench.chaos import scripted_models
from hola_bench.chaos.workload import prepare
from hola_bench.load.options import Options
from hola_bench.load.run import play
from hola_bench.load.summary import failed, report
from hola_bench.models import Models
from hola_bench.report import Report

CASES = 60


def run(options: Options) -> Report:
    """Run the benchmark. Raises HolaError when the fleet does not come up."""
    models, family = scripted_models(), None
    if options.model != "scripted":
        family = ModelStore.at(options.models_dir).get(options.model)
        models = Models.of(family)
    work = prepare(models, family, CASES, seed=options.seed)
    return report(options, asyncio.run(play(options, models, work)))


__all__ = ["Options", "failed", "run"]
