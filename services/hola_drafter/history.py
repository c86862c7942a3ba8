"""What a journal already says about a request, for the drafter that takes it over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hola.types import (
    Failure,
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


NEW = History()
