"""Signals of a cheap first search: how high the best passage stands, and how much it covers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hola.retrieval.gate.question import MAX_CHARS
from hola.retrieval.gate.words import words
from hola.retrieval.terms import terms
from hola.retrieval.types import Passage

LOOKED_AT = 5


def search_signals(question: str, passages: Sequence[Passage]) -> dict[str, float]:
    """Shape of the BM25 scores of the first passages, best first; all 0 where none was found.

    `s_top` is the best score by word of the question (scores grow with its length), `s_gap` how
    far the fifth falls below it (1: there is no fifth), `s_coverage` the share of the question's
    words in the best passage, `s_coverage_all` in the first five together, `s_dense` the best
    passage's cosine (0 where the search was lexical).
    """
    asked = set(terms(question[:MAX_CHARS]))
    looked = passages[:LOOKED_AT]
    scores = sorted((hit.bm25 for hit in looked if hit.bm25 is not None), reverse=True)
    held = [asked & set(words(hit.chunk.embedded_text)) for hit in looked]
    size = max(len(asked), 1)
    top = scores[0] if scores and math.isfinite(scores[0]) else 0.0
    last = scores[LOOKED_AT - 1] if len(scores) >= LOOKED_AT else 0.0
    return {
        "s_hits": float(len(looked)),
        "s_top": top / size,
        "s_gap": (top - last) / top if top > 0 else 0.0,
        "s_coverage": len(held[0]) / size if held else 0.0,
        "s_coverage_all": len(set().union(*held)) / size if held else 0.0,
        "s_dense": max((hit.dense for hit in looked if hit.dense is not None), default=0.0),
    }
