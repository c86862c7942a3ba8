"""The original as a graph in fp32: what an artifact's speed, memory and answers stand beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hola.models.checkpoint import convert_checkpoint

if TYPE_CHECKING:
    from hola_compressor.passes.job import Job


def original_graph(job: Job) -> Path:
    """The folder of the source's graph; where nothing was pruned, the one that was quantized."""
    if not job.plan.prune.active:
        return job.graph_folder

    def make(folder: Path) -> None:
        job.clock.begin("export", "exporting the original to compare with")
        convert_checkpoint(job.source, folder, precision="fp32", progress=job.clock.say)

    return job.kept.folder("04-original", make)
