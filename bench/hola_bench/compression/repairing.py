"""What training the scales is worth at each budget, against the same codes untrained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hola_bench.compression.scores import OTHER, OWN
from hola_bench.report import rounded

if TYPE_CHECKING:
    from hola_bench.compression.suite import Suite


def repairing(suite: Suite) -> tuple[dict[str, float], dict[str, Any]]:
    """A row per point: KL on each text without repair, and with it for every seed.

    No headline of its own.
    """
    rows = []
    for bits in suite.options.points:
        before = suite.score(f"unrepaired {bits:g}", bits=bits, repair={"steps": 0})
        after = [
            suite.score(f"repaired {bits:g} seed {seed}", bits=bits, seed=seed)
            for seed in suite.seeds
        ]
        row: dict[str, Any] = {"bits": bits, "bytes": before.bytes}
        for text in (OWN, OTHER):
            if text in before.quality:
                row[f"{text}_kld_unrepaired"] = rounded(before.quality[text].kld_mean)
                row[f"{text}_kld"] = [rounded(score.quality[text].kld_mean) for score in after]
        rows.append(row)
    return {}, {"repair": rows}
