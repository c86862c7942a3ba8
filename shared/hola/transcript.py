"""What the events of one stream say in the end: which tokens hold, and which of them are final."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hola.errors import ProtocolViolation
from hola.types import (
    Correction,
    Exactness,
    Failure,
    GenerateEvent,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)


@dataclass(slots=True)
class Transcript:
    """Follows a stream from its first event, or from any position on.

    `tokens` are those that hold by now, the first one at output position `first`. All before output
    position `verified` are final: the target's own, or (in GATED mode) committed for good. Those
    behind it were written without the target and may still be taken back. A token that was
    unverified when it came counts as accepted once a Correction has confirmed it.
    """

    first: int = 0
    started: Started | None = None
    tokens: list[TokenEvent] = field(default_factory=list)
    verified: int = 0
    corrections: int = 0
    fingerprint: str = ""
    end: Summary | Failure | None = None

    def __post_init__(self) -> None:
        self.verified = max(self.verified, self.first)

    @property
    def position(self) -> int:
        """Output position of the next token."""
        return self.first + len(self.tokens)

    @property
    def final(self) -> tuple[TokenEvent, ...]:
        """The tokens that cannot change any more."""
        return tuple(self.tokens[: self.verified - self.first])

    @property
    def unverified(self) -> tuple[TokenEvent, ...]:
        """The tokens behind them."""
        return tuple(self.tokens[self.verified - self.first :])

    def note(self, event: GenerateEvent) -> None:
        """Take in the next event. Raises ProtocolViolation where it does not follow."""
        match event:
            case Started():
                self.started = event
                self.fingerprint = event.fingerprint
            case Tokens():
                self._add(event)
            case Correction():
                self._correct(event)
            case Summary() | Failure():
                self.end = event

    def is_provisional(self, event: Tokens) -> bool:
        """Whether a Correction will say what becomes of these tokens."""
        gated = self.started is not None and self.started.exactness is Exactness.GATED
        return not gated and all(t.outcome is Outcome.UNVERIFIED for t in event.tokens)

    def _add(self, event: Tokens) -> None:
        if event.position != self.position:
            raise ProtocolViolation(
                f"tokens for position {event.position} come after {self.position}",
                expected=self.position,
                got=event.position,
            )
        provisional = self.is_provisional(event)
        if not provisional and self.verified < self.position:
            raise ProtocolViolation(
                f"{self.position - self.verified} unverified tokens were not corrected first",
                expected=self.verified,
                got=self.position,
            )
        self.tokens += event.tokens
        if not provisional:
            self.verified = self.position

    def _correct(self, event: Correction) -> None:
        """Streams read from a later position on may be taken back to before it."""
        self.corrections += 1
        self.fingerprint = self.fingerprint or event.fingerprint
        if event.position > self.position:
            raise ProtocolViolation(
                f"a correction at {event.position} of {self.position} tokens",
                expected=self.position,
                got=event.position,
            )
        self.first = min(self.first, event.position)
        confirmed = self.tokens[: event.position - self.first]
        self.tokens = [_confirmed(token) for token in confirmed]
        self.verified = event.position


def _confirmed(token: TokenEvent) -> TokenEvent:
    if token.outcome is not Outcome.UNVERIFIED:
        return token
    return replace(token, outcome=Outcome.ACCEPTED)
