"""Options of `hola compress` that make a plan, and the plan they make over one from a file."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hola.compression.devices import DEVICES
from hola.compression.job import MAX_CALIBRATION_BYTES
from hola.compression.plan import read_document
from hola.errors import InvalidRequest

BUDGET = "Budget (one of them)"
_BUDGET_KEYS = {"target_bytes", "target_size", "bits", "bits_per_weight", "device"}


class ObjectiveName(enum.StrEnum):
    """Values of --objective."""

    quality = "quality"
    latency = "latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What the job shall do."""

    target_size: Annotated[
        str | None,
        typer.Option(
            "--target-size",
            metavar="SIZE",
            help="Bytes of graph and weights together, e.g. 300MB or 1.5GiB.",
            rich_help_panel=BUDGET,
        ),
    ] = None
    bits: Annotated[
        float | None,
        typer.Option(
            "--bits",
            metavar="BITS",
            help="The same over the original's parameters, e.g. 4.5.",
            rich_help_panel=BUDGET,
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help=f"What fits a device: {', '.join(DEVICES)}.",
            rich_help_panel=BUDGET,
        ),
    ] = None
    objective: Annotated[
        ObjectiveName | None,
        typer.Option(
            "--objective",
            metavar="quality|latency",
            help="quality: least damage; latency: milliseconds of a step count beside bytes.",
        ),
    ] = None
    draft_for: Annotated[
        str | None,
        typer.Option(
            "--draft-for",
            metavar="FAMILY",
            help="Make a draft tier: most accepted tokens per second with this family's target; "
            "without --compressor also a model directory.",
        ),
    ] = None
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", metavar="FILE", help="Plan, YAML or JSON; options here stand above it."
        ),
    ] = None
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="Text that damage is measured on: UTF-8, or .jsonl with a `text` per line. "
            "Default: the model writes its own.",
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Seed of every random choice.")
    ] = None


def plan_json(options: PlanOptions) -> str:
    """The plan's document as JSON. Raises InvalidRequest, MissingExtra."""
    document: Any = {} if options.plan is None else read_document(options.plan) or {}
    if not isinstance(document, Mapping):
        raise InvalidRequest("a plan is a mapping of names to values", field="plan")
    document = {str(key).replace("-", "_"): value for key, value in document.items()}
    budget = {
        "target_bytes": options.target_size,
        "bits_per_weight": options.bits,
        "device": options.device,
    }
    given = {key: value for key, value in budget.items() if value is not None}
    if given:
        document = {key: value for key, value in document.items() if key not in _BUDGET_KEYS}
    document |= given
    if options.objective is not None:
        document["objective"] = options.objective.value
    if options.draft_for is not None:
        document |= {"draft_for": options.draft_for, "objective": "draft"}
    if options.seed is not None:
        document["seed"] = options.seed
    try:
        return json.dumps(document)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the plan holds what JSON cannot: {error}", field="plan") from None


def read_calibration(options: PlanOptions) -> tuple[bytes, bool]:
    """The text, and whether it is JSON Lines; nothing without a file. Raises InvalidRequest."""
    file = options.calibration
    if file is None:
        return b"", False
    try:
        size = file.stat().st_size
        if size > MAX_CALIBRATION_BYTES:
            raise InvalidRequest(
                f"{file} has {size} bytes, at most {MAX_CALIBRATION_BYTES} are taken",
                field="calibration",
            )
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"calibration {file} cannot be read: {error}", field="calibration"
        ) from error
    if not data.strip():
        raise InvalidRequest(f"calibration {file} is empty", field="calibration")
    return data, file.suffix == ".jsonl"
