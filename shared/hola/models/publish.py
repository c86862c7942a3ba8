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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.compression.report import REPORT_FILE, read_report
from hola.engines.tokenizer import TOKENIZER_FILE, tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest, TokenizerMismatch
from hola.full_disk import is_full, no_space
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


def publish(
    store: ModelStore,
    built: Path,
    publication: Publication,
    last_look: Callable[[], None] = lambda: None,
) -> Tier:
    """Make `built`, an onnxruntime-genai directory with report.json, the tier that is said.

    Repeating it changes nothing. `last_look` is called when all is read and copied and only
    renames are left; where it raises the family stays as it was.
    Raises InvalidRequest (a name), ArtifactInvalid (the report, a store that cannot be written),
    NoDiskSpace, TokenizerMismatch (not the family's), as `load_family`, and what `last_look`
    raises.
    """
    for name in (publication.name, publication.tier):
        if not NAME.fullmatch(name):
            raise InvalidRequest(f"name {name!r} must match {NAME.pattern}", field="name")
    try:
        artifact = _Artifact(built, publication, last_look)
        if publication.name in store.names():
            family = store.get(publication.name)
            with _locked(family.path):
                artifact.replace_in(load_family(family.path))
        else:
            root = store.roots[-1]
            root.mkdir(parents=True, exist_ok=True)
            with _locked(root):
                artifact.make_family(root)
    except OSError as error:
        if is_full(error):
            message = f"the disk filled up while {publication.name} was written"
            raise no_space(store.roots[-1], message) from error
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

    def __init__(
        self, built: Path, publication: Publication, last_look: Callable[[], None]
    ) -> None:
        self._built = built
        self._to = publication
        self._last_look = last_look
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
        entry = self._entry(old.get("checkpoint", old.get("path")))
        with self._copied_to(family.path) as part:
            self._last_look()
            self._place(part, family.path)
        document["tiers"][self._to.tier] = entry
        if self._to.tier == document["target"]:
            document["tokenizer_sha256"] = self._files[TOKENIZER_FILE]["sha256"]
        elif self._to.tier not in document.get("ladder", []):
            document["ladder"] = self._ladder(document)
        _write_manifest(family.path, document)
        self._forget_old(family.path, document)

    def make_family(self, root: Path) -> None:
        """Make a family around it; it appears all at once, or another's is replaced in.

        Whoever calls has the root's lock.
        """
        folder, base = root / self._to.name, self._to.base
        _clear(root, f".{self._to.name}.*.part")
        staging = root / f".{self._to.name}.{os.getpid()}.part"
        staging.mkdir()
        try:
            document = _copy_base(base, staging, self._to) if base else self._bare()
            document["name"] = self._to.name
            with self._copied_to(staging) as part:
                self._place(part, staging)
            target = document["target"]
            document["tiers"][self._to.tier] = self._entry(None)
            if self._to.tier == target:
                document["tokenizer_sha256"] = self._files[TOKENIZER_FILE]["sha256"]
            elif self._to.tier not in document["ladder"]:
                document["ladder"] = self._ladder(document)
            _write_manifest(staging, document)
            load_family(staging)
            self._last_look()
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

    @contextmanager
    def _copied_to(self, folder: Path) -> Iterator[Path]:
        """A copy under a temporary name, which does not outlive the block; of files not there yet.

        Whoever calls has the family's lock.
        """
        artifacts = folder / ARTIFACTS
        _clear(artifacts, ".*.part")
        is_there = (artifacts / self._digest).is_dir()
        names = [REPORT_FILE] if is_there else [*self._files, REPORT_FILE]
        part = artifacts / f".{self._digest[:16]}.{os.getpid()}.part"
        part.mkdir(parents=True)
        try:
            for name in names:
                shutil.copyfile(self._built / name, part / name)
                _sync(part / name)
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _place(self, part: Path, folder: Path) -> None:
        """Give a copy its name, the digest. Files that are there already are the same."""
        place = folder / ARTIFACTS / self._digest
        if place.is_dir():
            # Its report may be of another run of the same job: the entry has this one's digest.
            (part / REPORT_FILE).replace(place / REPORT_FILE)
        else:
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


def _clear(folder: Path, pattern: str) -> None:
    """What publications left that were killed: whoever has the lock is the only one at work."""
    for part in folder.glob(pattern):
        shutil.rmtree(part, ignore_errors=True)


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One publication at a time in a family, or of new ones in a root.

    The lock goes with its process.
    """
    with (folder / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
