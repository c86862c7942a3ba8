"""A draft that Lo-Bi makes of the target, against the family's trained draft of like bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hola.compression.report import DraftRow
from hola.engines.onnx import OnnxEngine
from hola_bench.report import rounded
from hola_compressor.passes.draft_job import HEADS
from hola_compressor.passes.drafting import as_draft
from hola_compressor.passes.heads import extra_bytes, frequent_tokens, trim_head
from hola_compressor.passes.text import Row
from hola_compressor.passes.verdict import artifact_bytes

if TYPE_CHECKING:
    from hola_bench.compression.suite import Suite

# What is taken out of the target before it is quantized to the trained draft's bytes.
CANDIDATES: dict[str, dict[str, float]] = {
    "whole": {},
    "4 of 7 layers": {"layers": 0.43},
    "2 of 7 layers": {"layers": 0.72},
    "2 of 7 layers, half FFN": {"layers": 0.72, "ffn": 0.5},
}
_PROMPTS = 24


def draft_for(suite: Suite) -> tuple[dict[str, float], dict[str, Any]]:
    """Headline: tokens/s with the best candidate over tokens/s with the trained draft."""
    trained = suite.family.ladder[0]
    size = artifact_bytes(trained.path)
    rows_ = suite.scorer.texts["own"]
    prompts = [row[: len(row) // 2] for row in rows_ if len(row) > 24]
    prompts = prompts[: 2 if suite.options.quick else _PROMPTS]
    target = OnnxEngine(suite.family.target.path, threads=1)
    try:
        rows = [_row(f"trained {trained.name}", size, as_draft(trained.path, target, "t", prompts))]
        candidates = list(CANDIDATES.items())[: 1 if suite.options.quick else None]
        for name, prune in candidates:
            rows += _candidate(suite, name, prune, size, target, prompts)
    finally:
        target.close()
    best = max(rows[1:], key=lambda row: row["tokens_per_s"])
    return (
        {"draft_for_speedup": rounded(best["tokens_per_s"] / rows[0]["tokens_per_s"])},
        {"draft_for": rows, "draft_for_best": best["draft"]},
    )


def _candidate(
    suite: Suite,
    name: str,
    prune: dict[str, float],
    size: int,
    target: OnnxEngine,
    prompts: list[Row],
) -> list[dict[str, Any]]:
    """Rows with the whole output layer and with trimmed ones, none larger than `size`."""
    vocabulary = target.info.vocab_size
    counts = [int(share * vocabulary) for share in HEADS if share < 1]
    spare = extra_bytes(max(counts))
    job = suite.points.job(f"draft {name}", target_bytes=size - spare, prune=prune)
    whole = job.built().artifact
    rows = [_row(f"Lo-Bi {name}", artifact_bytes(whole), as_draft(whole, target, "t", prompts))]
    text = (*job.text.measured, *job.text.trained)
    for count in counts:
        keep = frequent_tokens(text, count, target.info.eos_token_ids)
        folder = job.work / f"head-{count}"
        if not folder.is_dir():
            folder.mkdir()
            trim_head(whole, keep, folder)
        row = as_draft(folder, target, "t", prompts)
        rows.append(_row(f"Lo-Bi {name}, head {len(keep)}", artifact_bytes(folder), row))
    return rows


def _row(name: str, size: int, row: DraftRow) -> dict[str, Any]:
    return {
        "draft": name,
        "bytes": size,
        "acceptance": rounded(row.acceptance),
        "k": row.draft_tokens,
        "tokens_per_s": rounded(row.tokens_per_s),
        "over_plain": rounded(row.tokens_per_s / row.plain_tokens_per_s),
    }
