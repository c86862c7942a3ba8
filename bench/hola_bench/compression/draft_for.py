"""A draft that Lo-Bi makes of the target, against the family's trained draft of like bytes."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hola.compression.plan import Recover
from hola.engines.onnx import OnnxEngine
from hola.errors import BudgetInfeasible
from hola_bench.compression.scores import OWN
from hola_bench.report import rounded
from hola_compressor.passes.draft_job import HEADS, fitted, variants
from hola_compressor.passes.drafting import as_draft
from hola_compressor.passes.heads import extra_bytes
from hola_compressor.passes.predict import CANDIDATES
from hola_compressor.passes.text import Row
from hola_compressor.passes.verdict import artifact_bytes

if TYPE_CHECKING:
    from hola_bench.compression.suite import Suite

# What is taken out of the target before it is quantized to the trained draft's bytes, by its name.
SHAPES: dict[str, dict[str, float]] = {
    ", ".join(f"{share:.0%} of {part}" for part, share in shape.items()) or "nothing": shape
    for shape in (
        {part: share for part, share in asdict(one).items() if part != "saliency" and share}
        for one in CANDIDATES
    )
}
_PROMPTS = 24
_RECOVER = {"rank": 0, "steps": Recover().steps}  # as --draft-for does by default


def draft_for(suite: Suite) -> tuple[dict[str, float], dict[str, Any]]:
    """Headline: tokens/s with the best candidate over tokens/s with the trained draft.

    Both are taken over plain decoding, which takes turns with each, so that what else the machine
    does at the time of one or the other does not count. Candidates are compared with the first
    seed; the best one is made again with every other seed, and the headline is the mean. The
    trained draft is timed anew beside each.
    """
    trained = suite.family.ladder[0]
    size = artifact_bytes(trained.path)
    texts = suite.scorer.texts[OWN]
    prompts = [row[: len(row) // 2] for row in texts if len(row) > 24]
    prompts = prompts[: 2 if suite.options.quick else _PROMPTS]
    target = OnnxEngine(suite.family.target.path, threads=1)
    try:
        trial = Trial(suite, size, target, prompts)
        names = list(SHAPES)[: 1 if suite.options.quick else None]
        first, *others = suite.seeds
        trained_row = trial.trained()
        tried = [row for name in names for row in trial.candidate(name, first)]
        if not tried:
            raise BudgetInfeasible(f"no candidate fits {size:,} bytes", budget_bytes=size)
        best = max(tried, key=lambda row: row["over_plain"])
        rows = [trained_row, *tried]
        ratios = [best["over_plain"] / trained_row["over_plain"]]
        for seed in others:
            trained_row, again = trial.trained(), trial.candidate(best["candidate"], seed)
            rows += [trained_row, *again]
            same = min(again, key=lambda row: abs(row["head"] - best["head"]))  # of its own text
            ratios.append(same["over_plain"] / trained_row["over_plain"])
    finally:
        target.close()
    return (
        {"draft_for_speedup": rounded(statistics.mean(ratios))},
        {"draft_for": rows, "draft_for_best": best["candidate"]},
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What every draft is measured with: the budget, the target and the prompts."""

    suite: Suite
    size: int
    target: OnnxEngine
    prompts: list[Row]

    def trained(self) -> dict[str, Any]:
        """The family's own smallest draft."""
        return self._row("trained", 0, self.suite.family.ladder[0].path)

    def candidate(self, name: str, seed: int) -> list[dict[str, Any]]:
        """Rows with the whole output layer and with trimmed ones; none when it does not fit."""
        vocabulary = self.target.info.vocab_size
        spare = extra_bytes(int(vocabulary * max(share for share in HEADS if share < 1)))
        job = fitted(
            partial(
                self.suite.points.job,
                f"draft {name} {seed}",
                target_bytes=self.size - spare,
                prune=SHAPES[name],
                recover=_RECOVER if not self.suite.options.quick else {"rank": 0},
                seed=seed,
            )
        )
        if job is None:
            return []
        return [
            self._row(name, rows or vocabulary, folder)
            for folder, rows in variants(job, job.kept, "trial")
        ]

    def _row(self, name: str, head: int, artifact: Path) -> dict[str, Any]:
        row = as_draft(artifact, self.target, "target", self.prompts)
        return {
            "candidate": name,
            "head": head,
            "bytes": artifact_bytes(artifact),
            "acceptance": rounded(row.acceptance),
            "k": row.draft_tokens,
            "tokens_per_s": rounded(row.tokens_per_s),
            "over_plain": rounded(row.tokens_per_s / row.plain_tokens_per_s),
        }
