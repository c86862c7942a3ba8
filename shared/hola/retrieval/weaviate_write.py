"""Changes to a shard in an order that shows a document whole or not at all.

Weaviate has no transactions. Chunks are written before the documents that name them and removed
after; a document is one object, so writing it is the moment at which it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hola.errors import InvalidRequest
from hola.retrieval.types import Changes, ChunkedDocument, Vector
from hola.retrieval.weaviate_schema import StoredDocument
from hola.retrieval.weaviate_shard import BATCH_IDS, StoredChunk, WeaviateShard


async def put(
    shard: WeaviateShard,
    documents: Sequence[ChunkedDocument],
    vectors: Mapping[str, Vector],
    *,
    needs_vectors: bool,
) -> Changes:
    """Write documents in place of what their sources had.

    Raises InvalidRequest, before anything is written, when a new chunk lacks the vector it needs.
    """
    chunks = {chunk.id: chunk for document in documents for chunk in document.chunks}
    kept = await shard.chunks(list(chunks), vectors=needs_vectors)
    if needs_vectors:
        kept = {id_: one for id_, one in kept.items() if one.vector is not None}
    new = {
        id_: StoredChunk(chunk, _vector(id_, vectors) if needs_vectors else None)
        for id_, chunk in chunks.items()
        if id_ not in kept
    }
    replaced = await shard.documents([document.source for document in documents])
    await shard.write_chunks(list(new.values()))
    await shard.write_documents(documents)
    # Another process may have removed, as nobody's, a chunk that these documents took up.
    there = await shard.known(list(chunks))
    lost = [one for id_, one in {**kept, **new}.items() if id_ not in there]
    await shard.write_chunks(lost)
    freed = _chunks(replaced.values()).difference(chunks)
    removed = await _sweep(shard, freed)
    return Changes(documents=len(documents), chunks_added=len(new), chunks_removed=removed)


async def delete(shard: WeaviateShard, source: str, *, parts: bool) -> Changes:
    """Remove a source and, with `parts`, all `source#...`, each at one moment of its own."""
    found = await shard.documents([source])
    after = ""
    while parts:
        page = await shard.documents_from(prefix=f"{source}#", after=after, limit=BATCH_IDS)
        found |= {document.source: document for document in page}
        if len(page) < BATCH_IDS:
            break
        after = page[-1].source
    await shard.remove_documents(list(found))
    removed = await _sweep(shard, _chunks(found.values()))
    return Changes(documents=len(found), chunks_removed=removed)


async def _sweep(shard: WeaviateShard, freed: set[str]) -> int:
    """Remove those of the chunks that no document names any more; how many."""
    gone = sorted(freed - await _named(shard, freed))
    if not gone:
        return 0
    saved = await shard.chunks(gone, vectors=True)
    await shard.remove_chunks(gone)
    # A document of another process may have taken one up since they were looked for.
    again = await _named(shard, gone)
    await shard.write_chunks([one for id_, one in saved.items() if id_ in again])
    return len(gone) - len(again)


async def _named(shard: WeaviateShard, chunks: Iterable[str]) -> set[str]:
    """Those of the chunks that a document names."""
    wanted = set(chunks)
    named: set[str] = set()
    if wanted:
        async for document in shard.documents_with(sorted(wanted)):
            named |= wanted.intersection(document.chunks)
    return named


def _chunks(documents: Iterable[StoredDocument]) -> set[str]:
    return {chunk for document in documents for chunk in document.chunks}


def _vector(id_: str, vectors: Mapping[str, Vector]) -> Vector:
    vector = vectors.get(id_)
    if vector is None:
        raise InvalidRequest(f"chunk {id_} is new here and has no vector", field="vectors")
    return vector
