"""What a compression job shall do: objective, budget and the options of every pass, checked.

A plan comes from a YAML or JSON document whose sections are named after the passes; what is left
out has its default, and a key that is not known is refused, since a typing error there would
silently compress with other options.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hola.compression.devices import DEVICES, DeviceProfile
from hola.errors import InvalidRequest
from hola.extras import require

BITS = (2, 3, 4, 5, 6, 8)
BLOCKS = (32, 64, 128)
UNQUANTIZED = 16
SELF_WRITTEN = "self"
_MAX_PLAN_BYTES = 2**20
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB|K|M|G)?", re.IGNORECASE)
_UNITS = {
    "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_MOST = 2**63


class Objective(StrEnum):
    """What the budgeted artifact shall be best at."""

    QUALITY = "quality"  # least damage to the model's distribution
    LATENCY = "latency"  # one per cent of damage is worth one of a decoding step's milliseconds
    DRAFT = "draft"  # most accepted tokens per second with a given target


class Saliency(StrEnum):
    """How the prune pass ranks channels and heads."""

    LORA = "lora"  # gradients of LoRA factors (LoRAPrune, arXiv 2305.18403)
    MAGNITUDE = "magnitude"  # squared weights
    WANDA = "wanda"  # weight times activation norm (Wanda, arXiv 2306.11695)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Text that damage is measured on.

    `source` is "self" (the model writes the text itself, sampled with the plan's seed) or the path
    of a UTF-8 file: .jsonl with a "text" (or "prompt" and "reference") per line, else plain text.
    `tokens` are used for measuring damage and for compensation, `train_tokens` by the passes that
    train; `window` is the length of a row, tokens.
    """

    source: str = SELF_WRITTEN
    tokens: int = 32_768
    train_tokens: int = 262_144
    window: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Shares removed, 0 to 0.9: of each layer's FFN channels and KV-head groups, of the layers."""

    ffn: float = 0.0
    kv_heads: float = 0.0
    layers: float = 0.0
    saliency: Saliency = Saliency.LORA

    @property
    def active(self) -> bool:
        """Whether anything is removed."""
        return max(self.ffn, self.kv_heads, self.layers) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """Distillation from the original after pruning; `steps` 0 leaves it out.

    `rank` of the LoRA adapters that are trained; 0 trains all weights. Without it drafts, which
    lose whole layers, train all weights and others adapters of rank 32. `rate` is the learning
    rate of adapters; all weights take half of it.
    """

    steps: int = 300
    rank: int | None = None
    rate: float = 2e-3
    rows: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Choices the allocator has for each tensor.

    `bits` are widths on disk; the kernel has 2, 4 and 8, and wider ones are unpacked to the next
    of these when the graph is loaded. 16: that tensor stays half precision. `asymmetric` adds
    zero points.
    `compensate` spreads each column's rounding error over the columns still to be rounded
    (GPTQ, arXiv 2210.17323). `accuracy_level` 4 multiplies in 8-bit integers, 0 in fp32.
    `refine` is how often damages are measured again with all tensors rounded, and allocated anew;
    0 by default, since what it chose was never better once compensated (docs/COMPRESSION.md).
    """

    bits: tuple[int, ...] = (*BITS, UNQUANTIZED)
    blocks: tuple[int, ...] = BLOCKS
    symmetric: bool = True
    asymmetric: bool = True
    compensate: bool = True
    accuracy_level: int = 4
    refine: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Training of scales, and of `codes` too, by KL to the original; `steps` 0 leaves it out.

    `rate` is the largest change per step: of a scale as a share of it, of a code in codes times
    10. Training the codes takes 16 bytes of memory per parameter, the scales alone 1 to 2; the
    codes are left alone by default, since training them has not paid (docs/COMPRESSION.md).
    """

    steps: int = 60
    rate: float = 1e-3
    rows: int = 16
    codes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """How many of a family's held-out questions, of each file, the report asks; 0 asks none."""

    questions: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One compression job.

    The budget is exactly one of `target_bytes` (the graph and its weights on disk),
    `bits_per_weight` (the same over the original's parameters) and `device` (a profile's share of
    memory); with none the passes run at one width (`quantize.bits` must then have one value).
    `draft_for` is the directory of the target, required for and only allowed with
    Objective.DRAFT.
    """

    objective: Objective = Objective.QUALITY
    target_bytes: int | None = None
    bits_per_weight: float | None = None
    device: str | None = None
    draft_for: str | None = None
    seed: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    prune: Prune = field(default_factory=Prune)
    recover: Recover = field(default_factory=Recover)
    quantize: Quantize = field(default_factory=Quantize)
    repair: Repair = field(default_factory=Repair)
    tasks: Tasks = field(default_factory=Tasks)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def profile(self) -> DeviceProfile | None:
        """The device's numbers, where the budget is one."""
        return DEVICES[self.device] if self.device else None

    @property
    def recover_rank(self) -> int:
        """Rank of the adapters that recovery trains; 0 for all weights."""
        drafts = self.objective is Objective.DRAFT
        return (0 if drafts else 32) if self.recover.rank is None else self.recover.rank

    def budget_bytes(self, parameters: int) -> int | None:
        """Most bytes of graph and weights for a model of so many parameters; None: no budget."""
        if self.target_bytes is not None:
            return self.target_bytes
        if self.bits_per_weight is not None:
            return int(self.bits_per_weight * parameters / 8)
        return self.profile.model_bytes if self.profile else None

    def document(self) -> dict[str, Any]:
        """The plan as JSON's own types; `parse_plan` reads it back to an equal plan."""
        raw = asdict(self)
        return {key: value for key, value in raw.items() if value is not None}


_SECTIONS: dict[str, type] = {
    "calibration": Calibration,
    "prune": Prune,
    "recover": Recover,
    "quantize": Quantize,
    "repair": Repair,
    "tasks": Tasks,
}
_SPELLED = {"target-size": "target_bytes", "target_size": "target_bytes", "bits": "bits_per_weight"}


def read_plan(path: Path) -> Plan:
    """Read a plan file, .json or else YAML. Raises InvalidRequest, MissingExtra."""
    return parse_plan(read_document(path))


def read_document(path: Path) -> object:
    """What a plan file holds, for `parse_plan`. Raises InvalidRequest, MissingExtra."""
    try:
        if path.stat().st_size > _MAX_PLAN_BYTES:
            raise InvalidRequest(f"{path.name} is larger than a plan can be", field="plan")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"plan {path} cannot be read: {error}", field="plan") from error
    return _load(path, text)


def _load(path: Path, text: str) -> object:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path.name} is not JSON: {error}", field="plan") from error
    yaml = require("yaml", "compress")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"{path.name} is not YAML: {error}", field="plan") from error


def parse_plan(document: object) -> Plan:
    """A plan out of a decoded document (None: all defaults). Raises InvalidRequest naming a key.

    `target_bytes` may be spelled `target-size` and be a text such as "300MB"; `bits_per_weight`
    may be spelled `bits`; dashes and underscores in keys are the same.
    """
    if document is None:
        document = {}
    entries = _keys(document, "plan")
    known = {item.name for item in fields(Plan)}
    values: dict[str, Any] = {}
    for key, value in entries.items():
        name = _SPELLED.get(key, key)
        if name not in known:
            raise _invalid(key, f"is not a key of a plan; known: {', '.join(sorted(known))}")
        if name in _SECTIONS:
            values[name] = _section(name, value)
        elif name == "target_bytes":
            values[name] = parse_size(value)
        else:
            values[name] = _value(Plan, name, value, name)
    return Plan(**values)


def parse_size(value: object) -> int:
    """Bytes of 300000000, "300MB" or "1.5GiB". Raises InvalidRequest."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = int(min(float(match[1]) * _UNITS[(match[2] or "").lower()], _MOST))
    else:
        raise _invalid("target_bytes", f"{value!r} is no size; write 300MB, 1.5GiB or bytes")
    if not 0 < size < _MOST:
        raise _invalid("target_bytes", "is out of range")
    return size


def with_budget(plan: Plan, **budget: Any) -> Plan:
    """The plan with its budget replaced by the one given (the command line's over the file's)."""
    cleared: dict[str, Any] = {"target_bytes": None, "bits_per_weight": None, "device": None}
    return replace(plan, **{**cleared, **budget})


def _section(name: str, value: object) -> object:
    kind = _SECTIONS[name]
    known = {item.name for item in fields(kind)}
    values = {}
    for key, entry in _keys(value if value is not None else {}, name).items():
        if key not in known:
            where = f"{name}.{key}"
            raise _invalid(where, f"is not a key of {name}; known: {', '.join(sorted(known))}")
        values[key] = _value(kind, key, entry, f"{name}.{key}")
    return kind(**values)


def _keys(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _invalid(where, "must be a mapping of names to values")
    return {key.replace("-", "_"): entry for key, entry in value.items()}


def _value(owner: type, name: str, value: object, where: str) -> object:
    """`value` as the field's type; the annotation's text says which."""
    annotation = str(next(item.type for item in fields(owner) if item.name == name))
    base = annotation.removesuffix(" | None")
    if value is None and base != annotation:
        return None
    if base in {"Objective", "Saliency"}:
        kind: type[StrEnum] = Objective if base == "Objective" else Saliency
        if value not in list(kind):
            raise _invalid(where, f"{value!r} is none of {', '.join(kind)}")
        return kind(str(value))
    if base == "tuple[int, ...]":
        many = value if isinstance(value, list | tuple) else [value]
        return tuple(_number(entry, where, whole=True) for entry in many)
    if base in {"int", "float"}:
        return _number(value, where, whole=base == "int")
    expected = {"bool": bool, "str": str}[base]
    if not isinstance(value, expected):
        raise _invalid(where, f"must be {base}, got {value!r}")
    return value


def _number(value: object, where: str, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(where, f"must be a number, got {value!r}")
    if isinstance(value, int) and abs(value) > _MOST:  # more than a float can say
        raise _invalid(where, "is out of range")
    if not math.isfinite(value) or (whole and value != int(value)):
        raise _invalid(where, f"must be {'a whole' if whole else 'a finite'} number, got {value!r}")
    return int(value) if whole else float(value)


def _check(plan: Plan) -> None:
    """Raise InvalidRequest for the first value that no job could use."""
    given = [plan.target_bytes, plan.bits_per_weight, plan.device]
    if sum(value is not None for value in given) > 1:
        raise _invalid("budget", "give one of target_bytes, bits_per_weight and device")
    if plan.device is not None and plan.device not in DEVICES:
        raise _invalid("device", f"{plan.device!r} is unknown; known: {', '.join(DEVICES)}")
    if (plan.objective is Objective.DRAFT) != (plan.draft_for is not None):
        raise _invalid("draft_for", "names the target of objective draft, and only of that")
    if not any(value is not None for value in given) and len(plan.quantize.bits) != 1:
        raise _invalid("budget", "is missing: target_bytes, bits_per_weight or device")
    _check_quantize(plan.quantize)
    ranges = [
        ("bits_per_weight", plan.bits_per_weight, 1.0, 32.0),
        ("target_bytes", plan.target_bytes, 1, 2**62),
        ("seed", plan.seed, 0, 2**32 - 1),
        ("calibration.tokens", plan.calibration.tokens, 512, 2**30),
        ("calibration.train_tokens", plan.calibration.train_tokens, 0, 2**32),
        ("calibration.window", plan.calibration.window, 16, 4096),
        ("prune.ffn", plan.prune.ffn, 0.0, 0.9),
        ("prune.kv_heads", plan.prune.kv_heads, 0.0, 0.9),
        ("prune.layers", plan.prune.layers, 0.0, 0.9),
        ("recover.steps", plan.recover.steps, 0, 10**6),
        ("recover.rank", plan.recover.rank, 0, 1024),
        ("recover.rate", plan.recover.rate, 1e-8, 1.0),
        ("recover.rows", plan.recover.rows, 1, 4096),
        ("quantize.refine", plan.quantize.refine, 0, 16),
        ("repair.steps", plan.repair.steps, 0, 10**6),
        ("repair.rate", plan.repair.rate, 1e-8, 1.0),
        ("repair.rows", plan.repair.rows, 1, 4096),
        ("tasks.questions", plan.tasks.questions, 0, 10**6),
    ]
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise _invalid(name, f"must be {low} to {high}, got {value}")


def _check_quantize(options: Quantize) -> None:
    for name, values, allowed in (
        ("bits", options.bits, (*BITS, UNQUANTIZED)),
        ("blocks", options.blocks, BLOCKS),
    ):
        if not values or set(values) - set(allowed):
            raise _invalid(f"quantize.{name}", f"must be some of {allowed}, got {values}")
    if not options.symmetric and not options.asymmetric:
        raise _invalid("quantize.symmetric", "symmetric and asymmetric cannot both be off")
    if options.accuracy_level not in (0, 4):
        raise _invalid("quantize.accuracy_level", f"must be 0 or 4, got {options.accuracy_level}")


def _invalid(name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{name} {what}", field=name)
