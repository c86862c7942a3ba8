"""`hola bench retrieval` with an embedder: every ranking, and the hybrid headline."""

from __future__ import annotations

import json

import pytest

from hola.models.store import ModelStore
from hola.retrieval.add_embedder import add_embedder
from hola_bench.retrieval import Options, run
from tests.support.encoders import write_encoder

ROWS = {
    "corpus.jsonl": [{"_id": str(n), "text": f"cat {n} dog"} for n in range(5)],
    "queries.jsonl": [{"_id": "q", "text": "cat 3"}],
}


@pytest.mark.torch
def test_every_ranking_is_measured_with_an_embedder(tmp_path):
    for name, rows in ROWS.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    store = ModelStore(tmp_path / "models")
    source = write_encoder(tmp_path / "source")
    add_embedder(store, "minilm", str(source), progress=lambda _: None)
    report = run(Options(data=(str(tmp_path),), models_dir=str(tmp_path / "models"), threads=1))
    assert list(report.headline) == ["ndcg10_bm25", "ndcg10_hybrid", "query_ms_p50"]
    assert report.headline["ndcg10_bm25"] == 1.0
    rankings = [row["ranking"] for row in report.details["rankings"]]
    assert rankings == ["bm25", "dense", "hybrid, relative", "hybrid, reciprocal"]
    assert report.details["embedder"].startswith("minilm@")
