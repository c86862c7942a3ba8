"""A quarter of FFN channels and heads removed: what it costs and what it buys."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hola.engines.onnx import OnnxEngine
from hola_bench.compression.scores import OWN
from hola_bench.report import rounded

if TYPE_CHECKING:
    from hola_bench.compression.suite import Suite

SHARE = 0.25
_EIGHT = {"bits": [8], "blocks": [32], "asymmetric": False, "compensate": False}
_RUNS, _TOKENS = 15, 256


def pruning(suite: Suite) -> tuple[dict[str, float], dict[str, Any]]:
    """Three saliencies without recovery, the best one with; everything at 8 bits.

    Recovery runs once per seed; the headline is their mean, and the median of their speeds: prefill
    of 256 tokens over the unpruned artifact's, runs interleaved.
    """
    fixed = {"quantize": _EIGHT, "repair": {"steps": 0}}
    whole = suite.points.build("unpruned 8 bit", **fixed)
    rows = [_row(suite, "nothing", whole.artifact, whole.report.bytes)]
    cut = {"ffn": SHARE, "kv_heads": SHARE}
    kld = {}
    for saliency in ("magnitude", "wanda", "lora"):
        plan = {**fixed, "prune": {**cut, "saliency": saliency}, "recover": {"steps": 0}}
        built = suite.points.build(f"pruned {saliency}", **plan)
        rows.append(_row(suite, f"{saliency}, no recovery", built.artifact, built.report.bytes))
        kld[saliency] = rows[-1]["kld"]
    best = min(kld, key=lambda name: kld[name])
    plan = {**fixed, "prune": {**cut, "saliency": best}}
    increases, faster = [], []
    for seed in suite.seeds:
        built = suite.points.build(f"pruned {best} recovered {seed}", **plan, seed=seed)
        name = f"{best}, recovered, seed {seed}"
        rows.append(_row(suite, name, built.artifact, built.report.bytes))
        increases.append(rows[-1]["ppl"] / rows[0]["ppl"] - 1)
        faster.append(speed_up(built.artifact, whole.artifact))
    return (
        {
            "prune25_ppl_increase": rounded(statistics.mean(increases)),
            "prune25_prefill_speedup": rounded(statistics.median(faster)),
        },
        {"prune": rows},
    )


def _row(suite: Suite, name: str, artifact: Path, size: int) -> dict[str, Any]:
    engine = OnnxEngine(artifact)
    try:
        score = suite.scorer.of_engine(name, engine, size)
    finally:
        engine.close()
    own = score.quality[OWN]
    return {
        "pruned": name,
        "bytes": size,
        "ppl": rounded(own.perplexity),
        "kld": rounded(own.kld_mean),
        "top1": rounded(own.top1_agreement),
    }


def speed_up(artifact: Path, other: Path) -> float:
    """Prefill speed of one over the other's: median of the ratios of interleaved runs."""
    engines = [OnnxEngine(path, threads=1) for path in (artifact, other)]
    try:
        ratios = []
        for _ in range(_RUNS):
            first, second = (_prefill_s(engine) for engine in engines)
            ratios.append(second / first)
        return statistics.median(ratios)
    finally:
        for engine in engines:
            engine.close()


def _prefill_s(engine: OnnxEngine) -> float:
    tokens = [1 + at % (engine.info.vocab_size - 1) for at in range(_TOKENS)]
    session = engine.open(len(tokens))
    try:
        began = time.perf_counter()
        session.prefill(tokens)
        return time.perf_counter() - began
    finally:
        session.close()
