"""What a gate learns from: questions with how right the answers were, without and with retrieval.

One JSON object per line (`-` reads standard input):

    {"question": "Who wrote Emma?", "none": 1, "light": 0}

`none` and `light` are the scores, from 0 (wrong) to 1 (right), of the answer without retrieval and
with a light one; graded scores (F1) are allowed and fit better than right or wrong. Optional:
`deep` (score with deep retrieval), `answer` (text of the model's draft answer), `signals` (an
object of numbers, e.g. `u_nll` of a draft), `group` (a name; questions of one group, e.g. about
one document, stay together when the fit is checked).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hola.errors import InvalidRequest

MAX_LINE_CHARS = 1_000_000
_KNOWN = {"question", "none", "light", "deep", "answer", "signals", "group"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One question and what became of its answers; scores from 0 to 1."""

    question: str
    none: float
    light: float
    deep: float | None = None
    answer: str | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    group: str = ""


def read_logs(path: Path | str) -> list[LogEntry]:
    """All entries of a JSONL file, or of standard input where `path` is "-".

    Raises InvalidRequest naming the line and what is wrong with it.
    """
    if str(path) == "-":
        return list(parse_logs(sys.stdin, "standard input"))
    try:
        with Path(path).open(encoding="utf-8") as lines:
            return list(parse_logs(lines, str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", field="logs") from error


def parse_logs(lines: Iterable[str], name: str) -> Iterator[LogEntry]:
    """Entries of lines, empty ones left out; `name` is what errors call them."""
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_CHARS:
            raise _bad(name, number, f"more than {MAX_LINE_CHARS} characters")
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _bad(name, number, f"not JSON: {error}") from error
            yield _entry(row, name, number)


def _entry(row: Any, name: str, number: int) -> LogEntry:
    if not isinstance(row, dict):
        raise _bad(name, number, "not a JSON object")
    if unknown := sorted(row.keys() - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        raise _bad(name, number, f"unknown key {unknown[0]!r}; known: {known}")
    for key in ("question", "answer", "group"):
        if not isinstance(row.get(key) or "", str):
            raise _bad(name, number, f"{key} must be text")
    if not (row.get("question") or "").strip():
        raise _bad(name, number, "question is missing or empty")
    for key in ("none", "light"):
        if row.get(key) is None:
            raise _bad(name, number, f"{key} is missing: the answer's score, from 0 to 1")
    signals = row.get("signals")
    if not isinstance({} if signals is None else signals, dict):
        raise _bad(name, number, "signals must be an object of numbers")
    return LogEntry(
        question=row["question"],
        none=_score(row["none"], "none", name, number),
        light=_score(row["light"], "light", name, number),
        deep=None if row.get("deep") is None else _score(row["deep"], "deep", name, number),
        answer=row.get("answer"),
        signals={
            key: _number(value, f"signals.{key}", name, number)
            for key, value in (signals or {}).items()
        },
        group=row.get("group") or "",
    )


def _score(value: Any, key: str, name: str, number: int) -> float:
    score = _number(value, key, name, number)
    if not 0 <= score <= 1:
        raise _bad(name, number, f"{key} must be from 0 to 1, got {value}")
    return score


def _number(value: Any, key: str, name: str, number: int) -> float:
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise _bad(name, number, f"{key} must be a finite number, got {value!r}")
    return found


def _bad(name: str, number: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"{name}:{number}: {what}", field="logs", line=number)
