"""Traces of requests across gRPC and Redis; off, and then next to free, unless HOLA_TRACE is set.

OpenTelemetry does the work, where the `[otel]` extra is installed. Spans hang together by the W3C
`traceparent` (https://www.w3.org/TR/trace-context/): gRPC metadata carry it, and a job's payload.
What a span says are names and numbers; no prompt, no output, no error message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, Literal

from hola.config import Settings
from hola.errors import HolaError
from hola.extras import require

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, Any]

TRACEPARENT = "traceparent"


class Span:
    """One timed step of a request. This one is what there is while nothing is traced."""

    traceparent = ""

    def set(self, attributes: Attributes) -> None:
        """Add attributes; None values are left out."""

    def event(self, name: str) -> None:
        """Note a moment."""

    def end(self, *, error: str = "") -> None:
        """It is over; `error` is the kind of what went wrong, not a message."""


class Tracer:
    """Makes spans. `hola.tracing_export` has the one that records."""

    def begin(
        self, name: str, attributes: Attributes | None, kind: Kind, parent: Span | str
    ) -> Span:
        """A span under `parent`: another one, a traceparent, or neither ("")."""
        raise NotImplementedError

    def ids(self, span: Span) -> dict[str, str]:
        """trace_id and span_id, for the logs."""
        raise NotImplementedError


OFF = Span()
_NOTHING: AbstractContextManager[Span] = nullcontext(OFF)
_current: ContextVar[Span] = ContextVar("hola_span", default=OFF)
_tracer: Tracer | None = None


def current() -> Span:
    """The span of this task; OFF without one."""
    return _current.get()


def current_ids() -> dict[str, str]:
    """trace_id and span_id of this task's span; empty without one."""
    span = _current.get()
    return {} if span is OFF or _tracer is None else _tracer.ids(span)


def begin(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: Span | str | None = None,
) -> Span:
    """Start a span under `parent` (this task's if None) without making it this task's.

    A traceparent that is malformed, as any caller may send, starts a trace of its own.
    """
    if _tracer is None:
        return OFF
    return _tracer.begin(name, attributes, kind, _current.get() if parent is None else parent)


def enter(span: Span) -> None:
    """Make it this task's span, for as long as the task runs."""
    if span is not OFF:
        _current.set(span)


def held(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: Span | str | None = None,
) -> AbstractContextManager[Span]:
    """`begin` and end with the block, for generators too: the task's own span stays."""
    if _tracer is None:
        return _NOTHING
    return _held(begin(name, attributes, kind=kind, parent=parent))


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: Span | str | None = None,
) -> AbstractContextManager[Span]:
    """`held`, and this task's span meanwhile."""
    if _tracer is None:
        return _NOTHING
    return _entered(begin(name, attributes, kind=kind, parent=parent))


@contextmanager
def exporting(service: str, settings: Settings) -> Iterator[None]:
    """Trace what happens inside the block as HOLA_TRACE says; nothing where it is empty.

    One per process. Raises ConfigError on a HOLA_TRACE that is none, MissingExtra without `[otel]`.
    """
    global _tracer
    if not settings.trace:
        yield
        return
    require("opentelemetry.sdk.trace", "otel")
    from hola.tracing_export import open_tracer

    _tracer, flush = open_tracer(service, settings)
    try:
        yield
    finally:
        _tracer = None
        flush()


@contextmanager
def _held(span: Span) -> Iterator[Span]:
    error = ""
    try:
        yield span
    except BaseException as raised:
        error = kind_of(raised)
        raise
    finally:
        span.end(error=error)


@contextmanager
def _entered(span: Span) -> Iterator[Span]:
    token = _current.set(span)
    try:
        with _held(span):
            yield span
    finally:
        # A generator can be closed in another context than its own; its span died with that.
        with suppress(ValueError):
            _current.reset(token)


def kind_of(raised: BaseException) -> str:
    """What a span calls an exception: its reason or type; who was cancelled did no wrong."""
    if isinstance(raised, GeneratorExit | asyncio.CancelledError):
        return ""
    return raised.reason if isinstance(raised, HolaError) else type(raised).__name__
