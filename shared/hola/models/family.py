"""A model family on disk: a target, the smaller tiers of its ladder, and a digest of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.engines.decoder_config import CONFIG_FILE, read_decoder_config
from hola.engines.tokenizer import TOKENIZER_FILE, tokenizer_fingerprint
from hola.errors import ArtifactCorrupt, ArtifactInvalid, TokenizerMismatch
from hola.models.manifest import (
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    NAME,
    SHA256,
    FileDigest,
    Manifest,
    Tier,
)

HELDOUT_FOLDER = "heldout"  # questions that none of the tiers was trained on, one .jsonl per task


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A target and its ladder (cheapest first), which share one tokenizer.

    `context_length` is the target's; a tier with a shorter one drafts only that far.
    `passage_template` says in jinja2 how it reads passages before a question; "" for the usual way.
    `tokenizer_sha256` is the `tokenizer_fingerprint` that all tiers have in common (the manifest's
    key of that name is the plain digest of the target's file).
    """

    name: str
    path: Path
    target: Tier
    ladder: tuple[Tier, ...]
    tokenizer_sha256: str
    context_length: int
    license: str = ""
    description: str = ""
    passage_template: str = ""

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
    another size), TokenizerMismatch (tiers disagree, or the target's is not the recorded one).
    """
    manifest = Manifest(path)
    tiers = {name: manifest.tier(name) for name in manifest.tier_names}
    for tier in tiers.values():
        for name, entry in tier.files.items():
            _check_size(tier, name, entry)
        _check_complete(tier)
    target = tiers[manifest.text("target")]
    recorded = manifest.text("tokenizer_sha256", pattern=SHA256)
    if target.files[TOKENIZER_FILE].sha256 != recorded:
        raise _mismatch(target, "the manifest", recorded, target.files[TOKENIZER_FILE].sha256)
    fingerprints = {tier.name: tokenizer_fingerprint(tier.path) for tier in tiers.values()}
    for tier in tiers.values():
        if fingerprints[tier.name] != fingerprints[target.name]:
            expected, got = fingerprints[target.name], fingerprints[tier.name]
            raise _mismatch(tier, f"tier {target.name}", expected, got)
    return Family(
        name=manifest.text("name", pattern=NAME),
        path=path,
        target=target,
        ladder=tuple(tiers[name] for name in manifest.names("ladder")),
        tokenizer_sha256=fingerprints[target.name],
        context_length=context_length(target.path),
        license=manifest.optional_text("license"),
        description=manifest.optional_text("description"),
        passage_template=manifest.optional_text("passage_template"),
    )


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
        "tokenizer_sha256": file_digest(path / target.path / TOKENIZER_FILE).sha256,
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
    return read_decoder_config(tier_path).context_length


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


def _check_complete(tier: Tier) -> None:
    """Every file that decides what the model says must have a digest."""
    graph = read_decoder_config(tier.path).graph
    weights = (file.name for file in graph.parent.glob(f"{graph.name}*"))
    for name in (CONFIG_FILE, TOKENIZER_FILE, *sorted(weights)):
        if name not in tier.files:
            raise ArtifactInvalid(f"tier {tier.name}: the manifest has no digest of {name}")


def _mismatch(tier: Tier, than: str, expected: str, got: str) -> TokenizerMismatch:
    return TokenizerMismatch(
        f"tier {tier.name} has another tokenizer than {than}",
        tier=tier.name,
        expected=expected,
        got=got,
    )
