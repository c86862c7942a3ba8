"""`--draft-for`: several ways to the same budget, and the one that speeds the target up most.

A draft is worth what it gets accepted per second, and a smaller, worse one may be worth more.
So candidates with fewer and fewer layers are compressed to the budget, and each drafts for the
target on calibration text, with its whole output layer and with trimmed ones. What was measured
decides once; a resumed job keeps the decision.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hola.compression.plan import Objective, Plan, Tasks, with_budget
from hola.compression.report import REPORT_FILE, DraftRow, read_report, write_report
from hola.engines.onnx import OnnxEngine
from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import BudgetInfeasible, TokenizerMismatch
from hola_compressor.passes import Built, Progress
from hola_compressor.passes.clock import Clock
from hola_compressor.passes.drafting import as_draft
from hola_compressor.passes.heads import extra_bytes, frequent_tokens, trim_head
from hola_compressor.passes.job import Job
from hola_compressor.passes.keep import Kept
from hola_compressor.passes.predict import CANDIDATES
from hola_compressor.passes.source import open_checkpoint
from hola_compressor.passes.verdict import artifact_bytes

# Shares of the output layer's rows that each candidate is tried with.
HEADS = (1.0, 0.5, 0.25)
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
    tried: list[tuple[float, Path, DraftRow]] = []
    for number, shape in enumerate(shapes):
        part = _part_of(progress, number, len(shapes))
        one = replace(_with_room(plan, source), prune=shape)
        try:
            job = Job(one, source, work / f"candidate-{number}", Clock(one, part, cancelled))
        except BudgetInfeasible:
            continue  # said before any work; a smaller shape may fit
        for artifact, head_rows in variants(job, kept, f"candidate-{number}"):
            found = kept.document(f"{artifact.name}-tried", partial(_tried, job, artifact, place))
            row = replace(DraftRow(**found), head_rows=head_rows)
            # Over plain decoding, timed in turns: candidates come at other times, and loads.
            tried.append((row.tokens_per_s / row.plain_tokens_per_s, artifact, row))
    if not tried:
        raise BudgetInfeasible("no candidate fits the budget", budget_bytes=plan.target_bytes)
    _, best, draft = max(tried, key=lambda one: one[0])

    def take(folder: Path) -> None:
        shutil.copytree(best, folder, dirs_exist_ok=True)
        size = artifact_bytes(folder)
        report = read_report(best / REPORT_FILE)
        report = replace(
            report,
            draft=draft,
            plan=plan.document(),
            bytes=size,
            overhead_bytes=report.overhead_bytes + size - report.bytes,
            bits_per_weight=8 * size / report.parameters,
        )
        write_report(report, folder / REPORT_FILE)

    artifact = kept.folder("artifact", take)
    progress(Progress(stage="done", done=1.0, message="done", eta_s=0.0))
    return Built(artifact=artifact, report=read_report(artifact / REPORT_FILE))


def _with_room(plan: Plan, source: Path) -> Plan:
    """The plan of one candidate: its budget leaves room for what a trimmed output layer adds."""
    checkpoint = open_checkpoint(source)
    one = replace(plan, objective=Objective.QUALITY, draft_for=None, tasks=Tasks(questions=0))
    budget = None if plan.device else plan.budget_bytes(checkpoint.parameters)
    if budget is None:
        return one
    spare = extra_bytes(int(checkpoint.vocab_size * max(share for share in HEADS if share < 1)))
    return with_budget(one, target_bytes=max(1, budget - spare))


def variants(job: Job, kept: Kept, name: str) -> Iterator[tuple[Path, int]]:
    """The candidate's artifact with each output layer and its rows, 0 for all of them.

    Nothing when the budget is too small.
    """
    try:
        whole = job.built().artifact
    except BudgetInfeasible:
        return
    rows = (*job.text.measured, *job.text.trained)
    last = job.checkpoint.last_token
    for share in HEADS:
        count = int(share * job.checkpoint.vocab_size)
        keep = frequent_tokens(rows, count, () if last is None else (last,))

        def make(folder: Path, share: float = share, keep: Sequence[int] = tuple(keep)) -> None:
            if share == 1:
                shutil.copytree(whole, folder, dirs_exist_ok=True)
            else:
                trim_head(whole, keep, folder)

        yield kept.folder(f"{name}-head-{share:g}", make), len(keep) if share < 1 else 0


def _tried(job: Job, artifact: Path, place: Path) -> dict[str, object]:
    """The artifact's DraftRow as a document."""
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
