"""What a job compresses, found from names: families of the store, hub ids, local directories."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hola.compression.job import CompressionJob
from hola.compression.plan import Plan
from hola.engines.tokenizer import TOKENIZER_FILE, tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest, TokenizerMismatch
from hola.models.checkpoint import count_parameters, download_checkpoint
from hola.models.family import Family
from hola.models.publish import Publication, digest_of_files
from hola.models.store import ModelStore

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
_IDENTITY = ("config.json", "tokenizer.json", "*.safetensors")
DRAFT_TIER = "lobi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint directory, and what is known of it. `base` is the family it is a tier of."""

    checkpoint: Path
    title: str
    tier: str
    base: Family | None = None

    @property
    def parameters(self) -> int:
        """From the files' headers. Raises ArtifactInvalid (pickled weights, a shard not whole)."""
        return count_parameters(self.checkpoint)

    @property
    def license(self) -> str:
        """As the family says it; empty where unknown."""
        return self.base.license if self.base else ""

    def sha256(self) -> str:
        """Over the files that decide what the model says. Reads them all."""
        found = {file.name for pattern in _IDENTITY for file in self.checkpoint.glob(pattern)}
        return digest_of_files(self.checkpoint, sorted(found))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where sources may come from.

    `hub`: hub ids too, which are downloaded. `paths`: directories too, for a job that never left
    the process of the person who gave them. A name means a family before it means a directory.
    """

    store: ModelStore
    hub: bool = False
    paths: bool = False

    def find(
        self, model: str, tier: str = "", progress: Callable[[str], None] = lambda _: None
    ) -> Source:
        """The checkpoint of `model`, a hub id downloaded.

        Raises InvalidRequest, UnknownModel, ArtifactInvalid (no such tier, no checkpoint in it).
        """
        if (folder := self._directory(model)) is not None:
            return _checkpoint(folder, folder.name, tier)
        if "/" in model or "\\" in model:
            return _checkpoint(self._downloaded(model, progress), model, tier)
        family = self.store.get(model)
        chosen = family.tier(tier or family.target.name)
        checkpoint = chosen.checkpoint or chosen.path
        if not (checkpoint / "config.json").is_file():
            raise ArtifactInvalid(
                f"{model}/{chosen.name} was added without its checkpoint (config.json and"
                " *.safetensors), and only that can be compressed",
                model=model,
                tier=chosen.name,
            )
        title = f"{family.name}/{chosen.name}"
        return Source(checkpoint=checkpoint, title=title, tier=chosen.name, base=family)

    def known(self, model: str) -> bool:
        """Whether `find` would look for the model without downloading it."""
        return "/" not in model or self._directory(model) is not None

    def called(self, name: str) -> str:
        """What a source or target is called, wherever it is."""
        folder = self._directory(name)
        return name.rsplit("/", 1)[-1] if folder is None else folder.name

    def local_plan(self, job: CompressionJob, work: Path) -> Plan:
        """The job's plan with the paths it has here.

        A calibration text that came with the job is written into `work`. Raises as `find`.
        """
        plan = job.plan
        if job.calibration:
            file = work / ("calibration.jsonl" if job.calibration_is_jsonl else "calibration.txt")
            file.write_bytes(job.calibration)
            plan = replace(plan, calibration=replace(plan.calibration, source=str(file)))
        if plan.draft_for is not None:
            plan = replace(plan, draft_for=str(self.target(plan.draft_for)))
        return plan

    def target(self, name: str) -> Path:
        """The directory of the target that a draft is made for.

        Raises InvalidRequest (no such directory), UnknownModel.
        """
        folder = self._directory(name)
        if folder is None and self.paths and "/" in name:
            raise InvalidRequest(
                f"draft_for: there is no directory {name[:128]!r}", field="draft_for"
            )
        return folder or self.store.get(name).target.path

    def publication(self, job: CompressionJob, source: Source) -> Publication:
        """Where the job's artifact goes: a draft beside its target, where that is a family's."""
        base, draft_for = source.base, job.plan.draft_for
        if draft_for is not None:
            base = None if self._directory(draft_for) else self.store.get(draft_for)
        return Publication(
            name=job.name,
            tier=job.publish_tier,
            base=base,
            source=source.title,
            source_sha256=source.sha256(),
            plan=job.plan.document(),
            license=source.license,
        )

    def check_tokenizers(self, job: CompressionJob, source: Source) -> None:
        """Raises TokenizerMismatch where the artifact could not join its family or its target."""
        own = self._fingerprint(source.checkpoint)
        others = {}
        if job.plan.draft_for is not None:
            target = self.target(job.plan.draft_for)
            others[job.plan.draft_for] = self._fingerprint(target)
        if job.name in self.store.names():
            others[job.name] = self.store.get(job.name).tokenizer_sha256
        for name, fingerprint in others.items():
            if fingerprint != own:
                raise TokenizerMismatch(
                    f"{source.title} has another tokenizer than {name}",
                    expected=fingerprint,
                    got=own,
                )

    def _fingerprint(self, folder: Path) -> str:
        if not (folder / TOKENIZER_FILE).is_file():
            raise ArtifactInvalid(f"{folder.name} has no {TOKENIZER_FILE}", path=folder.name)
        return tokenizer_fingerprint(folder)

    def check_hub(self, model: str) -> None:
        """Raises InvalidRequest for what is no hub id, or where none may be used."""
        if not _HUB_ID.fullmatch(model):
            wrong = f"model is {model[:128]!r}: a name of a family in the store, never a path"
            if self.paths:
                wrong = f"there is no directory {model[:128]!r}, and no hub id looks like that"
            raise InvalidRequest(wrong, field="model")
        if not self.hub:
            raise InvalidRequest(
                f"{model} is a hub id, and this compressor takes none: set HOLA_COMPRESS_HUB=1"
                " there, or add the model to its store",
                field="model",
            )

    def _directory(self, name: str) -> Path | None:
        """Where the directory of this name is; None for families and hub ids.

        Absolute: what a job keeps from an earlier run is of this directory and no other.
        """
        if not self.paths or name in self.store.names():
            return None
        folder = os.path.expanduser(name)
        return Path(folder).resolve() if os.path.isdir(folder) else None

    def _downloaded(self, model: str, progress: Callable[[str], None]) -> Path:
        self.check_hub(model)
        try:
            return download_checkpoint(model, progress, offline=self.store.offline)
        except ArtifactInvalid as error:
            parent, _, name = model.partition("/")
            if not (self.paths and os.path.isdir(parent)):
                raise
            raise ArtifactInvalid(
                f"the directory {parent} has no {name}, and as a hub id: {error.message}"
            ) from error


def _checkpoint(folder: Path, title: str, tier: str) -> Source:
    """What is compressed where there is no family around it."""
    if tier:
        raise InvalidRequest(f"{title} has no tiers: leave `tier` unset", field="tier")
    if not (folder / "config.json").is_file():
        raise ArtifactInvalid(f"{title} is no checkpoint: it has no config.json")
    return Source(checkpoint=folder, title=title, tier="")
