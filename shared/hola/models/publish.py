"""Puts a compressed artifact into the store: content-addressed, all at once, over what was there.

An artifact lies in `FAMILY/artifacts/DIGEST`, its digest being the tier's (sha256 over its files).
What makes it the family's is one rename of hola.json, so a reader finds the old family or the new
one. What the tier had before stays on disk until KEPT_ARTIFACTS newer ones have come.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.compression.report import REPORT_FILE, read_report
from hola.engines.tokenizer import TOKENIZER_FILE, tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest, TokenizerMismatch
from hola.models.family import Family, file_digest, load_family
from hola.models.files import take_file
from hola.models.manifest import MANIFEST_FILE, MANIFEST_FORMAT, NAME, Provenance, Tier
from hola.models.store import ModelStore

ARTIFACTS = "artifacts"
KEPT_ARTIFACTS = 2
_LOCK_FILE = ".publish.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Where an artifact goes: tier `tier` of the family `name`.

    A family that is not there is made: with the other tiers of `base`, or without any where there
    is no base. A tier that is not there joins the ladder, by its size. `source`, `source_sha256`
    and `plan` (a document without paths) go into the artifact's provenance.
    """

    name: str
    tier: str
    base: Family | None
    source: str
    source_sha256: str
    plan: Mapping[str, Any]
    license: str = ""


def publish(store: ModelStore, built: Path, publication: Publication) -> Tier:
    """Make `built`, an onnxruntime-genai directory with report.json, the tier that is said.

    Repeating it changes nothing. Raises InvalidRequest (a name), ArtifactInvalid (the report, a
    store that cannot be written), TokenizerMismatch (not the family's), and as `load_family`.
    """
    for name in (publication.name, publication.tier):
        if not NAME.fullmatch(name):
            raise InvalidRequest(f"name {name!r} must match {NAME.pattern}", field="name")
    try:
        artifact = _Artifact(built, publication)
        if publication.name in store.names():
            family = store.get(publication.name)
            with _locked(family.path):
                artifact.replace_in(load_family(family.path))
        else:
            artifact.make_family(store.roots[-1])
    except OSError as error:
        raise ArtifactInvalid(f"{publication.name} cannot be written: {error}") from error
    return store.get(publication.name).tier(publication.tier)


def digest_of_files(folder: Path, names: list[str] | None = None) -> tuple[str, dict[str, Any]]:
    """The identity of a directory's own files, as `Tier.digest` has it, and their digests."""
    chosen = names or sorted(file.name for file in folder.iterdir() if file.is_file())
    digests = {name: file_digest(folder / name) for name in chosen if name != REPORT_FILE}
    return Tier(name="-", path=folder, files=digests).digest, {
        name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in digests.items()
    }


class _Artifact:
    """A built artifact on its way into a family."""

    def __init__(self, built: Path, publication: Publication) -> None:
        self._built = built
        self._to = publication
        self._report = read_report(built / REPORT_FILE)
        self._digest, self._files = digest_of_files(built)
        self._fingerprint = tokenizer_fingerprint(built)

    def replace_in(self, family: Family) -> None:
        """Make it a tier of a family that is there; whoever calls has its lock."""
        if family.tokenizer_sha256 != self._fingerprint:
            raise TokenizerMismatch(
                f"the artifact has another tokenizer than {family.name}",
                expected=family.tokenizer_sha256,
                got=self._fingerprint,
            )
        document = json.loads((family.path / MANIFEST_FILE).read_text(encoding="utf-8"))
        old = document["tiers"].get(self._to.tier, {})
        self._copy_to(family.path)
        document["tiers"][self._to.tier] = self._entry(old.get("checkpoint", old.get("path")))
        if self._to.tier == document["target"]:
            document["tokenizer_sha256"] = self._files[TOKENIZER_FILE]["sha256"]
        elif self._to.tier not in document.get("ladder", []):
            document["ladder"] = self._ladder(document)
        _write_manifest(family.path, document)
        self._forget_old(family.path, document)

    def make_family(self, root: Path) -> None:
        """Make a family around it; it appears all at once, or another's is replaced in."""
        folder, base = root / self._to.name, self._to.base
        staging = root / f".{self._to.name}.{os.getpid()}.part"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            document = _copy_base(base, staging, self._to) if base else self._bare()
            document["name"] = self._to.name
            self._copy_to(staging)
            target = document["target"]
            document["tiers"][self._to.tier] = self._entry(None)
            if self._to.tier == target:
                document["tokenizer_sha256"] = self._files[TOKENIZER_FILE]["sha256"]
            elif self._to.tier not in document["ladder"]:
                document["ladder"] = self._ladder(document)
            _write_manifest(staging, document)
            load_family(staging)
            staging.rename(folder)
        except OSError:
            if not (folder / MANIFEST_FILE).is_file():
                raise
            with _locked(folder):  # somebody else made it meanwhile
                self.replace_in(load_family(folder))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _bare(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "license": self._to.license,
            "description": f"compressed from {self._to.source}",
            "target": self._to.tier,
            "ladder": [],
            "tiers": {},
        }

    def _entry(self, checkpoint: str | None) -> dict[str, Any]:
        report, to = self._report, self._to
        provenance = Provenance(
            source=to.source,
            source_sha256=to.source_sha256,
            plan=to.plan,
            calibration_sha256=report.calibration_sha256,
            tokenizer_sha256=self._fingerprint,
            license=to.license or report.license,
            report=file_digest(self._built / REPORT_FILE),
        )
        entry = {
            "path": f"{ARTIFACTS}/{self._digest}",
            "parameters": report.parameters,
            "quantization": f"lobi {report.bits_per_weight:.2f} bits",
            "files": self._files,
            "provenance": provenance.document(),
        }
        return entry if checkpoint is None else {**entry, "checkpoint": checkpoint}

    def _ladder(self, document: dict[str, Any]) -> list[str]:
        """The ladder with the new tier in it, cheapest first: bytes stand for time."""
        sizes = {
            name: sum(file["bytes"] for file in document["tiers"][name]["files"].values())
            for name in [*document.get("ladder", []), self._to.tier]
        }
        return sorted(sizes, key=lambda name: sizes[name])

    def _copy_to(self, folder: Path) -> None:
        """The files, under their digest; nothing when they are there."""
        place = folder / ARTIFACTS / self._digest
        if place.is_dir():
            # Its report may be of another run of the same job: the entry has this one's digest.
            shutil.copyfile(self._built / REPORT_FILE, place / f"{REPORT_FILE}.part")
            (place / f"{REPORT_FILE}.part").replace(place / REPORT_FILE)
            return
        part = place.with_name(f".{self._digest[:16]}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name in (*self._files, REPORT_FILE):
            shutil.copyfile(self._built / name, part / name)
            _sync(part / name)
        part.rename(place)

    def _forget_old(self, folder: Path, document: dict[str, Any]) -> None:
        """Keep what is in use, and the newest of what is not: somebody may be loading it."""
        in_use = {Path(entry["path"]).name for entry in document["tiers"].values()}
        others = [
            place
            for place in (folder / ARTIFACTS).iterdir()
            if place.name not in in_use and not place.name.startswith(".")
        ]
        others.sort(key=lambda place: place.stat().st_mtime, reverse=True)
        for place in others[KEPT_ARTIFACTS:]:
            shutil.rmtree(place, ignore_errors=True)


def _copy_base(base: Family, staging: Path, to: Publication) -> dict[str, Any]:
    """The base family's manifest, and its other tiers' files, linked where possible."""
    document: dict[str, Any] = json.loads((base.path / MANIFEST_FILE).read_text(encoding="utf-8"))
    for tier in base.tiers:
        if tier.name == to.tier:
            del document["tiers"][tier.name]
            continue
        place = staging / tier.name
        place.mkdir(parents=True)
        report = [REPORT_FILE] if (tier.path / REPORT_FILE).is_file() else []
        for name in (*tier.files, *report):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            take_file(tier.path / name, place / name)
        document["tiers"][tier.name]["path"] = tier.name
        document["tiers"][tier.name].pop("checkpoint", None)
    return document


def _write_manifest(folder: Path, document: dict[str, Any]) -> None:
    part = folder / f"{MANIFEST_FILE}.part"
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _sync(part)
    part.replace(folder / MANIFEST_FILE)


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One publication at a time in a family; the lock goes with its process."""
    with (folder / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
