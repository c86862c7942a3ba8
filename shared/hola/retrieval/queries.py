"""A question to several collections of a tenant and its answer, and what a tenant has; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hola.errors import InvalidRequest
from hola.retrieval.fusion import RANK_OFFSET
from hola.retrieval.ingest_job import IngestReport
from hola.retrieval.rules import MAX_K
from hola.retrieval.types import (
    DEFAULT_ALPHA,
    DEFAULT_COLLECTION,
    Collection,
    Fusion,
    Passage,
    SearchMode,
)

DEFAULT_K = 5
MAX_COLLECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuestion:
    """What is asked, of which collections; `mode` None is the best that each allows."""

    text: str
    collections: tuple[str, ...] = (DEFAULT_COLLECTION,)
    k: int = DEFAULT_K
    mode: SearchMode | None = None
    alpha: float = DEFAULT_ALPHA
    fusion: Fusion = Fusion.RELATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """How one collection was searched, and why not better ("" where nothing is missing)."""

    name: str
    mode: SearchMode
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """Passages, best first, each with its collection's name; and how each was searched."""

    passages: tuple[tuple[str, Passage], ...]
    searched: tuple[Searched, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryStats:
    """A tenant's collections, the embedder here ("" for none), sources asked for, ingest jobs."""

    collections: tuple[Collection, ...]
    embedder: str = ""
    sources: tuple[str, ...] = ()
    jobs: tuple[IngestReport, ...] = ()


def check_question(question: SearchQuestion) -> None:
    """Raises InvalidRequest for no or too many collections, one named twice, or a bad k."""
    names = question.collections
    if not 1 <= len(names) <= MAX_COLLECTIONS:
        raise InvalidRequest(f"name 1 to {MAX_COLLECTIONS} collections", field="collections")
    if len(set(names)) < len(names):
        raise InvalidRequest("a collection is named twice", field="collections")
    if not 1 <= question.k <= MAX_K:
        raise InvalidRequest(f"k must be 1 to {MAX_K}, got {question.k}", field="k")


def merge(
    lists: Sequence[tuple[str, Sequence[Passage]]], k: int
) -> tuple[tuple[str, Passage], ...]:
    """The best k of several collections' lists, no chunk twice.

    One list keeps its scores. Scores of several cannot be compared (BM25 depends on the whole
    collection), so ranks are: score = 1 / (60 + rank), of equal ranks the collection named first.
    """
    if len(lists) == 1:
        name, passages = lists[0]
        return tuple((name, passage) for passage in passages[:k])
    found: dict[str, tuple[str, Passage]] = {}
    for rank in range(max((len(passages) for _, passages in lists), default=0)):
        for name, passages in lists:
            for passage in passages[rank : rank + 1]:
                scored = replace(passage, score=1 / (RANK_OFFSET + rank))
                found.setdefault(passage.chunk.id, (name, scored))
    return tuple(found.values())[:k]
