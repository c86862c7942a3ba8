"""A collection copied to another name, tenant or engine, with its vectors or new ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hola.errors import InvalidRequest
from hola.retrieval.ports import DocumentStore, Embedder
from hola.retrieval.types import Collection, Page, Vector

PAGE = 64
_EMBED_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Place:
    """A collection's place: a store, a tenant and a name."""

    store: DocumentStore
    tenant: str
    name: str


async def copy_collection(
    source: Place,
    target: Place,
    *,
    reembed: bool = False,
    embedder: Embedder | None = None,
    progress: Callable[[int], None],
) -> Collection:
    """Copy every document; what the target then holds.

    Vectors are taken over; with `reembed` they are `embedder`'s, or none if that is None. The
    target is made if it is not there, else documents are added to it, in place of equal sources.
    `progress` is told the documents of each page. A copy that is cut short can be run again.
    Raises InvalidRequest for a copy onto itself, EmbedderMismatch where the target has another
    embedder, and what the stores raise.
    """
    if (source.store, source.tenant, source.name) == (target.store, target.tenant, target.name):
        raise InvalidRequest("a collection cannot be copied onto itself", field="target")
    held = await source.store.collection(source.tenant, source.name)
    identity, dimensions = held.embedder, held.dimensions
    if reembed:
        identity = embedder.id if embedder else ""
        dimensions = embedder.dimensions if embedder else 0
    await target.store.create(target.tenant, target.name, embedder=identity, dimensions=dimensions)
    after = ""
    while True:
        page = await source.store.page(source.tenant, source.name, after=after, limit=PAGE)
        if not page.documents:
            return await target.store.collection(target.tenant, target.name)
        vectors = await _vectors(page, embedder) if reembed else page.vectors
        await target.store.put(target.tenant, target.name, page.documents, vectors)
        progress(len(page.documents))
        after = page.documents[-1].source


async def _vectors(page: Page, embedder: Embedder | None) -> dict[str, Vector]:
    if embedder is None:
        return {}
    chunks = list({chunk.id: chunk for doc in page.documents for chunk in doc.chunks}.items())
    found: dict[str, Vector] = {}
    for start in range(0, len(chunks), _EMBED_AT_A_TIME):
        part = chunks[start : start + _EMBED_AT_A_TIME]
        rows = await embedder.embed([chunk.embedded_text for _, chunk in part])
        found |= {id_: row for (id_, _), row in zip(part, rows, strict=True)}
    return found
