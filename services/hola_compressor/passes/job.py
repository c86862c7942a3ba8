"""One job from checkpoint to artifact: the passes in their order, each finished one kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hola.compression.plan import Plan
from hola.errors import NotImplementedYet
from hola_compressor.passes import Built, Estimate, Progress


def estimate(plan: Plan, source: Path) -> Estimate:
    """See hola_compressor.passes.estimate."""
    raise NotImplementedYet("compression passes are not in this version")


def run(
    plan: Plan,
    source: Path,
    work: Path,
    *,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Built:
    """See hola_compressor.passes.run."""
    raise NotImplementedYet("compression passes are not in this version")
