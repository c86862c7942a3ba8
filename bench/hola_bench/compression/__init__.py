"""`hola bench compression`: Lo-Bi against its peers at equal bytes, and what each step is worth."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hola.errors import InvalidRequest
from hola.extras import check_installed
from hola.models.store import ModelStore
from hola_bench.report import Report

DEFAULT_POINTS = (2.3, 2.6, 3.2, 4.2, 4.6, 4.9, 5.1, 8.1)
_NEEDED = ("torch", "transformers", "onnxruntime_genai", "highspy", "peft")
PARTS = ("pareto", "ablation", "repair", "prune", "draft")
DEFAULT_PARTS = ("pareto", "ablation", "prune", "draft")  # repair takes a training per point


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure. `data` is a text file or folder of another kind; "" leaves it out.

    `points` are bits per weight of the whole artifact. `quick` takes few tokens and steps: it
    shows that everything runs, its figures mean nothing. `work` keeps passes between runs.
    `picture` is a PNG to draw the front into; "" draws none.
    """

    models_dir: str
    model: str = "demo"
    tier: str = ""
    data: str = ""
    points: tuple[float, ...] = DEFAULT_POINTS
    parts: tuple[str, ...] = DEFAULT_PARTS
    steps: int = 60
    tokens: int = 6144
    questions: int = 160
    seeds: int = 1
    seed: int = 0
    quick: bool = False
    work: str = ""
    picture: str = ""


def parse_points(text: str) -> tuple[float, ...]:
    """Bits per weight, separated by commas. Raises InvalidRequest."""
    try:
        points = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest(f"points must be numbers, got {text!r}", field="points") from error
    if not all(1 <= point <= 32 for point in points):
        raise InvalidRequest(f"points must be 1 to 32 bits, got {text!r}", field="points")
    return points


def parse_parts(text: str) -> tuple[str, ...]:
    """Parts of the benchmark, separated by commas. Raises InvalidRequest."""
    parts = tuple(part.strip() for part in text.split(","))
    if unknown := sorted(set(parts) - set(PARTS)):
        known = ", ".join(PARTS)
        raise InvalidRequest(f"part {unknown[0]!r} is none of {known}", field="parts")
    return parts


def run(options: Options) -> Report:
    """Run the benchmark on one tier of a family. Raises what loading and compressing it raises."""
    for module in _NEEDED:
        check_installed(module, "compress")
    from hola_bench.compression.suite import Suite

    began = time.monotonic()
    family = ModelStore.at(options.models_dir).get(options.model)
    with tempfile.TemporaryDirectory(prefix="hola-bench-") as scratch:
        work = Path(options.work or scratch)
        work.mkdir(parents=True, exist_ok=True)
        suite = Suite(options, family, work)
        headline, details = suite.run()
    return Report(
        bench="compression",
        seed=options.seed,
        repeats=options.seeds,
        headline=headline,
        details={**details, "minutes": round((time.monotonic() - began) / 60, 1)},
    )
