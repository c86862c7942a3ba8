"""What each step is worth at the same bytes: from plain rounding to repair and pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hola.engines.onnx import OnnxEngine
from hola_bench.report import rounded

if TYPE_CHECKING:
    from hola_bench.compression.suite import Suite

_OFF: dict[str, Any] = {"repair": {"steps": 0}, "quantize": {"compensate": False}}
_UNIFORM = {"bits": [4], "blocks": [32], "symmetric": False, "compensate": False}


def ablation(suite: Suite) -> tuple[dict[str, float], dict[str, Any]]:
    """A table: each row adds one step to the row before, all within the first row's bytes.

    No headline of its own. Steps that train run once per seed; the row holds the mean.
    """
    first = suite.points.build("round to nearest", **_fixed(_UNIFORM))
    size = first.report.bytes
    pruned = {"ffn": 0.125}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("+ allocation", _OFF),
        ("+ allocation measured again", {**_OFF, "quantize": {"compensate": False, "refine": 1}}),
        ("+ compensation", {"repair": {"steps": 0}}),
        ("+ repair of scales", {"repair": {"codes": False}}),
        ("+ repair of codes", {"repair": {"codes": True}}),
        ("+ pruning 12.5% FFN", {"prune": pruned}),
    ]
    rows = [_row(suite, "round to nearest", [first])]
    for name, changes in steps:
        trains = changes.get("repair", {}).get("steps") != 0
        seeds = suite.seeds if trains else suite.seeds[:1]
        built = [
            suite.points.build(f"{name} {seed}", target_bytes=size, **{**changes, "seed": seed})
            for seed in seeds
        ]
        rows.append(_row(suite, name, built))
    return {}, {"ablation": rows}


def _fixed(quantize: dict[str, Any]) -> dict[str, Any]:
    """One width for everything: no budget is needed."""
    return {"quantize": quantize, "repair": {"steps": 0}}


def _row(suite: Suite, name: str, built: list[Any]) -> dict[str, Any]:
    scores, shares = [], []
    for one in built:
        engine = OnnxEngine(one.artifact)
        try:
            scores.append(suite.scorer.of_engine(name, engine, one.report.bytes))
            shares.append(suite.accuracy(engine))
        finally:
            engine.close()
    speeds = [one.report.speed for one in built]
    own = [score.quality["own"] for score in scores]
    count = len(built)
    return {
        "step": name,
        "bytes": max(score.bytes for score in scores),
        "kld": rounded(sum(score.kld for score in scores) / count),
        "kld_worst_seed": rounded(max(score.kld for score in scores)),
        "ppl": rounded(sum(q.perplexity for q in own) / count),
        "top1": rounded(sum(q.top1_agreement for q in own) / count),
        "accuracy": rounded(sum(shares) / count),
        "decode_over_fp32": rounded(
            sum(s.decode_tokens_per_s / s.original_decode_tokens_per_s for s in speeds) / count
        ),
    }
