"""The one form of every benchmark's result, as JSON and as tables."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version as installed_version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hola import __version__

Number = int | float
SPREAD = ["median", "q1", "q3"]
LIBRARIES = ("onnxruntime", "numpy", "grpcio", "protobuf", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a benchmark found.

    `headline` maps plain names to numbers. `details` holds values of JSON's own types; a list of
    flat objects is a table.
    """

    bench: str
    seed: int
    repeats: int
    headline: Mapping[str, Number]
    details: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The object that `hola bench NAME --json` prints."""
        return {
            "bench": self.bench,
            "version": __version__,
            "machine": machine(),
            "seed": self.seed,
            "repeats": self.repeats,
            "headline": dict(self.headline),
            "details": dict(self.details),
        }


def machine() -> dict[str, str | int]:
    """Where a benchmark ran: processor, cores this process may use, memory, library versions."""
    facts: dict[str, str | int] = {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_mib": memory_mib(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = installed_version(library)
        except PackageNotFoundError:
            facts[library] = "not installed"
    return facts


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name, or the architecture where none is given (most arm64)."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    facts = {key.strip().lower(): value.strip() for key, _, value in pairs}
    for key in ("model name", "model", "hardware"):  # x86, then what arm64 boards may have
        if facts.get(key):
            return facts[key]
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def memory_mib() -> int:
    """Physical memory, MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of some measurements, rounded to be read."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    )
    return {"median": rounded(middle), "q1": rounded(low), "q3": rounded(high)}


def rounded(value: float, digits: int = 4) -> float:
    """The value with that many significant digits."""
    return float(f"{value:.{digits}g}")


def print_report(report: Report, console: Console) -> None:
    """The report as tables: headline first, then every detail."""
    facts = machine()
    console.print(
        f"[bold]{report.bench}[/bold] (hola {__version__}, seed {report.seed}, "
        f"{report.repeats} repeats)"
    )
    console.print(
        f"[dim]{facts['cpu']}, {facts['cores']} cores, {facts['memory_mib']} MiB, "
        f"Python {facts['python']}, onnxruntime {facts['onnxruntime']}[/dim]"
    )
    console.print(_pairs("headline", report.headline))
    scalars = {}
    for name, value in report.details.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            console.print(_rows(name, value))
        elif isinstance(value, Mapping):
            console.print(_pairs(name, value))
        else:
            scalars[name] = value
    if scalars:
        console.print(_pairs("details", scalars))


def _pairs(title: str, pairs: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, _cell(value))
    return table


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numbers = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(
            name.replace("_", " "),
            justify="right" if numbers else "left",
            overflow="fold",
            no_wrap=name == names[0],
        )
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and list(value) == SPREAD:
        return f"{value['median']:.4g} ({value['q1']:.3g} to {value['q3']:.3g})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)
