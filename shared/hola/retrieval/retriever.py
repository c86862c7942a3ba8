"""A question's passages: the best search that collection and embedder allow, and why it is that."""

from __future__ import annotations

from dataclasses import dataclass

from hola.errors import EmbedderMismatch
from hola.retrieval.ports import DocumentStore, Embedder
from hola.retrieval.types import DEFAULT_ALPHA, Collection, Fusion, Passage, Query, SearchMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Passages, how they were searched, and why not better ("" where nothing is missing)."""

    passages: tuple[Passage, ...]
    mode: SearchMode
    note: str = ""


class Retriever:
    """Searches one store with one embedder, or with none."""

    def __init__(self, store: DocumentStore, embedder: Embedder | None) -> None:
        """Both stay the caller's to close."""
        self._store = store
        self._embedder = embedder

    async def search(
        self,
        tenant: str,
        name: str,
        text: str,
        *,
        k: int = 10,
        mode: SearchMode | None = None,
        alpha: float = DEFAULT_ALPHA,
        fusion: Fusion = Fusion.RELATIVE,
    ) -> Found:
        """The best passages. `mode` None is HYBRID where it can be, else BM25 with a note.

        Raises EmbedderMismatch where `mode` asks for vectors that cannot be had, EngineFailure,
        and what DocumentStore.search raises.
        """
        held = await self._store.collection(tenant, name)
        obstacle = dense_obstacle(held, self._embedder)
        if obstacle and mode not in (None, SearchMode.BM25):
            raise EmbedderMismatch(
                f"no {mode} search in {name!r}: {obstacle}",
                expected=held.embedder,
                got=self._embedder.id if self._embedder else "",
            )
        chosen = mode or (SearchMode.BM25 if obstacle else SearchMode.HYBRID)
        vector = None
        if chosen is not SearchMode.BM25 and self._embedder is not None:
            vector = (await self._embedder.embed([text], query=True))[0]
        query = Query(text=text, k=k, mode=chosen, vector=vector, alpha=alpha, fusion=fusion)
        passages = await self._store.search(tenant, name, query)
        return Found(passages=passages, mode=chosen, note="" if mode else obstacle)


def dense_obstacle(held: Collection, embedder: Embedder | None) -> str:
    """Why a collection's vectors cannot be searched with this embedder; "" if they can."""
    if not held.embedder:
        return "the collection has no vectors (made without an embedder)"
    if embedder is None:
        return f"the collection's embedder {held.embedder} is not installed (`hola embedder add`)"
    if (embedder.id, embedder.dimensions) != (held.embedder, held.dimensions):
        return f"the collection's vectors are {held.embedder}'s, the embedder here is {embedder.id}"
    return ""
