"""Test sets in BEIR's form: a corpus, queries, and which documents answer which query."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hola.errors import ArtifactInvalid
from hola.retrieval.types import Chunk, ChunkedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """Documents, queries by id, and for each query the gain of the documents that answer it."""

    __test__ = False  # pytest: not a test class

    name: str
    documents: tuple[ChunkedDocument, ...]
    queries: dict[str, str]
    gains: dict[str, dict[str, float]]


def read_set(folder: Path, split: str = "test") -> TestSet:
    """Read corpus.jsonl[.gz], queries[.SPLIT].jsonl[.gz] and qrels.SPLIT.tsv or qrels/SPLIT.tsv.

    Each document becomes one chunk, as the published figures have it. Only queries with an answer
    are kept. Raises ArtifactInvalid naming what is missing or malformed.
    """
    gains = _gains(_first(folder, [f"qrels.{split}.tsv", f"qrels/{split}.tsv"]))
    texts = _first(folder, _plain_or_gz(f"queries.{split}.jsonl", "queries.jsonl"))
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(texts, ("_id", "text"))}
    corpus = _first(folder, _plain_or_gz("corpus.jsonl"))
    kept = {query: queries[query] for query in gains if query in queries}
    if not kept:
        raise ArtifactInvalid(f"{folder} has no query with an answer in {split!r}", path=folder)
    return TestSet(
        name=folder.resolve().name,
        documents=tuple(_document(row) for row in _rows(corpus, ("_id", "text"))),
        queries=kept,
        gains=gains,
    )


def _document(row: dict[str, Any]) -> ChunkedDocument:
    chunk = Chunk(title=str(row.get("title") or ""), text=str(row["text"]))
    return ChunkedDocument(source=str(row["_id"]), digest=chunk.id, chunks=(chunk,))


def _plain_or_gz(*names: str) -> list[str]:
    return [candidate for name in names for candidate in (name, f"{name}.gz")]


def _first(folder: Path, names: list[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ArtifactInvalid(f"{folder} has none of {', '.join(names)}", path=folder)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict) or any(name not in row for name in needed):
                    raise ArtifactInvalid(f"{path}:{number} lacks one of {', '.join(needed)}")
                yield row
    except (OSError, EOFError, ValueError) as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error}", path=path) from error


def _gains(path: Path) -> dict[str, dict[str, float]]:
    gains: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                gain = float(row["score"])
                if gain > 0:
                    gains.setdefault(row["query-id"], {})[row["corpus-id"]] = gain
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error!r}", path=path) from error
    return gains
