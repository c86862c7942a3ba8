"""`--draft-for`: several ways to the same budget, and the one that speeds the target up most.

A draft is worth what it gets accepted per second, and a smaller, worse one may be worth more.
So candidates with fewer and fewer layers are compressed to the budget, and each drafts for the
target on calibration text. What was measured decides once; a resumed job keeps the decision.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hola.compression.plan import Objective, Plan, Prune
from hola.compression.report import REPORT_FILE, DraftRow, read_report, write_report
from hola.engines.onnx import OnnxEngine
from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import BudgetInfeasible, TokenizerMismatch
from hola_compressor.passes import Built, Progress
from hola_compressor.passes.clock import Clock
from hola_compressor.passes.drafting import as_draft
from hola_compressor.passes.job import Job
from hola_compressor.passes.keep import Kept

# What is taken out before quantization when the plan itself prunes nothing.
CANDIDATES = (
    Prune(),
    Prune(layers=0.45),
    Prune(layers=0.7),
    Prune(layers=0.7, ffn=0.5),
)
_PROMPTS = 16
_SHORTEST_PROMPT = 12


def run_draft(
    plan: Plan,
    source: Path,
    work: Path,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Built:
    """As hola_compressor.passes.run, for Objective.DRAFT.

    Raises TokenizerMismatch when source and target do not share a tokenizer, BudgetInfeasible when
    no candidate fits.
    """
    place = Path(plan.draft_for or "")
    expected, got = tokenizer_fingerprint(place), tokenizer_fingerprint(source)
    if expected != got:
        raise TokenizerMismatch(
            f"{source.name} cannot draft for {place.name}: their tokenizers differ",
            expected=expected,
            got=got,
        )
    shapes = (plan.prune,) if plan.prune.active else CANDIDATES
    kept = Kept(work)
    rows = []
    for number, shape in enumerate(shapes):
        part = _part_of(progress, number, len(shapes))
        one = replace(plan, objective=Objective.QUALITY, draft_for=None, prune=shape)
        folder = work / f"candidate-{number}"
        trial = partial(_trial, Job(one, source, folder, Clock(one, part, cancelled)), place)
        rows.append(kept.document(f"draft-{number}", trial))
    tried = [(row["tokens_per_s"], number) for number, row in enumerate(rows) if row]
    if not tried:
        raise BudgetInfeasible("no candidate fits the budget", budget_bytes=plan.target_bytes)
    _, best = max(tried)
    draft = DraftRow(**rows[best])

    def take(folder: Path) -> None:
        artifact = work / f"candidate-{best}" / "artifact"
        shutil.copytree(artifact, folder, dirs_exist_ok=True)
        report = replace(read_report(artifact / REPORT_FILE), draft=draft, plan=plan.document())
        write_report(report, folder / REPORT_FILE)

    artifact = kept.folder("artifact", take)
    progress(Progress(stage="done", done=1.0, message="done", eta_s=0.0))
    return Built(artifact=artifact, report=read_report(artifact / REPORT_FILE))


def _trial(job: Job, place: Path) -> dict[str, object] | None:
    """The candidate's DraftRow as a document; None when the budget is too small for it."""
    try:
        artifact = job.built().artifact
    except BudgetInfeasible:
        return None
    long_enough = [row for row in job.text.measured if len(row) >= _SHORTEST_PROMPT]
    prompts = [row[: len(row) // 2] for row in long_enough[:_PROMPTS]]
    target = OnnxEngine(place, threads=1)
    try:
        return asdict(as_draft(artifact, target, place.name, prompts))
    finally:
        target.close()


def _part_of(
    progress: Callable[[Progress], None], number: int, count: int
) -> Callable[[Progress], None]:
    """Progress of one candidate as a part of the whole job's."""

    def tell(one: Progress) -> None:
        done = (number + one.done) / count
        stage = "draft" if one.stage == "done" else one.stage
        message = f"candidate {number + 1} of {count}: {one.message}"
        progress(Progress(stage=stage, done=done, message=message))

    return tell
