"""`hola bench retrieval` with an embedder, and on a Weaviate server."""

from __future__ import annotations

import json

import pytest

from hola.models.store import ModelStore
from hola.retrieval.add_embedder import add_embedder
from hola_bench.retrieval import Options, run
from tests.support.encoders import write_encoder
from tests.support.weaviate import weaviate_beside

ROWS = {
    "corpus.jsonl": [{"_id": str(n), "text": f"cat {n} dog"} for n in range(5)],
    "queries.jsonl": [{"_id": "q", "text": "cat 3"}],
}


@pytest.fixture
def data(tmp_path):
    """Five documents and a question that the fourth answers."""
    for name, rows in ROWS.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    return tmp_path


@pytest.mark.torch
def test_every_ranking_is_measured_with_an_embedder(data):
    source = write_encoder(data / "source")
    models = data / "models"
    add_embedder(ModelStore(models), "minilm", str(source), progress=lambda _: None)
    report = run(Options(data=(str(data),), models_dir=str(models), threads=1))
    assert list(report.headline) == ["ndcg10_bm25", "ndcg10_hybrid", "query_ms_p50"]
    assert report.headline["ndcg10_bm25"] == 1.0
    rankings = [row["ranking"] for row in report.details["rankings"]]
    assert rankings == ["bm25", "dense", "hybrid, relative", "hybrid, reciprocal"]
    assert report.details["embedder"].startswith("minilm@")


def test_a_server_is_measured_and_left_as_it_was(data):
    models = str(data / "models")
    with weaviate_beside() as server:
        report = run(
            Options(data=(str(data),), models_dir=models, embedder="none", store=server.url)
        )
        assert server.memory.tenants("HolaChunk") == []
    assert (report.headline["ndcg10_bm25"], report.details["documents"]) == (1.0, 5)
