"""The seams of retrieval as protocols: where documents live, and what encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hola.retrieval.types import (
    Changes,
    ChunkedDocument,
    Collection,
    Page,
    Passage,
    Query,
    Vector,
)

Vectors = npt.NDArray[np.float32]


class DocumentStore(Protocol):
    """Collections of chunked documents, each within one tenant.

    Every method but `create`, `collections` and `close` raises UnknownCollection where the tenant
    has none of that name, InvalidRequest for an impossible name, StoreUnavailable when the engine
    cannot be reached or is locked for too long, StoreCorrupt when its file cannot be read.
    A call that is cancelled has happened or not; it is never seen half done.
    """

    async def create(
        self, tenant: str, name: str, *, embedder: str = "", dimensions: int = 0
    ) -> Collection:
        """Make a collection, or return the one that is there.

        Raises EmbedderMismatch when that one was made for another embedder or size.
        """
        ...

    async def collections(self, tenant: str) -> tuple[Collection, ...]:
        """All of a tenant's, by name."""
        ...

    async def collection(self, tenant: str, name: str) -> Collection:
        """What one holds."""
        ...

    async def drop(self, tenant: str, name: str) -> None:
        """Delete a collection and everything in it."""
        ...

    async def put(
        self,
        tenant: str,
        name: str,
        documents: Sequence[ChunkedDocument],
        vectors: Mapping[str, Vector] | None = None,
    ) -> Changes:
        """Write documents; each takes the place of what its source had. Durable on return.

        `vectors` by chunk id; those of chunks the collection has already may be left out. Raises
        EmbedderMismatch for vectors of another size, InvalidRequest naming the field "vectors" for
        one that is missing or not finite.
        """
        ...

    async def delete(self, tenant: str, name: str, source: str, *, parts: bool = True) -> Changes:
        """Remove a source and, with `parts`, all `source#...`. No error where there is none."""
        ...

    async def digests(self, tenant: str, name: str, sources: Sequence[str]) -> dict[str, str]:
        """The digest of each of these sources that is there."""
        ...

    async def sources(
        self, tenant: str, name: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[str, ...]:
        """Up to `limit` sources that begin with `prefix` and come after `after`, in order."""
        ...

    async def known(self, tenant: str, name: str, chunk_ids: Sequence[str]) -> set[str]:
        """Those of these chunks that the collection has."""
        ...

    async def page(self, tenant: str, name: str, *, after: str = "", limit: int = 64) -> Page:
        """Up to `limit` documents whose source comes after `after`; none at the end."""
        ...

    async def search(self, tenant: str, name: str, query: Query) -> tuple[Passage, ...]:
        """The best passages, no two of equal chunk id.

        Any text is allowed: it holds words, never query syntax. Raises InvalidRequest for a query
        out of range, EmbedderMismatch for a vector of another size than the collection's.
        """
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...


class Embedder(Protocol):
    """Text to vectors of length 1 whose dot product is their likeness."""

    @property
    def id(self) -> str:
        """Name and digest of the weights: equal ids give comparable vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """Vectors of texts, shape (len(texts), dimensions) float32; what is too long is cut off.

        `query`: they are questions, which some encoders treat unlike passages.
        Raises EngineFailure.
        """
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...
