"""One collection in one SQLite file: its connections, its transactions, its search."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hola.retrieval import sqlite_read, sqlite_schema, sqlite_write
from hola.retrieval.dense import EXACT_LIMIT, DenseIndex
from hola.retrieval.fusion import fuse
from hola.retrieval.rules import check_embedder, check_query, check_vectors
from hola.retrieval.types import (
    Changes,
    ChunkedDocument,
    Collection,
    Page,
    Passage,
    Query,
    SearchMode,
    Vector,
)

SUFFIX = ".db"
_SIDE_FILES = ("-wal", "-shm", ".hnsw")


class SqliteCollection:
    """Blocking calls on one collection's file; any number of threads at a time.

    Every method raises StoreUnavailable, StoreCorrupt and what `hola.retrieval.rules` refuses.
    """

    def __init__(self, path: Path, tenant: str, *, exact_limit: int = EXACT_LIMIT) -> None:
        """Open the file. Raises StoreUnavailable where there is none."""
        self._path = path
        self._tenant = tenant
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._inode = _inode(path)
        with self._connection() as connection:
            facts = sqlite_read.describe(connection, tenant, 0)
        self._facts = facts  # name, embedder and dimensions never change
        graph = path.with_name(path.name + ".hnsw")
        self._dense = DenseIndex(facts.dimensions, graph, exact_limit=exact_limit)

    def is_current(self) -> bool:
        """False when the file was deleted, or made anew, by this process or another."""
        return not self._closed and self._inode == _inode(self._path)

    def check_made_for(self, embedder: str, dimensions: int) -> None:
        """Raises EmbedderMismatch when it was made for another embedder."""
        check_embedder((embedder, dimensions), self._facts)

    def describe(self) -> Collection:
        """What it holds."""
        with self._reading() as connection:
            sides = [self._path, self._path.with_name(self._path.name + "-wal")]
            size = sum(file.stat().st_size for file in sides if file.exists())
            return sqlite_read.describe(connection, self._tenant, size)

    def put(self, documents: Sequence[ChunkedDocument], vectors: Mapping[str, Vector]) -> Changes:
        """Write documents in one transaction."""
        if vectors:
            check_vectors(vectors, self._facts)
        with self._writing() as connection:
            return sqlite_write.put(
                connection, documents, vectors, needs_vectors=bool(self._facts.dimensions)
            )

    def delete(self, source: str, *, parts: bool) -> Changes:
        """Remove a source, with or without its parts, in one transaction."""
        with self._writing() as connection:
            return sqlite_write.delete(connection, source, parts=parts)

    def digests(self, sources: Sequence[str]) -> dict[str, str]:
        """Digests of those sources that are there."""
        with self._reading() as connection:
            return sqlite_read.digests(connection, sources)

    def sources(self, prefix: str, after: str, limit: int) -> tuple[str, ...]:
        """Sources with a prefix, in order."""
        with self._reading() as connection:
            return sqlite_read.sources(connection, prefix, after, limit)

    def known(self, chunk_ids: Sequence[str]) -> set[str]:
        """Those of the chunks that are there."""
        with self._reading() as connection:
            return sqlite_read.known(connection, chunk_ids)

    def page(self, after: str, limit: int) -> Page:
        """Some documents, in order of source."""
        with self._reading() as connection:
            return sqlite_read.page(connection, after, limit)

    def search(self, query: Query) -> tuple[Passage, ...]:
        """The best passages of one moment's state."""
        check_query(query, self._facts)
        with self._reading() as connection:
            bm25, dense = self._rankings(connection, query)
            if query.mode is SearchMode.HYBRID:
                scores = fuse(bm25, dense, alpha=query.alpha, rule=query.fusion)
            else:
                scores = bm25 or dense
            best = dict(list(scores.items())[: query.k])
            return sqlite_read.passages(connection, best, bm25, dense)

    def _rankings(
        self, connection: sqlite3.Connection, query: Query
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Scores by row id from BM25 and from the vectors; {} for one that is not asked for."""
        hybrid = query.mode is SearchMode.HYBRID
        limit = max(query.k, query.candidates) if hybrid else query.k
        bm25: dict[int, float] = {}
        dense: dict[int, float] = {}
        if query.mode is not SearchMode.DENSE:
            bm25 = sqlite_read.bm25(connection, query.text, limit)
        if query.mode is not SearchMode.BM25 and query.vector is not None:
            dense = self._dense.nearest(
                query.vector,
                limit,
                generation=sqlite_read.generation(connection),
                rows=lambda: sqlite_read.vector_rows(connection),
                load=lambda rows: sqlite_read.read_vectors(connection, rows),
            )
        return bm25, dense

    def remove_files(self) -> None:
        """Close it and delete its files."""
        self.close()
        with sqlite_schema.sqlite_errors(self._path):
            self._path.unlink(missing_ok=True)
            for suffix in _SIDE_FILES:
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close idle connections now and the others when their call ends. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that sees one state; nothing is written."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a write transaction: all of it happens, or none."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                _roll_back(connection)
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or sqlite_schema.connect(self._path)
        try:
            with sqlite_schema.sqlite_errors(self._path):
                yield connection
        finally:
            with self._lock:
                keep = not self._closed and not connection.in_transaction
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction; SQLite itself has done so after some errors, such as a full disk."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
