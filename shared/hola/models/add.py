"""Make a model family out of model directories, checkpoints or hub ids."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hola.engines import load_engine
from hola.engines.decoder_config import CONFIG_FILE
from hola.engines.tokenizer import tokenizer_fingerprint
from hola.errors import ArtifactInvalid, InvalidRequest, TokenizerMismatch
from hola.full_disk import is_full, no_space
from hola.models.checkpoint import convert_checkpoint, download_checkpoint
from hola.models.family import Family, TierSource, write_manifest
from hola.models.files import take_file
from hola.models.manifest import NAME

if TYPE_CHECKING:
    from hola.models.store import ModelStore

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

Progress = Callable[[str], None]


def add_model(
    store: ModelStore,
    name: str,
    source: str,
    *,
    drafts: Sequence[str] = (),
    precision: str = "int8",
    progress: Progress | None = None,
) -> Family:
    """Build `name` in the store's last root: a target from `source`, tiers from `drafts`.

    Each source is an onnxruntime-genai directory (taken as it is; large files are hard-linked
    where possible), a Hugging Face checkpoint directory, or a hub id; the last two are converted
    to `precision`. `drafts` are cheapest first and become draft-1, draft-2... Every tier is loaded
    once to see that it runs. The family appears all at once or not at all.
    Raises InvalidRequest (name, precision), ArtifactInvalid, TokenizerMismatch, MissingExtra,
    MemoryBudgetExceeded, NoDiskSpace.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"model name {name!r} must match {NAME.pattern}", field="name")
    if name in store.names():
        raise InvalidRequest(f"there already is a model {name!r}", field="name")
    report = progress or _silent
    root = store.roots[-1]
    staging = root / f".{name}.{os.getpid()}.part"
    try:
        staging.mkdir(parents=True)
        names = [f"draft-{index + 1}" for index in range(len(drafts))]
        ladder = [
            _add_tier(staging / tier, _found(store, draft, report), precision, report)
            for tier, draft in zip(names, drafts, strict=True)
        ]
        target = _add_tier(staging / "target", _found(store, source, report), precision, report)
        _check_tokenizers(staging, target, ladder)
        report("writing digests")
        write_manifest(staging, name=name, target=target, ladder=ladder)
        staging.rename(root / name)
    except OSError as error:
        if is_full(error):
            raise no_space(root, f"the disk filled up while {name} was added") from error
        raise ArtifactInvalid(f"{name} cannot be written to {root}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return store.get(name)


def _found(store: ModelStore, source: str, report: Progress) -> Path:
    """The directory that `source` names, or that the hub sends for it."""
    directory = Path(source).expanduser()
    if directory.is_dir():
        return directory
    if not _HUB_ID.fullmatch(source):
        raise ArtifactInvalid(f"{source!r} is neither a directory nor a hub id (owner/name)")
    return download_checkpoint(source, report, offline=store.offline)


def _add_tier(destination: Path, directory: Path, precision: str, report: Progress) -> TierSource:
    parameters, quantization = 0, ""
    if (directory / CONFIG_FILE).is_file():
        _take_files(directory, destination, report)
    elif (directory / "config.json").is_file():
        quantization = precision
        parameters = convert_checkpoint(
            directory, destination, precision=precision, progress=report
        )
    else:
        raise ArtifactInvalid(
            f"{directory} has neither {CONFIG_FILE} (onnxruntime-genai) nor config.json "
            "(Hugging Face)",
            path=directory,
        )
    report(f"trying {destination.name}")
    load_engine(destination).close()
    return TierSource(
        name=destination.name,
        path=destination.name,
        parameters=parameters,
        quantization=quantization,
    )


def _take_files(source: Path, destination: Path, report: Progress) -> None:
    """Link or copy a directory's own files; links in it are followed, sub-directories left out."""
    destination.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file():
            report(f"taking {file.name}")
            take_file(file, destination / file.name)


def _check_tokenizers(root: Path, target: TierSource, ladder: Sequence[TierSource]) -> None:
    expected = tokenizer_fingerprint(root / target.path)
    for tier in ladder:
        got = tokenizer_fingerprint(root / tier.path)
        if got != expected:
            raise TokenizerMismatch(
                f"{tier.name} and the target have different tokenizers; a ladder shares one",
                tier=tier.name,
                expected=expected,
                got=got,
            )


def _silent(_: str) -> None:
    """Report nothing."""
