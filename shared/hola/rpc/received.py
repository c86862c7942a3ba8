"""What a client has of a stream, so that the events of another connection add only what is new."""

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
class Received:
    """A stream's progress across connections; each of them repeats the stream's past.

    The first `settled` output tokens are final. `tail` are those received behind them that a
    Correction may still take back (Outage.LOCAL): of these, and of nothing else, a later connection
    may tell another story, when the journal has lost its youngest entries and another drafter has
    written them anew. So they are compared, and a difference becomes a Correction.

    Every connection brings all Corrections of the stream, in order. What it says before the last of
    those seen here is past, and is only noted (`past`): should that Correction have been lost with
    the journal's youngest entries, final tokens or an end come instead.
    """

    settled: int = 0
    tail: list[TokenEvent] = field(default_factory=list)
    started: Started | None = None
    corrections: int = 0
    repeated: int = 0
    past: list[TokenEvent] | None = None

    @property
    def position(self) -> int:
        """Tokens received that hold so far."""
        return self.settled + len(self.tail)

    def connect(self) -> None:
        """A new connection begins; it has to be asked for the tokens from `settled` on."""
        self.repeated = 0
        self.past = [] if self.corrections else None

    def add(self, event: GenerateEvent) -> list[GenerateEvent]:
        """What of an event is new, in order. Raises ProtocolViolation on a gap between tokens."""
        match event:
            case Started():
                known, self.started = self.started, self.started or event
                return [event] if known is None else []
            case Tokens():
                return self._tokens(event)
            case Correction():
                return self._correction(event)
            case Summary():
                return [*self._catch_up(), *self._cut_to(event.completion_tokens), event]
            case Failure():
                return [*self._catch_up(), event]

    def _tokens(self, event: Tokens) -> list[GenerateEvent]:
        final = self._is_final(event)
        if self.past is None:
            return self._merge(event, final)
        if final and event.position + len(event.tokens) > self.settled:
            return [*self._catch_up(), *self._merge(event, final)]
        if not final:
            self._note(event)
        return []

    def _correction(self, event: Correction) -> list[GenerateEvent]:
        caught_up: list[GenerateEvent] = []
        if self.past is not None:
            if event.position <= self.settled:
                self.past.clear()
                self.repeated += 1
                return self._catch_up() if self.repeated == self.corrections else []
            caught_up = self._catch_up()
        self._check_gap(event.position, self.position)
        self.repeated += 1
        self.corrections = self.repeated
        self.settled, self.tail = event.position, []
        return [*caught_up, event]

    def _merge(self, event: Tokens, final: bool) -> list[GenerateEvent]:
        """Tokens of the present: those behind what is held, or instead of it."""
        self._check_gap(event.position, self.position)
        event = _from(event, self.settled)
        if not event.tokens:
            return []
        if final:
            taken_back = self._cut_to(event.position)
            self.settled = event.position + len(event.tokens)
            return [*taken_back, event]
        at = event.position - self.settled
        held = self.tail[at : at + len(event.tokens)]
        pairs = zip(held, event.tokens, strict=False)
        same = next((n for n, (ours, theirs) in enumerate(pairs) if ours != theirs), len(held))
        taken_back = self._cut_to(event.position + same) if same < len(held) else []
        fresh = _from(event, event.position + same)
        self.tail += fresh.tokens
        return [*taken_back, *([fresh] if fresh.tokens else [])]

    def _cut_to(self, position: int) -> list[GenerateEvent]:
        """Take the tail back to an output position, if it is longer."""
        if not self.settled <= position < self.position:
            return []
        del self.tail[position - self.settled :]
        return [Correction(position=position)]

    def _note(self, event: Tokens) -> None:
        past = self.past if self.past is not None else []
        self._check_gap(event.position, self.settled + len(past))
        event = _from(event, self.settled)
        if event.tokens:
            past[event.position - self.settled :] = event.tokens

    def _catch_up(self) -> list[GenerateEvent]:
        """The past is over: what the connection has said so far holds."""
        past, self.past = self.past, None
        if past is None:
            return []
        self.corrections = self.repeated
        if not past:
            return []
        return self._merge(Tokens(position=self.settled, tokens=tuple(past)), False)

    def _is_final(self, event: Tokens) -> bool:
        gated = self.started is not None and self.started.exactness is Exactness.GATED
        return gated or any(token.outcome is not Outcome.UNVERIFIED for token in event.tokens)

    @staticmethod
    def _check_gap(position: int, received: int) -> None:
        if position > received:
            raise ProtocolViolation(
                f"tokens from {received} to {position} are missing",
                expected=received,
                got=position,
            )


def _from(event: Tokens, position: int) -> Tokens:
    """The part of an event from an output position on."""
    if event.position >= position:
        return event
    return replace(event, position=position, tokens=event.tokens[position - event.position :])
