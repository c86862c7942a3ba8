"""Questions to a collection's tables: what it holds, BM25, passages, and pages for a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hola.retrieval.sqlite_write import STORED
from hola.retrieval.terms import match_expression, terms
from hola.retrieval.types import Chunk, ChunkedDocument, Collection, Page, Passage, Vector

# Title, heading, text. Titles at 2 are worth half a point of nDCG@10 on SciFact against 1.
FIELD_WEIGHTS = (2.0, 1.5, 1.0)
_BATCH = 500


def describe(connection: sqlite3.Connection, tenant: str, size_bytes: int) -> Collection:
    """The collection and its counts."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    (documents,) = connection.execute("SELECT count(*) FROM documents").fetchone()
    (chunks,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
    return Collection(
        tenant=tenant,
        name=str(meta["name"]),
        embedder=str(meta["embedder"]),
        dimensions=int(meta["dimensions"]),
        documents=documents,
        chunks=chunks,
        bytes=size_bytes,
    )


def generation(connection: sqlite3.Connection) -> int:
    """A number that grows with every change."""
    number: int = connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[
        0
    ]
    return number


def bm25(connection: sqlite3.Connection, text: str, limit: int) -> dict[int, float]:
    """Row ids of the best chunks for a text and their BM25 scores, best first."""
    words = terms(text)
    if not words:
        return {}
    rows = connection.execute(
        "SELECT rowid, -bm25(words, ?, ?, ?) AS score FROM words WHERE words MATCH ?"
        " ORDER BY score DESC, rowid LIMIT ?",
        (*FIELD_WEIGHTS, match_expression(words), limit),
    )
    return dict(rows.fetchall())


def digests(connection: sqlite3.Connection, sources: Sequence[str]) -> dict[str, str]:
    """Digest of each of these sources that is there."""
    sql = "SELECT source, digest FROM documents WHERE source IN ({})"
    return dict(_in_batches(connection, sql, sources))


def sources(connection: sqlite3.Connection, prefix: str, after: str, limit: int) -> tuple[str, ...]:
    """Up to `limit` sources that begin with `prefix` and come after `after`, in order."""
    rows = connection.execute(
        "SELECT source FROM documents WHERE source > ?1 AND source >= ?2"
        " AND substr(source, 1, length(?2)) = ?2 ORDER BY source LIMIT ?3",
        (after, prefix, limit),
    )
    return tuple(row[0] for row in rows)


def known(connection: sqlite3.Connection, chunk_ids: Sequence[str]) -> set[str]:
    """Those of these chunk ids that are there."""
    sql = "SELECT digest FROM chunks WHERE digest IN ({})"
    return {row[0] for row in _in_batches(connection, sql, chunk_ids)}


def vector_rows(connection: sqlite3.Connection) -> list[int]:
    """Row ids of all chunks with a vector, ascending."""
    return [row[0] for row in connection.execute("SELECT chunk FROM vectors ORDER BY chunk")]


def read_vectors(
    connection: sqlite3.Connection, rows: Sequence[int]
) -> Iterator[tuple[int, Vector]]:
    """The vectors of these rows, in no order."""
    sql = "SELECT chunk, data FROM vectors WHERE chunk IN ({})"
    for row, data in _in_batches(connection, sql, rows):
        yield row, np.frombuffer(data, dtype=STORED).astype(np.float32)


def passages(
    connection: sqlite3.Connection,
    scores: Mapping[int, float],
    bm25_scores: Mapping[int, float],
    dense_scores: Mapping[int, float],
) -> tuple[Passage, ...]:
    """The chunks of `scores` in its order, with the places they stand in."""
    found: dict[int, list[tuple[str, int, Chunk]]] = {}
    sql = (
        "SELECT chunks.id, source, ordinal, page, title, heading, text FROM chunks"
        " JOIN places ON places.chunk = chunks.id JOIN documents ON documents.id = document"
        " WHERE chunks.id IN ({}) ORDER BY source, ordinal"
    )
    for row, source, ordinal, page, title, heading, text in _in_batches(
        connection, sql, list(scores)
    ):
        chunk = Chunk(text=text, title=title, heading=heading, page=page)
        found.setdefault(row, []).append((source, ordinal, chunk))
    return tuple(
        _passage(found[row], score, bm25_scores.get(row), dense_scores.get(row))
        for row, score in scores.items()
        if row in found
    )


def _passage(
    places: list[tuple[str, int, Chunk]], score: float, bm25: float | None, dense: float | None
) -> Passage:
    source, ordinal, chunk = places[0]
    others = dict.fromkeys(place[0] for place in places if place[0] != source)
    return Passage(
        chunk=chunk,
        source=source,
        ordinal=ordinal,
        score=score,
        bm25=bm25,
        dense=dense,
        also_in=tuple(others),
    )


def page(connection: sqlite3.Connection, after: str, limit: int) -> Page:
    """Up to `limit` documents whose source comes after `after`, with their vectors."""
    heads = connection.execute(
        "SELECT id, source, digest FROM documents WHERE source > ? ORDER BY source LIMIT ?",
        (after, limit),
    ).fetchall()
    documents, rows = [], {}
    for document_id, source, digest in heads:
        chunks = []
        for row, title, heading, text, number in connection.execute(
            "SELECT chunks.id, title, heading, text, page FROM places"
            " JOIN chunks ON chunks.id = chunk WHERE document = ? ORDER BY ordinal",
            (document_id,),
        ):
            chunk = Chunk(text=text, title=title, heading=heading, page=number)
            chunks.append(chunk)
            rows[row] = chunk.id
        documents.append(ChunkedDocument(source=source, digest=digest, chunks=tuple(chunks)))
    vectors = {rows[row]: vector for row, vector in read_vectors(connection, list(rows))}
    return Page(documents=tuple(documents), vectors=vectors)


def _in_batches(
    connection: sqlite3.Connection, sql: str, values: Sequence[str] | Sequence[int]
) -> Iterator[tuple[Any, ...]]:
    """Rows of a query with `IN ({})`, asked with so many values at a time as SQLite allows.

    An ORDER BY holds within one batch.
    """
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        marks = ", ".join("?" * len(batch))
        yield from connection.execute(sql.format(marks), batch)
