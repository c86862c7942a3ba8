"""What every engine refuses alike: impossible names, queries out of range, wrong vectors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hola.errors import EmbedderMismatch, InvalidRequest
from hola.retrieval.types import ChunkedDocument, Collection, Query, SearchMode, Vector

COLLECTION_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_FOLDER_CHARS = 200
MAX_SOURCE_CHARS = 4096
MAX_TEXT_CHARS = 64 * 1024
MAX_K = 1000
MAX_CANDIDATES = 10_000
MAX_PAGE = 10_000


def check_names(tenant: str, name: str) -> None:
    """Raises InvalidRequest when either cannot be a tenant's or a collection's name."""
    tenant_folder(tenant)
    if not COLLECTION_NAME.fullmatch(name):
        raise InvalidRequest(
            f"collection name {name[:80]!r} must be lower-case letters, digits, - and _, "
            "at most 64, and begin with a letter or digit",
            field="collection",
        )


def tenant_folder(tenant: str) -> str:
    """A folder name that no other tenant has, on file systems that ignore case too.

    Raises InvalidRequest for an empty or overlong tenant.
    """
    try:
        folder = "".join(map(_spelled, tenant))
    except UnicodeEncodeError as error:
        raise InvalidRequest("the tenant's name is not valid Unicode", field="tenant") from error
    if not 0 < len(folder) <= MAX_FOLDER_CHARS:
        raise InvalidRequest("a tenant's name has 1 to 200 plain characters", field="tenant")
    return folder


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def _spelled(char: str) -> str:
    return char if char in _PLAIN else "".join(f"%{byte:02x}" for byte in char.encode())


def check_sources(sources: Iterable[str]) -> None:
    """Raises InvalidRequest for an empty or overlong source, or one with characters of no text."""
    for source in sources:
        if not 0 < len(source) <= MAX_SOURCE_CHARS or not _is_text(source):
            raise InvalidRequest(
                f"source {source[:80]!r} must be text of 1 to {MAX_SOURCE_CHARS} characters",
                field="source",
            )


def check_documents(documents: Sequence[ChunkedDocument]) -> None:
    """Raises InvalidRequest for a bad source, a source given twice, or text that is no Unicode."""
    check_sources(document.source for document in documents)
    if len({document.source for document in documents}) < len(documents):
        raise InvalidRequest("a source occurs twice in one write", field="source")
    for document in documents:
        for chunk in document.chunks:
            if not _is_text(chunk.text + chunk.title + chunk.heading):
                raise InvalidRequest(f"{document.source}: text is not valid Unicode", field="text")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def check_page(limit: int) -> None:
    """Raises InvalidRequest for a page of none or too many."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"limit must be 1 to {MAX_PAGE}", field="limit")


def check_query(query: Query, collection: Collection) -> None:
    """Raises InvalidRequest for a query out of range, EmbedderMismatch for its vector's size."""
    if not 1 <= query.k <= MAX_K:
        raise InvalidRequest(f"k must be 1 to {MAX_K}, got {query.k}", field="k")
    if not 1 <= query.candidates <= MAX_CANDIDATES:
        raise InvalidRequest(f"candidates must be 1 to {MAX_CANDIDATES}", field="candidates")
    if not (math.isfinite(query.alpha) and 0 <= query.alpha <= 1):
        raise InvalidRequest(f"alpha must be 0 to 1, got {query.alpha}", field="alpha")
    if len(query.text) > MAX_TEXT_CHARS:
        raise InvalidRequest(f"a query has at most {MAX_TEXT_CHARS} characters", field="text")
    if query.mode is SearchMode.BM25:
        return
    if query.vector is None:
        raise InvalidRequest(f"a {query.mode} query needs a vector", field="vector")
    check_vectors({"query": query.vector}, collection)


def check_vectors(vectors: Mapping[str, Vector], collection: Collection) -> None:
    """Raises EmbedderMismatch for a wrong size, InvalidRequest for values that are not finite."""
    for vector in vectors.values():
        if vector.shape != (collection.dimensions,) or not collection.dimensions:
            raise EmbedderMismatch(
                f"a vector of {vector.size} numbers in collection {collection.name!r}, which "
                + (
                    f"has {collection.dimensions} ({collection.embedder})"
                    if collection.dimensions
                    else "was made without an embedder"
                ),
                collection=collection.name,
                expected=collection.dimensions,
                got=vector.size,
            )
        if not np.isfinite(vector).all():
            raise InvalidRequest("a vector has a value that is not finite", field="vectors")


def check_embedder(wanted: tuple[str, int], collection: Collection) -> None:
    """Raises EmbedderMismatch when the collection was made for another (embedder, dimensions)."""
    if wanted != (collection.embedder, collection.dimensions):
        raise EmbedderMismatch(
            f"collection {collection.name!r} was made with "
            f"{collection.embedder or 'no embedder'}, not with {wanted[0] or 'no embedder'}; "
            "`hola collections copy` makes one for another embedder",
            collection=collection.name,
            expected=collection.embedder,
            got=wanted[0],
        )
