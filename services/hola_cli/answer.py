"""Collects one stream of events into an answer, showing each event as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, cast

from hola.errors import HolaError, ProtocolViolation, from_reason
from hola.transcript import Transcript
from hola.types import Failure, GenerateEvent, Started, Summary, TokenEvent


class Screen(Protocol):
    """Shows a stream while it runs."""

    def show(self, event: GenerateEvent) -> None:
        """Show one event."""
        ...


class Blank:
    """A screen that shows nothing."""

    def show(self, event: GenerateEvent) -> None:
        """Show nothing."""


@dataclass(slots=True)
class Answer:
    """What one request gave; `tokens` are those that hold in the end."""

    started: Started | None = None
    tokens: list[TokenEvent] = field(default_factory=list)
    summary: Summary | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids of the output."""
        return tuple(event.token for event in self.tokens)

    @property
    def text(self) -> str:
        """The output."""
        return "".join(event.text for event in self.tokens)


async def receive(
    events: AsyncIterator[GenerateEvent], screen: Screen | None = None, *, position: int = 0
) -> Answer:
    """Read a stream to its end; it begins at output `position`.

    Raises the HolaError that the stream failed with, and ProtocolViolation when it ended without
    saying how or its tokens do not follow each other.
    """
    screen = screen or Blank()
    transcript = Transcript(first=position)
    async with aclosing(cast("_Closing", events)) as stream:
        async for event in stream:
            transcript.note(event)
            screen.show(event)
            if isinstance(event, Failure):
                raise failed(event)
    if not isinstance(transcript.end, Summary):
        raise ProtocolViolation(
            "the stream ended without a summary: the server may be of another "
            "version (`hola doctor` shows this one's)"
        )
    return Answer(transcript.started, transcript.tokens, transcript.end)


def failed(event: Failure) -> HolaError:
    """The error that travelled as this event."""
    return from_reason(event.reason, event.message, event.details)


class _Closing(Protocol):
    """An asynchronous iterator that can be closed, as generators and our clients are."""

    def __aiter__(self) -> AsyncIterator[GenerateEvent]: ...

    async def aclose(self) -> None: ...
