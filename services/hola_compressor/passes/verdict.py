"""The artifact judged: run by onnxruntime as it will be, against the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hola.compression.plan import UNQUANTIZED
from hola.compression.report import (
    Exactness,
    PassRow,
    Point,
    Report,
    TensorRow,
)
from hola.engines.fingerprint import probe
from hola.engines.onnx import OnnxEngine
from hola.errors import BudgetInfeasible, EngineFailure
from hola.models.checkpoint import weight_files
from hola_compressor.passes.codes import Scheme
from hola_compressor.passes.graph import DATA_FILE, GRAPH_FILE
from hola_compressor.passes.measure import Judge, Logits, compare_runs
from hola_compressor.passes.tasks import task_rows
from hola_compressor.passes.text import Row
from hola_compressor.passes.units import Unit

if TYPE_CHECKING:
    from hola_compressor.passes.job import Job

# Largest difference allowed between the artifact's logits and the simulation's, as a share of the
# largest logit: 8-bit activations (accuracy level 4) round every input, fp32 ones nothing.
TOLERANCE = {0: 1e-3, 4: 0.15}
_JUDGED_TOKENS = 4096
_CHECKED_ROWS = 8
_PARETO_BITS, _PARETO_TOKENS = (2.6, 3.2, 4.2, 5.1, 6.5, 8.1), 2048


def artifact_bytes(folder: Path) -> int:
    """Graph and weights."""
    return sum((folder / name).stat().st_size for name in (GRAPH_FILE, DATA_FILE))


def make_report(job: Job, folder: Path) -> Report:
    """Everything but speeds, so that equal jobs have equal reports.

    Raises EngineFailure when the artifact does not compute what the codes stand for.
    """
    codes, repair = job.codes
    engine = OnnxEngine(folder)
    try:
        exactness = _exactness(job, engine, job.coded_model(codes))
        run = runner(engine)
        rows = first_tokens(job.text.measured, _JUDGED_TOKENS)
        tally = compare_runs(rows, reference(job.original), run)
        tasks = task_rows(job, engine)
    finally:
        engine.close()
    rounded = job.judge.compare(job.coded_model(job.rounded)).kld_mean
    size = artifact_bytes(folder)
    tensors = tuple(_tensor(job, unit) for unit in job.units)
    parameters = job.checkpoint.parameters
    return Report(
        source=job.source.name,
        parameters=parameters,
        bytes=size,
        overhead_bytes=size - sum(row.bytes for row in tensors),
        bits_per_weight=8 * size / parameters,
        original_bytes=sum(f.stat().st_size for f in weight_files(job.source)),
        budget_bytes=job.plan.budget_bytes(parameters),
        plan=job.plan.document(),
        calibration_sha256=job.text.sha256,
        tokenizer_fingerprint=job.checkpoint.tokenizer.fingerprint,
        quality=(tally.quality("calibration"),),
        tensors=tensors,
        passes=(
            *job.smaller.passes,
            PassRow(name="quantize", kld_mean=rounded),
            repair,
        ),
        tasks=tasks,
        exactness=exactness,
        pareto=pareto(job),
    )


def _disk_bytes(unit: Unit, scheme: Scheme) -> int:
    return scheme.disk_bytes(unit.rows, unit.columns) + scheme.graph_bytes


def pareto(job: Job) -> tuple[Point, ...]:
    """What other budgets would give, rounded only: no compensation, no training."""
    judge = Judge(job.original, first_tokens(job.text.measured, _PARETO_TOKENS))
    found = []
    for bits in _PARETO_BITS:
        room = int(bits * job.checkpoint.parameters / 8) - job.fixed
        try:
            schemes = job.solve({}, room)
        except BudgetInfeasible:
            continue
        quality = judge.compare(job.rounded_model(schemes)).quality("calibration")
        size = job.fixed + sum(_disk_bytes(unit, schemes[unit.name]) for unit in job.units)
        found.append(
            Point(
                name="rounded only",
                bytes=size,
                bits_per_weight=8 * size / job.checkpoint.parameters,
                kld_mean=quality.kld_mean,
                perplexity=quality.perplexity,
            )
        )
    return tuple(found)


def runner(engine: OnnxEngine) -> Callable[[Row], Logits]:
    """Logits of a row by an engine."""

    def run(row: Row) -> Logits:
        session = engine.open(len(row))
        try:
            return session.forward(row).copy()
        finally:
            session.close()

    return run


def reference(model: nn.Module) -> Callable[[Row], Logits]:
    """Logits of a row by a model in torch."""

    @torch.inference_mode()
    def run(row: Row) -> Logits:
        found: Any = model(input_ids=torch.tensor([row]), use_cache=False)
        logits: Logits = found.logits[0].float().numpy()
        return logits

    return run


def first_tokens(rows: Sequence[Row], tokens: int) -> list[Row]:
    """The first rows that together have that many tokens, or all."""
    found, total = [], 0
    for row in rows:
        if total >= tokens:
            break
        found.append(row)
        total += len(row)
    return found


def _exactness(job: Job, engine: OnnxEngine, simulated: nn.Module) -> Exactness:
    fingerprint = probe(engine)
    run, same = runner(engine), reference(simulated)
    worst = 0.0
    for row in job.text.measured[:_CHECKED_ROWS]:
        wanted, got = same(row), run(row)
        if not np.isfinite(got).all():
            raise EngineFailure("the artifact's logits are not all finite numbers")
        worst = max(worst, float(np.abs(wanted - got).max() / np.abs(wanted).max()))
    tolerance = TOLERANCE[job.plan.quantize.accuracy_level]
    if worst > tolerance:
        raise EngineFailure(
            f"the artifact's logits differ from the simulation's by {worst:.3g} of the largest,"
            f" {tolerance} is allowed"
        )
    return Exactness(
        exact=fingerprint.exact,
        fingerprint=fingerprint.digest,
        reason=fingerprint.reason,
        max_logit_error=worst,
        tolerance=tolerance,
    )


def _tensor(job: Job, unit: Unit) -> TensorRow:
    scheme = job.allocation[unit.name]
    damage = dict(job.table[unit.name])[scheme]
    return TensorRow(
        name=unit.name,
        layer=unit.layer,
        kind=unit.kind,
        rows=unit.rows,
        columns=unit.columns,
        bits=scheme.bits,
        block=0 if scheme.bits == UNQUANTIZED else scheme.block,
        symmetric=scheme.symmetric,
        bytes=scheme.disk_bytes(unit.rows, unit.columns),
        damage=damage,
    )
