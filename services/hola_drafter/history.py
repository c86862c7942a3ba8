"""What a journal already says about a request, for the drafter that takes it over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hola.types import (
    Failure,
    GenerateEvent,
    JournalEntry,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)


@dataclass(frozen=True, slots=True)
class History:
    """The events of a request so far: its Started, its committed tokens, whether it has ended."""

    started: Started | None = None
    committed: tuple[TokenEvent, ...] = ()
    ended: bool = False

    @classmethod
    def of(cls, entries: Iterable[JournalEntry]) -> History:
        """Read a journal from its start."""
        started: Started | None = None
        committed: list[TokenEvent] = []
        ended = False
        for entry in entries:
            match entry.event:
                case Started() as started:
                    pass
                case Tokens(position=position, tokens=tokens):
                    committed[position:] = tokens
                case Summary() | Failure():
                    ended = True
        return cls(started, tuple(committed), ended)

    @property
    def fingerprint(self) -> str:
        """The numerics fingerprint the output so far was made with; empty if there is none."""
        return "" if self.started is None else self.started.fingerprint

    def draft_tiers(self, wanted: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """The ladder to go on with: the one already announced to the client, else `wanted`."""
        return wanted if self.started is None else self.started.tiers[:-1]

    def adapt(self, event: GenerateEvent, tiers: tuple[str, ...]) -> GenerateEvent | None:
        """An event of a drafter with `tiers` as the client of this history must see it.

        Tier numbers keep meaning what the first Started said; a second Started is dropped (None).
        A tier the first drafter did not have counts as the target's.
        """
        if self.started is None:
            return event
        match event:
            case Started():
                return None
            case Tokens(tokens=tokens) if tiers != self.started.tiers:
                renumbered = tuple(self._renumber(token, tiers) for token in tokens)
                return replace(event, tokens=renumbered)
        return event

    def _renumber(self, token: TokenEvent, tiers: tuple[str, ...]) -> TokenEvent:
        known = self.started.tiers if self.started is not None else tiers
        name = tiers[token.tier]
        tier = known.index(name) if name in known else len(known) - 1
        return replace(token, tier=tier)


NEW = History()
