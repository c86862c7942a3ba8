"""Before quantization: the checkpoint pruned and recovered, where the plan says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hola.compression.report import PassRow
from hola_compressor.passes.prune import pruned
from hola_compressor.passes.recover import recovered
from hola_compressor.passes.source import load_model, save_model

if TYPE_CHECKING:
    from hola_compressor.passes.job import Job


@dataclass(frozen=True, slots=True)
class Smaller:
    """A checkpoint, and what the passes that made it did; none where nothing is pruned."""

    folder: Path
    passes: tuple[PassRow, ...] = ()


def smaller(job: Job) -> Smaller:
    """Prune, then recover where that lowers KL on text it was not trained on."""
    options = job.plan.prune
    steps = job.plan.recover.steps if job.text.trained else 0
    if not options.active:
        return Smaller(job.source)

    def prune(folder: Path) -> None:
        job.clock.begin("prune", "ranking channels and heads")
        small = pruned(job.original, options, job.text.trained, seed=job.plan.seed)
        save_model(small, job.source, folder)

    cut = job.kept.folder("02-prune", prune)

    def recover(folder: Path) -> None:
        job.clock.begin("recover", "distilling from the original")
        small = recovered(
            load_model(cut), job.original, job.text.trained,
            options=job.plan.recover, rank=job.plan.recover_rank,
            seed=job.plan.seed, step_done=job.clock.step,
        )  # fmt: skip
        save_model(small, job.source, folder)

    folders = [cut, job.kept.folder("03-recover", recover)] if steps else [cut]

    def judged() -> list[float]:
        return [job.judge.compare(load_model(folder)).kld_mean for folder in folders]

    kld: list[float] = job.kept.document("03-judged", judged)
    rows = [PassRow(name="prune", kld_mean=kld[0])]
    if not steps:
        return Smaller(cut, tuple(rows))
    better = kld[1] < kld[0]
    note = "" if better else f"dropped: KL {kld[1]:.4g} after, {kld[0]:.4g} before"
    rows.append(PassRow(name="recover", kld_mean=min(kld), kept=better, note=note))
    return Smaller(folders[better], tuple(rows))
