"""The original as a graph in fp32: what an artifact's speed, memory and answers stand beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hola.models.checkpoint import convert_checkpoint
from hola_compressor.passes.clock import Clock
from hola_compressor.passes.keep import Kept

if TYPE_CHECKING:
    from hola_compressor.passes.job import Job


def original_graph(job: Job) -> Path:
    """The folder of the source's graph; where nothing was pruned, the one that was quantized."""
    if not job.plan.prune.active:
        return job.graph_folder
    return exported(job.source, job.kept, job.clock)


def exported(source: Path, kept: Kept, clock: Clock) -> Path:
    """The folder of a checkpoint's graph in fp32."""

    def make(folder: Path) -> None:
        clock.begin("export", "exporting the original to compare with")
        convert_checkpoint(source, folder, precision="fp32", progress=clock.say)

    return kept.folder("04-original", make)
