"""`hola bench retrieval`: what is found, when it is needed, what is kept of it, what that buys."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.config import Settings
from hola.errors import HolaError
from hola.models.store import ModelStore
from hola.retrieval.embedder import OnnxEmbedder, open_embedder
from hola.retrieval.store_from import SQLITE, store_from
from hola.retrieval.types import DEFAULT_ALPHA
from hola_bench.report import Number, Report
from hola_bench.retrieval.beir import read_set
from hola_bench.retrieval.context import (
    dense_sample,
    measure_context,
    measure_dense,
    sentence_cosines,
)
from hola_bench.retrieval.context_rows import ContextRow, read_context_rows
from hola_bench.retrieval.demo import measure_family
from hola_bench.retrieval.gate import REPEATS, TREES, GateOptions, measure_gate, steps
from hola_bench.retrieval.progress import bar
from hola_bench.retrieval.search import measure_search
from hola_bench.retrieval.sets import context_files, find_sets

Part = tuple[dict[str, Number], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure: the sets that paths in `data` lead to (hola_bench.retrieval.sets).

    A folder in BEIR's form measures search, gate*.jsonl the gate (`repeats` times with `trees`
    trees), ctx*.jsonl[.gz] context selection; the family `model` is asked what it knows, whatever
    else is there. `embedder` names an installed one; where it is "none" or not there, BM25 alone
    is measured. Search is measured in `store`, a HOLA_STORE with its key file.
    """

    data: tuple[str, ...] = ()
    split: str = "test"
    models_dir: str = ""
    embedder: str = "minilm"
    threads: int = 0
    alpha: float = DEFAULT_ALPHA
    model: str = "demo"
    repeats: int = REPEATS
    trees: int = TREES
    seed: int = 0
    store: str = SQLITE
    store_key_file: str = ""
    insecure: bool = False


def run(options: Options) -> Report:
    """Measure each part whose data is there.

    The headline's search, gate and context figures are those of the first set of their kind that
    `data` leads to. Raises ArtifactInvalid for a set or the embedder, InvalidRequest for a gate set
    too small, and what opening an embedder raises.
    """
    sets = find_sets(options.data)
    headline: dict[str, Number] = {}
    details: dict[str, Any] = {}
    settings = Settings(
        models_dir=options.models_dir,
        embedder=options.embedder,
        threads=options.threads,
        store=options.store,
        store_key_file=options.store_key_file,
        insecure=options.insecure,
    )
    parts: list[Part] = [asyncio.run(_search(options, settings, folder)) for folder in sets.beir]
    parts += [_gate(options, str(place)) for place in sets.gate]
    parts += [_context(settings, place) for place in sets.context]
    parts.append(_demo(options, settings))
    for found, more in parts:
        headline = found | headline
        details |= {key: value for key, value in more.items() if key not in details}
    return Report(
        bench="retrieval",
        seed=options.seed,
        repeats=options.repeats if sets.gate else 1,
        headline={name: headline[name] for name in HEADLINE if name in headline},
        details=details | _others(parts),
    )


HEADLINE = (
    "ndcg10_bm25",
    "ndcg10_hybrid",
    "query_ms_p50",
    "gate_gain",
    "gate_gain_question_only",
    "gate_rate_at_always_accuracy",
    "demo_gate_auroc",
    "demo_accuracy_gap",
    "demo_token_share",
    "demo_latency_share",
    "support_recall",
    "tokens_removed",
)


def _others(parts: list[Part]) -> dict[str, Any]:
    """Figures of sets behind the first of their kind, which the headline leaves out."""
    seen: set[str] = set()
    others = []
    for found, more in parts:
        if seen & found.keys():
            others.append({"set": more.get("set") or more.get("gate_set", ""), **found})
        seen |= found.keys()
    return {"other_sets": others} if others else {}


async def _search(options: Options, settings: Settings, folder: Path) -> Part:
    asked = read_set(folder, options.split)
    embedder = open_embedder(settings)
    with tempfile.TemporaryDirectory(prefix="hola-bench-") as data_dir:
        store = store_from(settings.model_copy(update={"data_dir": data_dir}))
        try:
            return await measure_search(asked, store, embedder, options.alpha)
        finally:
            await store.close()
            if embedder is not None:
                await embedder.close()


def _gate(options: Options, place: str) -> Part:
    gate = GateOptions(data=place, repeats=options.repeats, trees=options.trees, seed=options.seed)
    with bar("gate set", steps(gate)) as progress:
        result = measure_gate(gate, progress=progress)
    return dict(result.headline), dict(result.details)


def _context(settings: Settings, place: Path) -> Part:
    sets = {path.name: read_context_rows(path) for path in context_files(place)}
    with bar("questions with passages", sum(map(len, sets.values()))) as progress:
        headline, details = measure_context(sets, progress=progress)
    embedder = open_embedder(settings)
    if embedder is None:
        details["context_dense"] = "no embedder: not measured"
    else:
        details["context_dense"] = asyncio.run(_dense(embedder, dense_sample(sets)))
    return headline, details


async def _dense(embedder: OnnxEmbedder, rows: list[ContextRow]) -> list[dict[str, Any]]:
    try:
        with bar("questions whose sentences are encoded", len(rows)) as progress:
            cosines = []
            for row in rows:
                cosines.append(await sentence_cosines(embedder, row))
                progress(1)
    finally:
        await embedder.close()
    return measure_dense(rows, cosines)


def _demo(options: Options, settings: Settings) -> Part:
    """What the family knows. Without it, or where it has no knowledge base, `demo_note` says so."""
    try:
        family = ModelStore.at(options.models_dir).get(options.model)
        return measure_family(family, settings)
    except HolaError as error:
        return {}, {"demo_note": error.message}
