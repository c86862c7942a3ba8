"""What a journal already says about a request, for the drafter that takes it over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hola.transcript import Transcript
from hola.types import JournalEntry, Started, TokenEvent


@dataclass(frozen=True, slots=True)
class History:
    """The events of a request so far.

    Its Started, its committed tokens, those behind them that were written without a verifier, the
    numerics it was made with, the number of Corrections, whether it has ended, and the number of
    its entries.
    """

    started: Started | None = None
    committed: tuple[TokenEvent, ...] = ()
    unverified: tuple[TokenEvent, ...] = ()
    fingerprint: str = ""
    corrections: int = 0
    ended: bool = False
    entries: int = 0

    @classmethod
    def of(cls, entries: Iterable[JournalEntry]) -> History:
        """Read a journal from its start. Raises ProtocolViolation on one that does not add up."""
        transcript, count = Transcript(), 0
        for entry in entries:
            transcript.note(entry.event)
            count += 1
        return cls(
            started=transcript.started,
            committed=transcript.final,
            unverified=transcript.unverified,
            fingerprint=transcript.fingerprint,
            corrections=transcript.corrections,
            ended=transcript.end is not None,
            entries=count,
        )


NEW = History()
