"""What a compression job found, as dataclasses and as JSON: the form of report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid

REPORT_FILE = "report.json"
REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Measured on one text, against the original in fp32.

    `kld_*` are nats per token, original || compressed. `top1_agreement` is the share of positions
    where both have the same first choice.
    """

    text: str
    tokens: int
    perplexity: float
    original_perplexity: float
    kld_mean: float
    kld_p99: float
    top1_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place on a Pareto picture: bytes on disk against quality."""

    name: str
    bytes: int
    bits_per_weight: float
    kld_mean: float
    perplexity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """What one tensor got: a row of the heat map.

    `layer` is -1 outside the layers; `kind` is qkv_proj, down_proj, lm_head...; `damage` is the
    KL measured with only this tensor quantized.
    """

    name: str
    layer: int
    kind: str
    rows: int
    columns: int
    bits: int
    block: int
    symmetric: bool
    bytes: int
    damage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRow:
    """One pass as it ran: the KL on calibration text after it (None: not measured).

    `kept` is False where the pass made it worse and its result was dropped; `note` says so.
    """

    name: str
    kld_mean: float | None = None
    kept: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """The numerics probe of the artifact, and its logits against the simulation in torch."""

    exact: bool
    fingerprint: str
    reason: str = ""
    max_logit_error: float = 0.0
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Tokens/s, median of interleaved runs, and memory while running, bytes.

    `resident_bytes` are the weights as the kernels hold them; `peak_bytes` is the most that a
    process of its own had resident while it loaded the model and decoded, runtime included.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    original_prefill_tokens_per_s: float
    original_decode_tokens_per_s: float
    resident_bytes: int = 0
    peak_bytes: int = 0
    original_peak_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """Accuracy on a task set before and after; `metric` is ema (exact match) or mca (choice)."""

    task: str
    metric: str
    questions: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRow:
    """The artifact as a draft of a target: accepted share and tokens/s over plain decoding.

    `head_rows` is how many tokens its output layer scores; 0: all.
    """

    target: str
    acceptance: float
    tokens_per_s: float
    plain_tokens_per_s: float
    draft_tokens: int
    head_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a person needs to trust the artifact.

    `bytes` are all files an engine loads (graph and weights), `overhead_bytes` the part of them
    that is not quantized tensors; `bits_per_weight` is `bytes` over the original's parameters.
    """

    source: str
    parameters: int
    bytes: int
    overhead_bytes: int
    bits_per_weight: float
    original_bytes: int
    budget_bytes: int | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    calibration_sha256: str = ""
    tokenizer_fingerprint: str = ""
    license: str = ""
    quality: tuple[Quality, ...] = ()
    tensors: tuple[TensorRow, ...] = ()
    passes: tuple[PassRow, ...] = ()
    pareto: tuple[Point, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    exactness: Exactness | None = None
    speed: Speed | None = None
    draft: DraftRow | None = None

    def document(self) -> dict[str, Any]:
        """As JSON's own types; a number that is not finite becomes null."""
        return {"format": REPORT_FORMAT, **_clean(asdict(self))}


_ROWS: dict[str, type] = {
    "quality": Quality,
    "tensors": TensorRow,
    "passes": PassRow,
    "pareto": Point,
    "tasks": TaskRow,
}
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "float": (int, float), "int": int, "str": str, "bool": bool,
}  # fmt: skip
_SINGLE: dict[str, type] = {"exactness": Exactness, "speed": Speed, "draft": DraftRow}


def write_report(report: Report, path: Path) -> None:
    """Write report.json in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read_report(path: Path) -> Report:
    """Read report.json. Raises ArtifactInvalid."""
    try:
        return parse_report(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"{path.name} cannot be read: {error}", path=path) from error


def parse_report(document: object) -> Report:
    """A report out of a decoded document. Raises ArtifactInvalid for what is not one."""
    if not isinstance(document, Mapping) or document.get("format") != REPORT_FORMAT:
        raise ArtifactInvalid(f"this is no compression report of format {REPORT_FORMAT}")
    values = {key: value for key, value in document.items() if key != "format"}
    for key, kind in _ROWS.items():
        rows = values.get(key, [])
        if not isinstance(rows, list):
            raise ArtifactInvalid(f"report: {key} must be a list")
        values[key] = tuple(_build(kind, row, key) for row in rows)
    for key, kind in _SINGLE.items():
        if values.get(key) is not None:
            values[key] = _build(kind, values[key], key)
    built = _build(Report, values, "report")
    assert isinstance(built, Report)
    return built


def _build(kind: type, row: object, where: str) -> Any:
    if not isinstance(row, Mapping):
        raise ArtifactInvalid(f"report: {where} must hold objects")
    if unknown := sorted(set(row) - {item.name for item in fields(kind)}):
        raise ArtifactInvalid(f"report: {where} has an unknown key {unknown[0]!r}")
    kinds = {item.name: str(item.type) for item in fields(kind)}
    try:
        return kind(**{key: _value(kinds[key], row[key], f"{where}.{key}") for key in row})
    except TypeError as error:
        raise ArtifactInvalid(f"report: {where}: {error}") from error


def _value(annotation: str, value: Any, where: str) -> Any:
    """A number, text or switch as it should be; null is a number that was not finite."""
    base = annotation.removesuffix(" | None")
    expected = _PLAIN.get(base)
    if expected is None or (value is None and base != annotation):
        return value
    if value is None and base == "float":
        return math.nan
    if not isinstance(value, expected) or isinstance(value, bool) is not (base == "bool"):
        raise ArtifactInvalid(f"report: {where} must be {base}, got {value!r:.80}")
    return value


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return value
