"""The measures against values worked out by hand, and a set in BEIR's form from end to end."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from hola.errors import ArtifactInvalid
from hola_bench.retrieval import Options, run
from hola_bench.retrieval.beir import read_set
from hola_bench.retrieval.measures import ndcg, recall


def test_ndcg_by_hand():
    gains = {"a": 2.0, "b": 1.0}
    best = 2 + 1 / math.log2(3)
    assert ndcg(["a", "b"], gains) == pytest.approx(1.0)
    assert ndcg(["x", "b", "a"], gains) == pytest.approx((1 / math.log2(3) + 1) / best)
    assert ndcg(["x"] * 10 + ["a"], gains) == 0.0
    assert ndcg([], gains) == 0.0
    assert ndcg(["a"], {}) == 0.0


def test_recall_by_hand():
    assert recall(["a", "x"], {"a": 1.0, "b": 1.0}) == 0.5
    assert recall(["x", "a"], {"a": 1.0}, k=1) == 0.0
    assert recall(["a"], {}) == 0.0


@pytest.fixture
def data(tmp_path) -> Path:
    """Three documents and two queries, one of them without an answer."""
    corpus = [
        {"_id": "1", "title": "Tea", "text": "Green tea is steeped at eighty degrees."},
        {"_id": "2", "title": "", "text": "Espresso needs pressure."},
        {"_id": "3", "text": "Cats sleep."},
    ]
    queries = [{"_id": "q1", "text": "tea temperature"}, {"_id": "q2", "text": "dogs"}]
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in corpus)
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\t1\t1\nq1\t2\t0\nq2\t3\t0\n"
    )
    return tmp_path


def test_a_set_is_read_with_the_queries_that_have_an_answer(data):
    asked = read_set(data)
    assert [document.source for document in asked.documents] == ["1", "2", "3"]
    assert asked.documents[0].chunks[0].title == "Tea"
    assert asked.queries == {"q1": "tea temperature"}
    assert asked.gains == {"q1": {"1": 1.0}}


def test_the_report_has_the_headline(data):
    report = run(Options(data=(str(data),), models_dir=str(data)))
    assert report.headline["ndcg10_bm25"] == 1.0
    assert report.headline["query_ms_p50"] > 0
    assert report.details["documents"] == 3
    json.dumps(report.as_json())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("queries.jsonl", "{"),
        ("queries.jsonl", '["no object"]\n'),
        ("queries.jsonl", '{"_id": "q1"}\n'),
        ("queries.jsonl", '{"_id": "other", "text": "x"}\n'),
        ("corpus.jsonl.gz", "not gzip"),
        ("qrels/test.tsv", "query-id\tcorpus-id\n"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\t1\tmuch\n"),
        ("qrels/test.tsv", ""),
    ],
)
def test_a_malformed_set_is_refused(data, file, content):
    (data / file).write_text(content)
    with pytest.raises(ArtifactInvalid):
        run(Options(data=(str(data),), models_dir=str(data)))


def test_a_folder_without_a_set_is_refused(tmp_path):
    with pytest.raises(ArtifactInvalid, match="no test set in"):
        run(Options(data=(str(tmp_path),), models_dir=str(tmp_path)))


def test_without_an_embedder_there_is_no_hybrid_figure(data):
    report = run(Options(data=(str(data),), models_dir=str(data), embedder="none"))
    assert "ndcg10_hybrid" not in report.headline
    assert [row["ranking"] for row in report.details["rankings"]] == ["bm25"]
