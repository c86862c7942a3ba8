"""Questions answered without and with retrieval, from files in the form of the public gate set."""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid
from hola.retrieval.gate.logs import LogEntry

SINGLE_HOP = ("nq", "squad", "trivia")
_NEEDED = ("dataset", "qid", "question", "refs", "nor", "nor_in", "oner", "oner_in")
# Questions about one SQuAD paragraph or article have neighbouring numbers.
_NEIGHBOURS = 200
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset(("a", "an", "the"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One question: whether the reference was in the answer without and with one retrieval.

    `entry` is what a gate learns from: graded scores, the mean of that and the answer's F1.
    `neighbourhood` is a guess at the document the question is about.
    """

    dataset: str
    none: bool
    light: bool
    entry: LogEntry
    neighbourhood: str


def read_rows(path: Path) -> list[GateRow]:
    """Read a gate set. Raises ArtifactInvalid naming the line that is malformed."""
    try:
        with path.open(encoding="utf-8") as lines:
            return list(_rows(path, lines))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error}", path=path) from error


def _rows(path: Path, lines: Any) -> Iterator[GateRow]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            missing = [name for name in _NEEDED if name not in row]
            if missing:
                raise ValueError(f"{missing[0]} is missing")
            yield _row(row)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactInvalid(f"{path}:{number}: {error}", path=path) from error


def _row(row: dict[str, Any]) -> GateRow:
    none, light = bool(row["nor_in"]), bool(row["oner_in"])
    refs = [str(ref) for ref in row["refs"]]
    entry = LogEntry(
        question=str(row["question"]),
        none=(none + f1(str(row["nor"]), refs)) / 2,
        light=(light + f1(str(row["oner"]), refs)) / 2,
        answer=str(row["nor"]),
        signals=dict(_uncertainties(row.get("unc"), "u_unc")),
    )
    return GateRow(
        dataset=str(row["dataset"]),
        none=none,
        light=light,
        entry=entry,
        neighbourhood=_neighbourhood(str(row["dataset"]), str(row["qid"])),
    )


def f1(answer: str, refs: Sequence[str]) -> float:
    """Best overlap of words with a reference: harmonic mean of precision and recall."""
    said = _normal(answer)
    best = 0.0
    for ref in refs:
        meant = _normal(ref)
        shared = sum((Counter(said) & Counter(meant)).values())
        if shared:
            best = max(best, 2 * shared / (len(said) + len(meant)))
    return best


def _normal(text: str) -> list[str]:
    found = text.lower().translate(_PUNCTUATION).split()
    return [word for word in found if word not in _ARTICLES]


def _uncertainties(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Every finite number inside `value`, named by its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _uncertainties(item, f"{name}_{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _uncertainties(item, f"{name}_{index}")
    elif isinstance(value, int | float) and math.isfinite(value):
        yield name, float(value)


def _neighbourhood(dataset: str, qid: str) -> str:
    number = re.search(r"(\d+)$", qid) if dataset == "squad" else None
    return f"{dataset}-{int(number.group(1)) // _NEIGHBOURS}" if number else ""
