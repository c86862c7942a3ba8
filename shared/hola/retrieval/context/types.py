"""What context selection gives back: passages as they go into the prompt, and what was cut."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hola.retrieval.context.sentences import Span
from hola.retrieval.types import Passage


class CutReason(enum.StrEnum):
    """Why a sentence is not in the prompt."""

    LOW_SCORE = "low_score"
    REDUNDANT = "redundant"
    OVER_BUDGET = "over_budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Characters `start` to `end` (exclusive) of a chunk's text, and where the chunk stands.

    `rank` is the passage's place in the search result, from 0.
    """

    rank: int
    source: str
    title: str
    chunk_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPassage:
    """What is kept of one passage: runs of its text in order, `score` that of its best sentence.

    `tokens` is what it takes in the prompt, its frame included.
    """

    rank: int
    passage: Passage
    runs: tuple[Span, ...]
    score: float
    tokens: int

    @property
    def text(self) -> str:
        """The runs as they stand in the chunk, white space around them removed, a space between."""
        return joined(self.passage.chunk.text, self.runs)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """One for each run."""
        return tuple(
            Citation(
                rank=self.rank,
                source=self.passage.source,
                title=self.passage.chunk.title,
                chunk_id=self.passage.chunk.id,
                start=run.start,
                end=run.end,
            )
            for run in self.runs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSentence:
    """A sentence that was left out: characters of the chunk's text, and why.

    `like` is the rank of the passage that says the same already, for REDUNDANT alone.
    """

    rank: int
    span: Span
    score: float
    reason: CutReason
    like: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A selection: passages in order of rank, everything else as cut sentences.

    `tokens` is what the kept passages take, `offered_tokens` what all of them would have taken.
    """

    passages: tuple[KeptPassage, ...]
    cut: tuple[CutSentence, ...]
    tokens: int
    offered_tokens: int
    budget_tokens: int

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Of all passages, in the order of the prompt."""
        return tuple(citation for kept in self.passages for citation in kept.citations)


def joined(text: str, runs: tuple[Span, ...]) -> str:
    """The runs of a text, each stripped, with a space between."""
    return " ".join(stripped for run in runs if (stripped := run.of(text).strip()))
