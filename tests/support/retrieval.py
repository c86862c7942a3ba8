"""Small documents, and an embedder whose vectors are known: a direction per word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hola.retrieval.chunking import digest_of
from hola.retrieval.types import Chunk, ChunkedDocument, Vector


class WordEmbedder:
    """hola.retrieval.ports.Embedder: the sum of a fixed random direction for each word.

    Likeness is the share of equal words, so tests can say what is nearest. Words in `synonyms`
    have the direction of what they stand for.
    """

    def __init__(self, dimensions: int = 64, name: str = "words", **synonyms: str) -> None:
        self._dimensions = dimensions
        self._name = name
        self._synonyms = synonyms
        self.texts: list[str] = []

    @property
    def id(self) -> str:
        return f"{self._name}-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def vector(self, text: str) -> Vector:
        total = np.full(self._dimensions, 1e-6, np.float32)
        for word in text.lower().split():
            total += self._direction(self._synonyms.get(word, word))
        return (total / np.linalg.norm(total)).astype(np.float32)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> Vector:
        self.texts += texts
        return np.stack([self.vector(text) for text in texts])

    async def close(self) -> None:
        """Nothing to free."""

    def _direction(self, word: str) -> Vector:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        draw = np.random.default_rng(seed).normal(size=self._dimensions)
        return (draw / np.linalg.norm(draw)).astype(np.float32)


def document(source: str, *texts: str, title: str = "") -> ChunkedDocument:
    """A stored document with one chunk per text."""
    chunks = tuple(Chunk(text=text, title=title) for text in texts)
    return ChunkedDocument(source=source, digest=digest_of(chunks), chunks=chunks)


def vectors_of(embedder: WordEmbedder, *documents: ChunkedDocument) -> dict[str, Vector]:
    """The vectors of all chunks, by chunk id."""
    chunks = [chunk for document in documents for chunk in document.chunks]
    return {chunk.id: embedder.vector(chunk.embedded_text) for chunk in chunks}
