"""A model's output layer as numpy: what gradients at it need, hidden states out of logits included.

logits = W h, and W has far more rows than columns, so a tier's logits say what h was: the least
squares solution. No graph has to be exported again with its hidden states as an output.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid, InvalidRequest

Array = npt.NDArray[np.float64]
LARGEST_MISFIT = 0.1
_NAMES = ("lm_head.weight", "model.embed_tokens.weight")  # the second where both are tied
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_MAX_HEADER_BYTES = 100 * 2**20


class OutputHead:
    """The output layer W, shape (vocabulary, hidden), of a model whose logits are W h."""

    def __init__(self, weight: npt.NDArray[np.float32]) -> None:
        """Raises ArtifactInvalid unless W has at least as many rows as columns, all independent."""
        self.weight = weight
        if weight.ndim != 2 or weight.shape[0] < weight.shape[1] or not weight.size:
            raise ArtifactInvalid(f"an output layer of shape {weight.shape} has no inverse")
        gram = (weight.T @ weight).astype(np.float64)
        if not np.isfinite(gram).all() or np.linalg.matrix_rank(gram) < len(gram):
            raise ArtifactInvalid("the output layer's columns are not independent")
        self._inverse = np.linalg.inv(gram)

    def hidden(self, logits: Array) -> Array:
        """Last hidden states (n, hidden) that gave logits (n, vocabulary)."""
        self._check(logits)
        return self.pull_back(logits) @ self._inverse

    def pull_back(self, vectors: Array) -> Array:
        """W^T v for each row v; (n, vocabulary) to (n, hidden)."""
        self._check(vectors)
        return (vectors.astype(np.float32) @ self.weight).astype(np.float64)

    def misfit(self, logits: Array) -> float:
        """Share of the logits' length that no hidden state explains: 0 where logits = W h.

        Above LARGEST_MISFIT this is not these logits' layer, or the model bends them afterwards.
        """
        explained = self.hidden(logits).astype(np.float32) @ self.weight.T
        length = max(float(np.linalg.norm(logits)), 1e-30)
        return float(np.linalg.norm(logits - explained)) / length

    def _check(self, vectors: Array) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != len(self.weight):
            raise InvalidRequest(
                f"rows of {vectors.shape[-1]} do not go with a vocabulary of {len(self.weight)}"
            )


def load_head(folder: Path) -> OutputHead | None:
    """The output layer among the safetensors of a tier's directory; None where it has none.

    Raises ArtifactInvalid for a malformed file.
    """
    found = _locate(folder)
    if found is None:
        return None
    file, name = found
    return OutputHead(_read_tensor(file, name))


def _locate(folder: Path) -> tuple[Path, str] | None:
    index, single = folder / _INDEX, folder / _SINGLE
    if index.is_file():
        try:
            files = json.loads(index.read_text("utf-8"))["weight_map"]
            for name in _NAMES:
                if name in files:
                    return folder / Path(files[name]).name, name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactInvalid(f"{index} cannot be read: {error!r}", path=index) from error
    elif single.is_file():
        header, _ = _header(single)
        for name in _NAMES:
            if name in header:
                return single, name
    return None


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where its data begins."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(stream.read(size))
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise ArtifactInvalid(f"{file} cannot be read: {error}", path=file) from error
    if not isinstance(header, dict):
        raise ArtifactInvalid(f"{file} has no header", path=file)
    return header, 8 + size


def _read_tensor(file: Path, name: str) -> npt.NDArray[np.float32]:
    header, start = _header(file)
    try:
        entry = header[name]
        dtype, shape = _DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
        first, last = map(int, entry["data_offsets"])
        with file.open("rb") as stream:
            stream.seek(start + first)
            raw = np.frombuffer(stream.read(last - first), dtype).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(f"{file}: {name} cannot be read: {error!r}", path=file) from error
    if entry["dtype"] == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(raw, np.float32)
