"""An installed embedder: its folder, its embedder.json, and where such folders are looked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hola.engines.encoder import MODEL_FILE
from hola.engines.tokenizer import TOKENIZER_FILE
from hola.errors import ArtifactCorrupt, ArtifactInvalid
from hola.models.manifest import NAME
from hola.models.store import ModelStore

MANIFEST_FILE = "embedder.json"
FORMAT = 1
NONE = "none"
_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderManifest:
    """embedder.json: `sha256` is over the graph and the tokenizer, lengths are in tokens."""

    name: str
    dimensions: int
    max_tokens: int
    sha256: str
    precision: str = ""
    source: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    format: int = FORMAT

    @property
    def id(self) -> str:
        """Equal ids give comparable vectors."""
        return f"{self.name}@{self.sha256[:_DIGITS]}"


def embedder_folders(store: ModelStore) -> dict[str, Path]:
    """Folders with an embedder.json below the model folders, by name; the first root wins."""
    found: dict[str, Path] = {}
    for root in store.roots:
        for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
            if NAME.fullmatch(manifest.parent.name):
                found.setdefault(manifest.parent.name, manifest.parent)
    return found


def write_manifest(folder: Path, manifest: EmbedderManifest) -> None:
    """Write embedder.json. Raises OSError."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> EmbedderManifest:
    """Read embedder.json; the files' digests are not compared. Raises ArtifactInvalid."""
    file = folder / MANIFEST_FILE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name: field.type for field in fields(EmbedderManifest)}
        given: dict[str, Any] = {name: document[name] for name in known if name in document}
        manifest = EmbedderManifest(**given)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactInvalid(f"{file} cannot be read: {error}", path=folder) from error
    for name, kind in known.items():
        if type(getattr(manifest, name)).__name__ != kind:
            raise ArtifactInvalid(f"{file}: {name} must be {kind}", path=folder)
    if manifest.format != FORMAT or manifest.dimensions < 1 or manifest.max_tokens < 1:
        raise ArtifactInvalid(f"{file} is of another format or has impossible sizes", path=folder)
    return manifest


def files_digest(folder: Path) -> str:
    """Hex sha256 over the graph and the tokenizer. Raises ArtifactInvalid where one is missing."""
    digest = hashlib.sha256()
    for name in (MODEL_FILE, TOKENIZER_FILE):
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ArtifactInvalid(f"{folder / name} cannot be read: {error}") from error
    return digest.hexdigest()


def check_digest(folder: Path, manifest: EmbedderManifest) -> None:
    """Raises ArtifactCorrupt when the files are not those of the manifest."""
    got = files_digest(folder)
    if got != manifest.sha256:
        raise ArtifactCorrupt(
            f"the files of embedder {manifest.name} changed since it was added",
            file=folder / MODEL_FILE,
            expected=manifest.sha256,
            got=got,
        )
