"""Writes the tables of docs/OBSERVABILITY.md: `python -m hola_cli.metrics_reference PAGE`.

They stand between two comments, so that the rest of the page is written by people.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.registry import Collector

from hola.metrics import Metrics

TABLE = re.compile(
    r"(?<=<!-- metrics: made by hola_cli.metrics_reference -->\n).*?(?=<!-- end -->)", re.S
)


@dataclass(frozen=True, slots=True)
class Series:
    """A metric as it is scraped: a counter's name ends with _total."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def scraped(self) -> tuple[str, ...]:
        """The names that a query may use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def series() -> Sequence[Series]:
    """Every metric that a service can show, by name."""
    registry = Metrics("docs").registry
    collectors: Any = registry._collector_to_names
    return sorted(_all(collectors), key=lambda each: each.name)


def table() -> str:
    """The table as Markdown."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in series():
        if each.name.startswith("hola_"):
            labels = ", ".join(f"`{label}`" for label in each.labels)
            lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.meaning} |")
    return "\n".join(lines) + "\n"


def renewed(page: str) -> str:
    """The page with the table as it is now."""
    return TABLE.sub(lambda _: table(), page)


def _all(collectors: Sequence[Collector]) -> Iterator[Series]:
    for collector in collectors:
        described = getattr(collector, "describe", collector.collect)()
        labels = tuple(getattr(collector, "_labelnames", ()))
        for family in described:
            suffix = "_total" if family.type == "counter" else ""
            yield Series(
                name=family.name + suffix,
                kind=family.type,
                labels=labels or tuple(getattr(family, "_labelnames", ())),
                meaning=family.documentation,
            )


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renewed(file.read_text("utf-8")), "utf-8")
