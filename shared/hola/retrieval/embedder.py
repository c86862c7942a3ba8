"""The embedder of this machine: an encoder on a thread of its own, or none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hola.config import Settings
from hola.engines.encoder import OnnxEncoder
from hola.engines.worker import EngineWorker
from hola.errors import ArtifactInvalid
from hola.models.store import ModelStore
from hola.retrieval.embedder_files import (
    NONE,
    EmbedderManifest,
    check_digest,
    embedder_folders,
    read_manifest,
)
from hola.retrieval.ports import Vectors

# A question that comes while documents are encoded waits for as many texts of each thread at most.
_TURN = 4


class OnnxEmbedder:
    """hola.retrieval.ports.Embedder on an installed encoder."""

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        """Load the encoder; `threads` texts are encoded at a time, 0: one per core.

        Raises ArtifactInvalid, ArtifactCorrupt, MissingExtra.
        """
        self._manifest = read_manifest(folder)
        check_digest(folder, self._manifest)
        self._encoder = OnnxEncoder(folder, max_tokens=self._manifest.max_tokens, threads=threads)
        if self._encoder.dimensions != self._manifest.dimensions:
            raise ArtifactInvalid(f"{folder}: the graph's vectors have another length", path=folder)
        self._worker = EngineWorker("embedder")

    @property
    def manifest(self) -> EmbedderManifest:
        """Its embedder.json."""
        return self._manifest

    @property
    def id(self) -> str:
        """Name and digest."""
        return self._manifest.id

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._manifest.dimensions

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """Vectors of texts, (len(texts), dimensions); questions and passages take turns.

        Raises EngineFailure.
        """
        prefix = self._manifest.query_prefix if query else self._manifest.passage_prefix
        key = "query" if query else "passage"
        parts = [np.empty((0, self.dimensions), np.float32)]
        step = _TURN * self._encoder.threads
        for start in range(0, len(texts), step):
            turn = [prefix + text for text in texts[start : start + step]]
            done = await self._worker.run(partial(self._encoder.encode, turn), key=key)
            parts.append(done.value)
        return np.concatenate(parts)

    async def close(self) -> None:
        """Let the running turn end. Idempotent."""
        await self._worker.close()


def find_embedder(settings: Settings) -> Path | None:
    """The folder of the embedder HOLA_EMBEDDER names; None for none, or where it is not there."""
    if settings.embedder == NONE:
        return None
    return embedder_folders(ModelStore.at(settings.models_dir)).get(settings.embedder)


def open_embedder(settings: Settings) -> OnnxEmbedder | None:
    """Load that embedder. None where there is none: BM25 alone then.

    Raises ArtifactInvalid, ArtifactCorrupt, MissingExtra for one that is there and cannot be used.
    """
    folder = find_embedder(settings)
    return None if folder is None else OnnxEmbedder(folder, threads=settings.threads)
