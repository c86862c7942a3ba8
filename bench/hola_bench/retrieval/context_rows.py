"""Questions with passages of which some are marked as supporting, and the sentences that matter."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hola.errors import ArtifactInvalid
from hola.retrieval.context.lexical import folded_words, plain, title_words
from hola.retrieval.context.select import sentences_of
from hola.retrieval.context.signals import Sentence, sentence_signals
from hola.retrieval.terms import match_expression, terms
from hola.retrieval.types import Chunk, Passage

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_YES_NO = {" yes ", " no "}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRow:
    """A question with its passages, best first as BM25 ranks them among themselves.

    `supporting` by rank is the set's own mark. `needed` is derived from it, by sentence: in a
    supporting passage, those that hold a reference answer or name another supporting passage's
    title; where none does, the first. `fitted`: the shipped weights have seen this question.
    """

    qid: str
    question: str
    passages: tuple[Passage, ...]
    supporting: tuple[bool, ...]
    sentences: tuple[Sentence, ...]
    needed: Bools
    answers: tuple[str, ...]
    fitted: bool

    def signals(self, cosines: Sequence[float] | None = None) -> Array:
        """Of its sentences."""
        titles = [passage.chunk.title for passage in self.passages]
        return sentence_signals(self.question, titles, self.sentences, cosines)


def read_context_rows(path: Path) -> list[ContextRow]:
    """Read a set. Raises ArtifactInvalid naming the line that is malformed."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            rows = list(_rows(path, lines))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error}", path=path) from error
    if not rows:
        raise ArtifactInvalid(f"{path} has no question with a supporting passage", path=path)
    return rows


def is_fitted(qid: str) -> bool:
    """Whether a question is of the half that weights are fitted on: a coin thrown with its id."""
    return hashlib.sha256(qid.encode()).digest()[0] % 2 == 0


def _rows(path: Path, lines: Any) -> Iterator[ContextRow]:
    for number, line in enumerate(lines, 1):
        try:
            row = _row(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ArtifactInvalid(f"{path}:{number}: {error!r}", path=path) from error
        if any(row.supporting) and row.sentences:
            yield row


def _row(stored: dict[str, Any]) -> ContextRow:
    found = [
        (
            Passage(
                chunk=Chunk(title=str(item["title"]), text=str(item["text"])),
                source=str(number),
                ordinal=0,
                score=0.0,
            ),
            bool(item["supporting"]),
        )
        for number, item in enumerate(stored["paragraphs"])
    ]
    question = str(stored["question"])
    order = _ranked(question, [passage.chunk for passage, _ in found])
    passages = tuple(found[index][0] for index in order)
    supporting = tuple(found[index][1] for index in order)
    sentences = sentences_of(passages)
    answers = tuple(plain(words) for ref in stored["refs"] if (words := folded_words(str(ref))))
    return ContextRow(
        qid=str(stored["qid"]),
        question=question,
        passages=passages,
        supporting=supporting,
        sentences=sentences,
        needed=_needed(passages, supporting, sentences, answers),
        answers=answers,
        fitted=is_fitted(str(stored["qid"])),
    )


def _ranked(question: str, chunks: Sequence[Chunk]) -> list[int]:
    """Chunks by FTS5's BM25 among themselves, as the embedded store weighs it; others behind."""
    table = sqlite3.connect(":memory:")
    try:
        table.execute("CREATE VIRTUAL TABLE t USING fts5(title, text, tokenize='porter unicode61')")
        table.executemany(
            "INSERT INTO t(rowid, title, text) VALUES (?, ?, ?)",
            [(number, chunk.title, chunk.text) for number, chunk in enumerate(chunks)],
        )
        query = "SELECT rowid FROM t WHERE t MATCH ? ORDER BY bm25(t, 2.0, 1.0), rowid"
        words = match_expression(terms(question))
        hits = [row for (row,) in table.execute(query, (words,))] if words else []
    finally:
        table.close()
    return [*hits, *(number for number in range(len(chunks)) if number not in set(hits))]


def _needed(
    passages: Sequence[Passage],
    supporting: Sequence[bool],
    sentences: Sequence[Sentence],
    answers: Sequence[str],
) -> Bools:
    needed = np.zeros(len(sentences), np.bool_)
    titles = [plain(title_words(passage.chunk.title)) for passage in passages]
    told = [answer for answer in answers if answer not in _YES_NO]
    for rank in np.flatnonzero(supporting).tolist():
        others = [
            titles[other]
            for other in np.flatnonzero(supporting).tolist()
            if other != rank and titles[other].strip() and titles[other] not in titles[rank]
        ]
        inside = [row for row, sentence in enumerate(sentences) if sentence.rank == rank]
        hits = [
            row
            for row in inside
            if any(mark in plain(sentences[row].words) for mark in (*told, *others))
        ]
        needed[hits or inside[:1]] = True
    return needed
