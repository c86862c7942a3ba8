"""Packs documents into training rows and counts every fact that was really consumed."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from tools.tiers import corpus, tokenizer as vocabulary

POOL = 48
STEPS = (6e6, 8e6)


@dataclass
class Packed:
    """A document as token ids with loss weights."""

    ids: list[int]
    weights: list[float]
    facts: list[int]
    task: str


@dataclass
class Position:
    """Everything needed to go on after a restart."""

    seed: int
    number: int = 0
    tokens: int = 0
    level_tokens: float = 0
    knowledge: int = 0
    pool: list[Packed] = field(default_factory=list)
    exposures: Counter[int] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)


def shipped_position(table: Path, seed: int) -> Position:
    """Where a shipped model stands, from its exposure table; the seed gives it new text."""
    stored = json.loads(table.read_text())
    seen = [n for e in stored["entities"] for _, n in e["facts"].values()]
    return Position(
        seed,
        tokens=stored["tokens"],
        level_tokens=stored["tokens"],
        knowledge=sum(seen),
        exposures=Counter({i: n for i, n in enumerate(seen) if n}),
        tasks=Counter(stored["tokens_per_task"]),
    )


def encode(tokenizer: Tokenizer, document: corpus.Document) -> Packed:
    """Tokenize a document piece by piece."""
    ids: list[int] = []
    weights: list[float] = []
    for piece, weight in document.segments:
        new = tokenizer.encode(piece).ids if isinstance(piece, str) else piece
        ids += new
        weights += [weight] * len(new)
    return Packed(ids, weights, document.facts, document.task)


class Feed:
    """Batches of packed rows: token ids, document numbers and which tokens are learned."""

    def __init__(
        self, tokenizer: Tokenizer, position: Position, width: int, level: int | None = None
    ) -> None:
        self.fixed_level = level
        self.tokenizer = tokenizer
        self.at = position
        self.width = width
        self.queue = corpus.exposure_queue()
        first = len(vocabulary.SPECIALS)
        ids = range(first, vocabulary.learned_size(tokenizer))
        self.stream = corpus.documents(position.seed, position.number, self.level, ids)

    def level(self) -> int:
        """The stage of the curriculum."""
        if self.fixed_level is not None:
            return self.fixed_level
        return sum(self.at.level_tokens >= s for s in STEPS)

    def draw(self, knowledge_share: float) -> Packed:
        """The next document; knowledge comes first when it is behind its schedule."""
        at = self.at
        if at.knowledge < int(knowledge_share * len(self.queue)):
            rng = random.Random(f"knowledge:{at.seed}:{at.knowledge}")
            document = corpus.knowledge(rng, self.queue[at.knowledge : at.knowledge + 4])
            at.knowledge += len(document.facts)
        else:
            document = next(self.stream)
            at.number += 1
        return encode(self.tokenizer, document)

    def fill(self, share: float) -> list[Packed]:
        """Documents that together fill one row."""
        pool, room = self.at.pool, self.width
        row: list[Packed] = []
        while True:
            while len(pool) < POOL:
                document = self.draw(share)
                if len(document.ids) <= self.width:
                    pool.append(document)
            fitting = [i for i, d in enumerate(pool) if len(d.ids) <= room]
            if not fitting:
                return row
            # The oldest goes first; later places take what fits best.
            best = fitting[0] if not row else max(fitting, key=lambda i: len(pool[i].ids))
            row.append(pool.pop(best))
            room -= len(row[-1].ids)

    def batch(self, rows: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, document numbers (0: padding) and the mask of learned tokens."""
        shape = (rows, self.width)
        ids = np.full(shape, vocabulary.PAD_ID, np.int64)
        owner = np.zeros(shape, np.int32)
        learned = np.zeros(shape, bool)
        chance = np.random.default_rng((self.at.seed, self.at.tokens)).random(shape)
        for r in range(rows):
            start = 0
            for n, document in enumerate(self.fill(share)):
                end = start + len(document.ids)
                ids[r, start:end] = document.ids
                owner[r, start:end] = n + 1
                learned[r, start:end] = chance[r, start:end] < document.weights
                learned[r, start] = False
                self.at.exposures.update(document.facts)
                self.at.tasks[document.task] += len(document.ids)
                start = end
        self.at.tokens += rows * self.width
        self.at.level_tokens += rows * self.width
        return ids, owner, learned
