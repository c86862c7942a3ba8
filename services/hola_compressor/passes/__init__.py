"""Lo-Bi's passes: prune, recover, quantize, repair and export a checkpoint within a budget.

The modules beside this one import torch; this one imports them only when a job runs, so that a
service can be composed, and a plan refused, without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hola.compression.plan import Objective, Plan
from hola.compression.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: the pass under way, the whole job's share done (0 to 1), a line of text.

    `eta_s` is the expected time to the job's end, seconds; None while nothing is known.
    """

    stage: str
    done: float
    message: str = ""
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The result: `artifact` is an onnxruntime-genai directory with report.json in it."""

    artifact: Path
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a job needs at its peak, bytes, and the smallest artifact its options can make."""

    memory_bytes: int
    disk_bytes: int
    smallest_bytes: int


def estimate(plan: Plan, source: Path) -> Estimate:
    """Predict a job from the checkpoint's headers alone; reads no weights.

    Raises ArtifactInvalid (no checkpoint, pickled weights), ArtifactCorrupt (a shard that is not
    whole), UnsupportedArchitecture.
    """
    from hola_compressor.passes import job

    return job.estimate(plan, source)


def run(
    plan: Plan,
    source: Path,
    work: Path,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Built:
    """Compress the checkpoint directory `source` as `plan` says.

    `work` is the job's own directory: every finished pass leaves its result there in one step, so
    that calling again with the same plan and directory goes on where the last call was stopped,
    and ends with the same bytes. `progress` is called from this thread, `cancelled` is asked
    between steps (raises Cancelled). Blocks for seconds to hours: call it from a worker thread or
    process.
    Raises what `estimate` raises, BudgetInfeasible, NoDiskSpace, MemoryBudgetExceeded,
    TokenizerMismatch, CalibrationTooShort, MissingExtra, Cancelled.
    """
    from hola_compressor.passes import draft_job, job

    go = draft_job.run_draft if plan.objective is Objective.DRAFT else job.run
    return go(plan, source, work, progress=progress, cancelled=cancelled)
