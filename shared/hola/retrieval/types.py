"""The words of retrieval as frozen dataclasses: documents, chunks, queries, passages."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

DEFAULT_COLLECTION = "default"
DEFAULT_CANDIDATES = 100
# Share of the dense score in a hybrid one. Chosen on SciFact's training queries with MiniLM in
# int8: nDCG@10 0.738 there, 0.732 at 0.3, 0.724 at 0.6.
DEFAULT_ALPHA = 0.5


class SearchMode(enum.StrEnum):
    """What ranks the passages."""

    BM25 = "bm25"
    DENSE = "dense"
    HYBRID = "hybrid"


class Fusion(enum.StrEnum):
    """How two rankings become one (formulas in hola.retrieval.fusion)."""

    RELATIVE = "relative"
    RECIPROCAL = "reciprocal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A paragraph, list, table or code block of a document, under its headings.

    `page` counts from 1; 0 where the form has no pages.
    """

    text: str
    heading: tuple[str, ...] = ()
    page: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a reader made of one file or record; `source` names it within its collection."""

    source: str
    title: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of text that is found and quoted as one."""

    text: str
    title: str = ""
    heading: str = ""
    page: int = 0

    @property
    def id(self) -> str:
        """32 hex digits that are equal for equal text under equal titles, wherever it stands."""
        digest = hashlib.sha256()
        for part in (self.title, self.heading, self.text):
            digest.update(part.encode("utf-8", "surrogatepass"))
            digest.update(b"\x00")
        return digest.hexdigest()[:32]

    @property
    def embedded_text(self) -> str:
        """What an encoder is given."""
        return "\n".join(part for part in (self.title, self.heading, self.text) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedDocument:
    """A document as it is stored; `digest` is equal for equal content and equal chunking."""

    source: str
    digest: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some documents of a collection, in order of source, with their chunks' vectors by id."""

    documents: tuple[ChunkedDocument, ...]
    vectors: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection holds. `embedder` "" and dimensions 0: no vectors, BM25 alone.

    `chunks` counts equal ones once; `bytes` is what it takes on disk, 0 where nobody knows.
    """

    tenant: str
    name: str
    embedder: str = ""
    dimensions: int = 0
    documents: int = 0
    chunks: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a write did: documents written or removed, chunks that came and went."""

    documents: int = 0
    chunks_added: int = 0
    chunks_removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question to one collection: at most `k` passages, best first.

    `vector` is the encoder's for `text`, of length 1; DENSE and HYBRID need it. HYBRID takes
    `candidates` from each ranking and weighs the dense one by `alpha`, BM25 by 1 - alpha.
    """

    text: str
    k: int = 10
    mode: SearchMode = SearchMode.BM25
    vector: Vector | None = None
    alpha: float = DEFAULT_ALPHA
    fusion: Fusion = Fusion.RELATIVE
    candidates: int = DEFAULT_CANDIDATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk that was found, and why.

    `score` orders one result and means nothing beyond it. `bm25` and `dense` (cosine) are the two
    rankings' own scores, None where that ranking did not find the chunk. `source` is the first in
    order of those that contain it, `also_in` the others.
    """

    chunk: Chunk
    source: str
    ordinal: int
    score: float
    bm25: float | None = None
    dense: float | None = None
    also_in: tuple[str, ...] = ()
