"""hola.json: the record of a model family's tiers and of what every file must be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid

MANIFEST_FILE = "hola.json"
MANIFEST_FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_PROVENANCE_TEXTS = (
    "source", "source_sha256", "calibration_sha256", "tokenizer_sha256", "license",
)  # fmt: skip
_MAX_MANIFEST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """What a file must be: its size in bytes and hex sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a compression job made an artifact, and what from.

    `source` names it for people ("demo/target"), `source_sha256` is over its files; `plan` is the
    plan's document, `license` the source's. `report` is the digest of the report beside the files;
    it is no part of the artifact's identity, since it holds measured times.
    """

    source: str
    source_sha256: str
    plan: Mapping[str, Any] = field(hash=False)
    calibration_sha256: str
    tokenizer_sha256: str
    license: str
    report: FileDigest

    def document(self) -> dict[str, Any]:
        """As in hola.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One model of a family: an onnxruntime-genai directory.

    `files` maps names relative to `path` to digests. `parameters` is 0 where unknown. `checkpoint`
    is where the weights it was exported from are, which need not be there: `path` unless a
    compressed artifact took the tier's place. `provenance` is None unless a job made it.
    """

    name: str
    path: Path
    files: Mapping[str, FileDigest] = field(hash=False)
    parameters: int = 0
    quantization: str = ""
    checkpoint: Path | None = None
    provenance: Provenance | None = None

    @property
    def digest(self) -> str:
        """Hex sha256 over the sorted (file name, sha256) pairs: the artifact's identity."""
        digest = hashlib.sha256()
        for name, entry in sorted(self.files.items()):
            digest.update(f"{name}\0{entry.sha256}\n".encode())
        return digest.hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(entry.bytes for entry in self.files.values())


class Manifest:
    """hola.json, read field by field; everything wrong with it is an ArtifactInvalid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = path / MANIFEST_FILE
        try:
            if file.stat().st_size > _MAX_MANIFEST_BYTES:
                raise self._invalid("it is larger than a manifest can be")
            document = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ArtifactInvalid(f"{path.name} has no {MANIFEST_FILE}", path=path) from error
        except (OSError, ValueError, RecursionError) as error:
            raise self._invalid(f"not readable as JSON ({error})") from error
        if not isinstance(document, dict):
            raise self._invalid("it is not an object")
        if document.get("format") != MANIFEST_FORMAT:
            got = document.get("format")
            raise self._invalid(f"format is {got!r}, this version reads {MANIFEST_FORMAT}")
        tiers = document.get("tiers")
        if not isinstance(tiers, dict) or not tiers:
            raise self._invalid("tiers must be a non-empty object")
        self._document: dict[str, Any] = document
        self._tiers: dict[str, Any] = tiers

    @property
    def tier_names(self) -> tuple[str, ...]:
        """Ladder, then target; each exactly once and described."""
        names = (*self.names("ladder"), self.text("target"))
        if len(set(names)) != len(names):
            raise self._invalid("a tier is listed twice")
        for name in names:
            if name not in self._tiers:
                raise self._invalid(f"tier {name!r} is not described in tiers")
            if not NAME.fullmatch(name):
                raise self._invalid(f"{name!r} is not a valid tier name")
        return names

    def tier(self, name: str) -> Tier:
        entry = self._tiers[name]
        if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
            raise self._invalid(f"tier {name!r} must be an object with files")
        parameters = entry.get("parameters", 0)
        quantization = entry.get("quantization", "")
        if not isinstance(parameters, int) or not isinstance(quantization, str):
            raise self._invalid(f"tier {name!r}: parameters is a number, quantization a text")
        if not entry["files"]:
            raise self._invalid(f"tier {name!r} lists no files")
        path = self._inside(self._path, entry.get("path"))
        files = {}
        for file, digest in entry["files"].items():
            self._inside(path, file)
            files[file] = self._digest(f"{name}/{file}", digest)
        checkpoint = entry.get("checkpoint")
        return Tier(
            name=name,
            path=path,
            files=files,
            parameters=parameters,
            quantization=quantization,
            checkpoint=path if checkpoint is None else self._inside(self._path, checkpoint),
            provenance=self._provenance(name, entry.get("provenance")),
        )

    def _provenance(self, tier: str, entry: object) -> Provenance | None:
        if entry is None:
            return None
        if not isinstance(entry, dict) or not isinstance(entry.get("plan"), dict):
            raise self._invalid(f"tier {tier!r}: provenance must be an object with a plan")
        texts = {name: entry.get(name, "") for name in _PROVENANCE_TEXTS}
        if not all(isinstance(value, str) for value in texts.values()):
            raise self._invalid(f"tier {tier!r}: provenance has a value that is no text")
        report = self._digest(f"{tier}/report", entry.get("report"))
        return Provenance(plan=entry["plan"], report=report, **texts)

    def text(self, key: str, *, pattern: re.Pattern[str] | None = None) -> str:
        value = self._document.get(key)
        if not isinstance(value, str) or not value:
            raise self._invalid(f"{key} must be a non-empty text")
        if pattern is not None and not pattern.fullmatch(value):
            raise self._invalid(f"{key} {value!r} does not match {pattern.pattern}")
        return value

    def optional_text(self, key: str) -> str:
        value = self._document.get(key, "")
        if not isinstance(value, str):
            raise self._invalid(f"{key} must be a text")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self._document.get(key, [])
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._invalid(f"{key} must be a list of tier names")
        return tuple(value)

    def _digest(self, file: str, entry: object) -> FileDigest:
        if not isinstance(entry, dict):
            raise self._invalid(f"{file} must have bytes and sha256")
        size, sha256 = entry.get("bytes"), entry.get("sha256")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise self._invalid(f"{file}: bytes must be a size")
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise self._invalid(f"{file}: sha256 must be 64 hex digits")
        return FileDigest(bytes=size, sha256=sha256)

    def _inside(self, base: Path, relative: object) -> Path:
        """`base`/`relative`, refusing anything that could point outside."""
        if not isinstance(relative, str) or not relative or "\0" in relative or "\\" in relative:
            raise self._invalid(f"{relative!r} is not a path")
        parts = relative.split("/")
        if relative.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise self._invalid(f"path {relative!r} leaves the family's directory")
        return base / relative

    def _invalid(self, what: str) -> ArtifactInvalid:
        return ArtifactInvalid(
            f"{self._path.name}/{MANIFEST_FILE}: {what}", path=self._path / MANIFEST_FILE
        )
