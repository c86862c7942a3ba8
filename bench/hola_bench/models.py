"""Model tiers as a benchmark loads them: a family's, or scripted ones for its own tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hola.engines import SCRIPTED_PREFIX, load_engine
from hola.engines.scripted import ScriptedTokenizer
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family
from hola.ports import Engine, Tokenizer

BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What to load, small enough to be sent to another process.

    `target` and the drafts' second members are model directories or "scripted:..." specs; drafts
    are cheapest first.
    """

    name: str
    target: str
    drafts: tuple[tuple[str, str], ...]
    artifact_digest: str = ""

    @classmethod
    def of(cls, family: Family) -> Models:
        """A family's tiers."""
        return cls(
            name=family.name,
            target=str(family.target.path),
            drafts=tuple((tier.name, str(tier.path)) for tier in family.ladder),
            artifact_digest=family.target.digest,
        )

    @property
    def scripted(self) -> bool:
        """Whether no model file is behind it."""
        return self.target.startswith(SCRIPTED_PREFIX)

    @property
    def draft_names(self) -> tuple[str, ...]:
        """Cheapest first."""
        return tuple(name for name, _ in self.drafts)


@dataclass(frozen=True, slots=True)
class Letters:
    """A tokenizer for vocabularies too small for bytes: one letter per id, from `a` on."""

    vocab_size: int

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the vocabulary's size."""
        return hashlib.sha256(f"letters {self.vocab_size}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of letters."""
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """Letters of ids."""
        return "".join(chr(ord("a") + token) for token in tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Loaded tiers."""

    target: Engine
    drafts: Mapping[str, Engine]
    tokenizer: Tokenizer

    def close(self) -> None:
        """Free all weights."""
        for engine in (self.target, *self.drafts.values()):
            engine.close()


def load(models: Models, *, threads: int) -> Engines:
    """Load every tier. Raises what `load_engine` and `load_tokenizer` raise."""
    target = load_engine(_place(models.target), threads=threads)
    drafts = {name: load_engine(_place(where), threads=threads) for name, where in models.drafts}
    tokenizer: Tokenizer
    if models.scripted and target.info.vocab_size < BYTES:
        tokenizer = Letters(target.info.vocab_size)
    elif models.scripted:
        tokenizer = ScriptedTokenizer(target.info.vocab_size)
    else:
        tokenizer = load_tokenizer(Path(models.target))
    return Engines(target=target, drafts=drafts, tokenizer=tokenizer)


def _place(where: str) -> Path | str:
    return where if where.startswith(SCRIPTED_PREFIX) else Path(where)
