"""The two fusion rules against values worked out by hand, and what must hold for any scores."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from hola.retrieval.fusion import fuse, reciprocal_ranks, relative_scores
from hola.retrieval.types import Fusion

BM25 = {"a": 12.0, "b": 9.0, "c": 2.0}
DENSE = {"c": 0.9, "d": 0.7, "a": 0.4}
SCORES = st.dictionaries(
    st.integers(0, 30), st.floats(-50, 50, allow_nan=False), min_size=0, max_size=20
)


def test_relative_scores_run_from_one_to_nought():
    assert relative_scores(BM25) == {"a": 1.0, "b": 0.7, "c": 0.0}


def test_equal_scores_are_all_the_best():
    assert relative_scores({"a": 3.0, "b": 3.0}) == {"a": 1.0, "b": 1.0}


def test_reciprocal_ranks_count_from_sixty():
    assert reciprocal_ranks(BM25) == {"a": 1 / 60, "b": 1 / 61, "c": 1 / 62}


def test_relative_fusion_by_hand():
    fused = fuse(BM25, DENSE, alpha=0.25, rule=Fusion.RELATIVE)
    assert fused == pytest.approx({"a": 0.75, "b": 0.75 * 0.7, "c": 0.25, "d": 0.25 * (0.3 / 0.5)})
    assert list(fused) == ["a", "b", "c", "d"]


def test_reciprocal_fusion_by_hand():
    fused = fuse(BM25, DENSE, alpha=0.5, rule=Fusion.RECIPROCAL)
    assert fused["a"] == pytest.approx(0.5 / 60 + 0.5 / 62)
    assert fused["d"] == pytest.approx(0.5 / 61)
    assert list(fused) == ["a", "c", "b", "d"]


def test_nothing_fused_with_nothing_is_nothing():
    for rule in Fusion:
        assert fuse({}, {}, alpha=0.5, rule=rule) == {}


@given(bm25=SCORES, dense=SCORES, alpha=st.floats(0, 1), rule=st.sampled_from(Fusion))
def test_every_key_is_kept_best_first_within_nought_and_one(bm25, dense, alpha, rule):
    fused = fuse(bm25, dense, alpha=alpha, rule=rule)
    assert fused.keys() == bm25.keys() | dense.keys()
    values = list(fused.values())
    assert values == sorted(values, reverse=True)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values)


@given(bm25=SCORES, rule=st.sampled_from(Fusion), scale=st.floats(0.1, 10))
def test_one_ranking_alone_keeps_its_order_on_any_scale(bm25, rule, scale):
    scaled = {key: value * scale for key, value in bm25.items()}
    fused = fuse(scaled, {}, alpha=0.0, rule=rule)
    ranks = [bm25[key] for key in fused]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(ranks))
