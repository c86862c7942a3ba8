"""A model family on disk: a target, the smaller tiers of its ladder, and a digest of every file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import ArtifactCorrupt, ArtifactInvalid, TokenizerMismatch

MANIFEST_FILE = "hola.json"
MANIFEST_FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_MANIFEST_BYTES = 4 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """What a file must be: its size in bytes and hex sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One model of a family: an onnxruntime-genai directory.

    `files` maps names relative to `path` to digests. `parameters` is 0 where unknown.
    """

    name: str
    path: Path
    files: Mapping[str, FileDigest] = field(hash=False)
    parameters: int = 0
    quantization: str = ""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A target and its ladder (cheapest first), which share one tokenizer."""

    name: str
    path: Path
    target: Tier
    ladder: tuple[Tier, ...]
    tokenizer_sha256: str
    context_length: int
    license: str = ""
    description: str = ""

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Cheapest first, the target last."""
        return (*self.ladder, self.target)

    def tier(self, name: str) -> Tier:
        """The tier called `name`. Raises ArtifactInvalid naming the known ones."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        known = ", ".join(tier.name for tier in self.tiers)
        raise ArtifactInvalid(f"{self.name} has no tier {name!r}; it has {known}", known=known)


def load_family(path: Path) -> Family:
    """Read `path`/hola.json and check what is cheap: structure, paths, sizes, tokenizers.

    File contents are checked by `verify_digests`.
    Raises ArtifactInvalid (no or malformed manifest), ArtifactCorrupt (a file is missing or has
    another size), TokenizerMismatch (tiers disagree, or differ from the manifest).
    """
    manifest = _Manifest(path)
    tiers = {name: manifest.tier(name) for name in manifest.tier_names}
    for tier in tiers.values():
        for name, entry in tier.files.items():
            _check_size(tier, name, entry)
    family = Family(
        name=manifest.text("name", pattern=NAME),
        path=path,
        target=tiers[manifest.text("target")],
        ladder=tuple(tiers[name] for name in manifest.names("ladder")),
        tokenizer_sha256=manifest.text("tokenizer_sha256", pattern=_SHA256),
        context_length=min(context_length(tier.path) for tier in tiers.values()),
        license=manifest.optional_text("license"),
        description=manifest.optional_text("description"),
    )
    _check_tokenizers(family)
    return family


def verify_digests(
    of: Family | Tier, *, progress: Callable[[str, int], None] | None = None
) -> None:
    """Read every file and compare its sha256 with the manifest.

    `progress(name, bytes)` is called after each file. Raises ArtifactCorrupt at the first that
    differs.
    """
    for tier in of.tiers if isinstance(of, Family) else (of,):
        for name, entry in tier.files.items():
            _check_size(tier, name, entry)
            got = file_digest(tier.path / name).sha256
            if got != entry.sha256:
                raise ArtifactCorrupt(
                    f"{tier.name}/{name} was changed: sha256 {got[:12]}..., "
                    f"recorded {entry.sha256[:12]}...",
                    file=f"{tier.name}/{name}",
                    expected=entry.sha256,
                    got=got,
                )
            if progress is not None:
                progress(f"{tier.name}/{name}", entry.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSource:
    """What `write_manifest` needs to know of a tier that is already in its place.

    `path` is relative to the family's directory.
    """

    name: str
    path: str
    parameters: int = 0
    quantization: str = ""


def write_manifest(
    path: Path,
    *,
    name: str,
    target: TierSource,
    ladder: Sequence[TierSource] = (),
    license_name: str = "",
    description: str = "",
) -> Family:
    """Digest every file of the tiers below `path`, write `path`/hola.json, and load it.

    Raises what `load_family` raises; nothing is left half-written.
    """
    tiers = (*ladder, target)
    document = {
        "format": MANIFEST_FORMAT,
        "name": name,
        "license": license_name,
        "description": description,
        "target": target.name,
        "ladder": [tier.name for tier in ladder],
        "tokenizer_sha256": tokenizer_fingerprint(path / target.path),
        "tiers": {tier.name: _describe(path, tier) for tier in tiers},
    }
    unfinished = path / f"{MANIFEST_FILE}.part"
    unfinished.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path / MANIFEST_FILE)
    return load_family(path)


def file_digest(file: Path) -> FileDigest:
    """Size and sha256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(bytes=stream.tell(), sha256=digest.hexdigest())


def context_length(tier_path: Path) -> int:
    """Tokens a tier's context holds, from its genai_config.json. Raises ArtifactInvalid."""
    try:
        config = json.loads((tier_path / "genai_config.json").read_text(encoding="utf-8"))
        length = int(config["model"]["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(
            f"{tier_path.name}/genai_config.json cannot be used: {error!r}", path=tier_path
        ) from error
    if length < 2:
        raise ArtifactInvalid(f"{tier_path.name}: context_length is {length}", path=tier_path)
    return length


def _describe(path: Path, tier: TierSource) -> dict[str, Any]:
    directory = path / tier.path
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    digests = {file.relative_to(directory).as_posix(): file_digest(file) for file in files}
    return {
        "path": tier.path,
        "parameters": tier.parameters,
        "quantization": tier.quantization,
        "files": {
            name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in digests.items()
        },
    }


def _check_size(tier: Tier, name: str, entry: FileDigest) -> None:
    try:
        size = (tier.path / name).stat().st_size
    except OSError:
        raise ArtifactCorrupt(
            f"{tier.name}/{name} is missing",
            file=f"{tier.name}/{name}",
            expected=f"{entry.bytes} bytes",
            got="no file",
        ) from None
    if size != entry.bytes:
        raise ArtifactCorrupt(
            f"{tier.name}/{name} has {size} bytes, recorded are {entry.bytes}",
            file=f"{tier.name}/{name}",
            expected=f"{entry.bytes} bytes",
            got=f"{size} bytes",
        )


def _check_tokenizers(family: Family) -> None:
    for tier in family.tiers:
        got = tokenizer_fingerprint(tier.path)
        if got != family.tokenizer_sha256:
            raise TokenizerMismatch(
                f"tier {tier.name} of {family.name} has another tokenizer than the family",
                tier=tier.name,
                expected=family.tokenizer_sha256,
                got=got,
            )


class _Manifest:
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
        self._document = document
        self._tiers = document.get("tiers")
        if not isinstance(self._tiers, dict) or not self._tiers:
            raise self._invalid("tiers must be a non-empty object")

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
        return Tier(
            name=name, path=path, files=files, parameters=parameters, quantization=quantization
        )

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
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
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
