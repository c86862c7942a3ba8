"""Changes to a collection's tables, each inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hola.errors import InvalidRequest
from hola.retrieval.types import Changes, Chunk, ChunkedDocument, Vector

# Half precision: half the size, and cosines differ by less than 0.001.
STORED = np.dtype("<f2")


def put(
    connection: sqlite3.Connection,
    documents: Sequence[ChunkedDocument],
    vectors: Mapping[str, Vector],
    *,
    needs_vectors: bool,
) -> Changes:
    """Write documents in place of what their sources had.

    Raises InvalidRequest when a new chunk lacks the vector it needs.
    """
    added = 0
    replaced: set[int] = set()
    for document in documents:
        replaced |= _clear(connection, document.source)
        (document_id,) = connection.execute(
            "INSERT INTO documents (source, digest) VALUES (?, ?)"
            " ON CONFLICT (source) DO UPDATE SET digest = excluded.digest RETURNING id",
            (document.source, document.digest),
        ).fetchone()
        for ordinal, chunk in enumerate(document.chunks):
            chunk_id, is_new = _chunk_row(connection, chunk)
            if is_new:
                added += 1
                if needs_vectors:
                    _put_vector(connection, chunk_id, chunk, vectors)
            connection.execute(
                "INSERT INTO places VALUES (?, ?, ?, ?)",
                (document_id, ordinal, chunk_id, chunk.page),
            )
    removed = _sweep(connection, replaced)
    _count_up(connection)
    return Changes(documents=len(documents), chunks_added=added, chunks_removed=removed)


def delete(connection: sqlite3.Connection, source: str, *, parts: bool) -> Changes:
    """Remove a source and, with `parts`, all `source#...`."""
    # "$" follows "#": every name that begins with `source#` lies between the two.
    rows = connection.execute(
        "SELECT source FROM documents WHERE source = ?1 OR (?4 AND source >= ?2 AND source < ?3)",
        (source, f"{source}#", f"{source}$", parts),
    ).fetchall()
    freed: set[int] = set()
    for (name,) in rows:
        freed |= _clear(connection, name)
        connection.execute("DELETE FROM documents WHERE source = ?", (name,))
    removed = _sweep(connection, freed)
    if rows:
        _count_up(connection)
    return Changes(documents=len(rows), chunks_removed=removed)


def _clear(connection: sqlite3.Connection, source: str) -> set[int]:
    """Take a source's chunks away from it; those it had."""
    rows = connection.execute(
        "DELETE FROM places WHERE document = (SELECT id FROM documents WHERE source = ?)"
        " RETURNING chunk",
        (source,),
    ).fetchall()
    return {row[0] for row in rows}


def _chunk_row(connection: sqlite3.Connection, chunk: Chunk) -> tuple[int, bool]:
    digest = chunk.id
    row = connection.execute("SELECT id FROM chunks WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        return int(row[0]), False
    cursor = connection.execute(
        "INSERT INTO chunks (digest, title, heading, text) VALUES (?, ?, ?, ?)",
        (digest, chunk.title, chunk.heading, chunk.text),
    )
    return int(cursor.lastrowid or 0), True


def _put_vector(
    connection: sqlite3.Connection, chunk_id: int, chunk: Chunk, vectors: Mapping[str, Vector]
) -> None:
    vector = vectors.get(chunk.id)
    if vector is None:
        raise InvalidRequest(f"chunk {chunk.id} is new here and has no vector", field="vectors")
    data = vector.astype(STORED).tobytes()
    connection.execute("INSERT INTO vectors VALUES (?, ?)", (chunk_id, data))


def _sweep(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> int:
    """Delete those of the chunks that no document has any more; how many."""
    removed = 0
    for chunk_id in chunk_ids:
        removed += connection.execute(
            "DELETE FROM chunks WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM places WHERE chunk = ?1)",
            (chunk_id,),
        ).rowcount
    return removed


def _count_up(connection: sqlite3.Connection) -> None:
    """Say to other readers, in other processes too, that the chunks changed."""
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
