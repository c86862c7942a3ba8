"""`--draft-for`: several ways to the same budget, and the one that speeds the target up most.

A draft is worth what it gets accepted per second, and a smaller, worse one may be worth more.
So candidates with fewer and fewer layers are compressed to the budget, and each drafts for the
target on calibration text, with its whole output layer and with trimmed ones. What was measured
decides once; a resumed job keeps the decision.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hola.compression.plan import Objective, Plan, Tasks, with_budget
from hola.compression.report import REPORT_FILE, DraftRow, read_report, write_report
from hola.engines.onnx import OnnxEngine
from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import BudgetInfeasible, CalibrationTooShort, TokenizerMismatch
from hola_compressor.passes import Built, Progress
from hola_compressor.passes.clock import Clock, Whole
from hola_compressor.passes.drafting import as_draft
from hola_compressor.passes.heads import extra_bytes, frequent_tokens, trim_head
from hola_compressor.passes.job import Job
from hola_compressor.passes.keep import Kept
from hola_compressor.passes.original import exported
from hola_compressor.passes.predict import shapes_of
from hola_compressor.passes.source import open_checkpoint
from hola_compressor.passes.speed import with_speed
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
    shapes, kept = shapes_of(plan), Kept(work)
    whole = Whole(progress, len(shapes) + 1)
    one = _with_room(plan, source)
    tried: list[tuple[float, Path, DraftRow]] = []
    for number, shape in enumerate(shapes):
        one = replace(one, prune=shape)
        clock = Clock(one, whole.part(number), cancelled)
        folder = work / f"candidate-{number}"
        tried += _candidate(partial(Job, one, source, folder, clock), kept, folder.name, place)
        gc.collect()  # its models, before those of the next
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
    clock = Clock(one, whole.part(len(shapes)), cancelled)
    report = with_speed(artifact, exported(source, kept, clock))
    progress(Progress(stage="done", done=1.0, message="done", eta_s=0.0))
    return Built(artifact=artifact, report=report)


def _candidate(
    make: Callable[[], Job], kept: Kept, name: str, place: Path
) -> list[tuple[float, Path, DraftRow]]:
    """Speedup, artifact and row of a shape with each output layer; none where it does not fit."""
    job = fitted(make)
    if job is None:
        return []
    tried = []
    for artifact, head_rows in variants(job, kept, name):
        found = kept.document(f"{artifact.name}-tried", partial(_tried, job, artifact, place))
        row = replace(DraftRow(**found), head_rows=head_rows)
        # Over plain decoding, timed in turns: candidates come at other times, and loads.
        tried.append((row.tokens_per_s / row.plain_tokens_per_s, artifact, row))
    return tried


def _with_room(plan: Plan, source: Path) -> Plan:
    """The plan of one candidate: its budget leaves room for what a trimmed output layer adds."""
    checkpoint = open_checkpoint(source)
    one = replace(
        plan,
        objective=Objective.QUALITY,
        draft_for=None,
        tasks=Tasks(questions=0),
        recover=replace(plan.recover, rank=plan.recover_rank),
    )
    budget = None if plan.device else plan.budget_bytes(checkpoint.parameters)
    if budget is None:
        return one
    spare = extra_bytes(int(checkpoint.vocab_size * max(share for share in HEADS if share < 1)))
    return with_budget(one, target_bytes=max(1, budget - spare))


def fitted(make: Callable[[], Job]) -> Job | None:
    """The job with its artifact made; None where its budget is too small."""
    try:
        job = make()
        _ = job.artifact
    except BudgetInfeasible:
        return None
    return job


def variants(job: Job, kept: Kept, name: str) -> Iterator[tuple[Path, int]]:
    """The job's artifact with each output layer and its rows, 0 for all of them.

    A share is left out where the text has no more tokens than a smaller one keeps.
    """
    whole, before = job.artifact, -1
    rows = (*job.text.measured, *job.text.trained)
    last = job.checkpoint.last_token
    for share in HEADS:
        count = int(share * job.checkpoint.vocab_size)
        keep = frequent_tokens(rows, count, () if last is None else (last,))
        if share < 1:
            if len(keep) == before:
                continue
            before = len(keep)

        def make(folder: Path, share: float = share, keep: Sequence[int] = tuple(keep)) -> None:
            if share == 1:
                shutil.copytree(whole, folder, dirs_exist_ok=True)
            else:
                trim_head(whole, keep, folder)

        yield kept.folder(f"{name}-head-{share:g}", make), len(keep) if share < 1 else 0


def _tried(job: Job, artifact: Path, place: Path) -> dict[str, object]:
    """The artifact's DraftRow as a document. Raises CalibrationTooShort."""
    long_enough = [row for row in job.text.measured if len(row) >= _SHORTEST_PROMPT]
    if not long_enough:
        raise CalibrationTooShort(
            f"no calibration row has the {_SHORTEST_PROMPT} tokens that a draft is tried on",
            needed_tokens=_SHORTEST_PROMPT,
            got_tokens=max(map(len, job.text.measured)),
        )
    prompts = [row[: len(row) // 2] for row in long_enough[:_PROMPTS]]
    target = OnnxEngine(place, threads=1)
    try:
        return asdict(as_draft(artifact, target, place.name, prompts))
    finally:
        target.close()
