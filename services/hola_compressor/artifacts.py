"""What is in the store, as the service says it: every tier, and the reports of those with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hola.compression.job import ArtifactInfo
from hola.compression.report import REPORT_FILE, read_report, write_report
from hola.errors import ArtifactCorrupt, InvalidRequest, UnknownModel
from hola.models.family import Family, file_digest
from hola.models.manifest import Tier
from hola.models.publish import Publication
from hola.models.store import ModelStore


def artifact_info(family: Family, tier: Tier) -> ArtifactInfo:
    """One tier."""
    made = tier.provenance
    return ArtifactInfo(
        model=family.name,
        tier=tier.name,
        digest=tier.digest,
        size_bytes=tier.bytes,
        quantization=tier.quantization,
        source=made.source if made else "",
        source_sha256=made.source_sha256 if made else "",
        license=(made.license if made else "") or family.license,
        has_report=made is not None,
    )


def name_sources(built: Path, publication: Publication) -> None:
    """Have the report in `built` name what the job named, instead of this machine's paths.

    Raises ArtifactInvalid when there is none.
    """
    report, plan = read_report(built / REPORT_FILE), publication.plan
    draft = report.draft and replace(report.draft, target=plan.get("draft_for", ""))
    named = replace(
        report,
        source=publication.source,
        plan=plan,
        license=publication.license or report.license,
        draft=draft,
    )
    write_report(named, built / REPORT_FILE)


def artifacts(store: ModelStore, model: str = "") -> tuple[ArtifactInfo, ...]:
    """By family, then tier; of `model` alone where it is named. Raises UnknownModel."""
    families = (store.get(model),) if model else store.list()
    found = [artifact_info(family, tier) for family in families for tier in family.tiers]
    return tuple(sorted(found, key=lambda info: (info.model, info.tier)))


def report_text(store: ModelStore, model: str, tier: str = "") -> tuple[ArtifactInfo, str]:
    """An artifact and its report.json.

    `tier` "" is the only tier with a report. Raises UnknownModel (no such family, tier or report),
    InvalidRequest (which one?), ArtifactCorrupt (it is not the report that was published).
    """
    family = store.get(model)
    reported = [each for each in family.tiers if each.provenance is not None]
    chosen = [each for each in reported if tier in ("", each.name)]
    if not chosen:
        known = ", ".join(each.name for each in reported) or "none; `hola compress` makes them"
        raise UnknownModel(
            f"{model}{'/' + tier if tier else ''} has no report; tiers with one: {known}",
            model=model,
            known=known,
        )
    if len(chosen) > 1:
        names = ", ".join(each.name for each in chosen)
        raise InvalidRequest(f"{model} has several reports: name one of {names}", field="tier")
    return artifact_info(family, chosen[0]), read_checked(chosen[0])


def read_checked(tier: Tier) -> str:
    """The report's text. Raises ArtifactCorrupt unless it is what the manifest says."""
    assert tier.provenance is not None
    file, expected = tier.path / REPORT_FILE, tier.provenance.report
    try:
        got = file_digest(file)
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(
            f"the report of {tier.name} cannot be read: {error}", file=REPORT_FILE
        ) from error
    if got.sha256 != expected.sha256:
        raise ArtifactCorrupt(
            f"the report of {tier.name} was changed since it was published: compress again",
            file=REPORT_FILE,
            expected=expected.sha256,
            got=got.sha256,
        )
    return text
