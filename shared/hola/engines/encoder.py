"""A text encoder graph on onnxruntime: one text in, one vector of length 1 out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.engines.providers import (
    check_provider,
    choose_providers,
    provider_name,
    session_options,
    usable_cores,
)
from hola.engines.tokenizer import TOKENIZER_FILE
from hola.errors import ArtifactInvalid, EngineFailure
from hola.extras import require

MODEL_FILE = "model.onnx"
INPUTS = {"input_ids", "attention_mask"}
OUTPUT = "embedding"


class OnnxEncoder:
    """Runs `model.onnx` with `tokenizer.json`. Thread-safe.

    One text per pass and one thread per text: on a CPU batches are no faster, several texts at a
    time are encoded sooner (docs/RETRIEVAL.md), and a text's vector then never depends on its
    neighbours, which quantized activations and padding would let it.
    """

    def __init__(
        self, path: Path, *, max_tokens: int, provider: str = "cpu", threads: int = 0
    ) -> None:
        """Load the files in `path`. Texts beyond `max_tokens` are cut off.

        `threads` texts are encoded at a time; 0: one per core.

        Raises ArtifactInvalid, MissingExtra, ConfigError.
        """
        ort = require("onnxruntime", "edge")
        library = require("tokenizers", "edge")
        try:
            self._tokenizer = library.Tokenizer.from_file(str(path / TOKENIZER_FILE))
        except Exception as error:  # the library raises plain Exception
            raise ArtifactInvalid(f"{path / TOKENIZER_FILE} cannot be used: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        providers = choose_providers(provider, ort.get_available_providers())
        options = session_options(ort, threads=1, allow_spinning=False)
        try:
            self._session: Any = ort.InferenceSession(
                str(path / MODEL_FILE), options, providers=list(providers)
            )
        except Exception as error:  # onnxruntime's errors share no public base
            raise ArtifactInvalid(f"{path / MODEL_FILE} cannot be loaded: {error}") from error
        check_provider(provider, provider_name(self._session.get_providers()[0]))
        self._dimensions = _dimensions(self._session, path)
        self.threads = threads or usable_cores()

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of texts, shape (len(texts), dimensions) float32.

        Raises EngineFailure, also for a vector that is not finite.
        """
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        workers = min(self.threads, len(texts))
        if workers < 2:
            for index, text in enumerate(texts):
                vectors[index] = self._encode(text)
            return vectors
        with ThreadPoolExecutor(workers, thread_name_prefix="hola-encoder") as threads:
            for index, vector in enumerate(threads.map(self._encode, texts)):
                vectors[index] = vector
        return vectors

    def _encode(self, text: str) -> npt.NDArray[np.float32]:
        ids = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        tokens = np.array([ids], np.int64)
        feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        try:
            (vectors,) = self._session.run([OUTPUT], feeds)
        except Exception as error:
            raise EngineFailure(f"the encoder failed on {len(ids)} tokens: {error}") from error
        vector: npt.NDArray[np.float32] = vectors[0]
        if not np.isfinite(vector).all():
            raise EngineFailure("the encoder gave a vector that is not finite")
        return vector


def _dimensions(session: Any, path: Path) -> int:
    """Length of the graph's vectors. Raises ArtifactInvalid where it is no encoder."""
    inputs = {entry.name for entry in session.get_inputs()}
    shapes = {entry.name: entry.shape for entry in session.get_outputs()}
    size = shapes.get(OUTPUT, [None])[-1]
    if inputs != INPUTS or not isinstance(size, int):
        raise ArtifactInvalid(f"{path / MODEL_FILE} is no text encoder of ours", path=path)
    return size
