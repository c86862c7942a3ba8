"""The way out for one request's events: exactly one end, and the metrics of what passes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from hola.telemetry import Metrics
from hola.types import Correction, Failure, GenerateEvent, GenerateJob, Summary, TokenEvent, Tokens

EmitEvent = Callable[[GenerateEvent], Awaitable[None]]
SERVICE = "drafter"


class Outlet:
    """Passes events on until the terminal one; later ones are dropped.

    `broken` tells that the receiver itself refused an event: there is nobody to send a Failure to.
    """

    def __init__(self, emit: EmitEvent, metrics: Metrics, job: GenerateJob) -> None:
        self._emit = emit
        self._metrics = metrics
        self._accepted_ns = job.accepted_unix_ns or time.time_ns()
        self._has_tokens = False
        self._ended = False
        self.broken = False

    async def __call__(self, event: GenerateEvent) -> None:
        """Pass one event on. Raises what the receiver raises."""
        if self._ended:
            return
        try:
            await self._emit(event)
        except Exception:
            self.broken = True
            raise
        match event:
            case Tokens(tokens=tokens):
                self._count(tokens)
            case Correction():
                self._metrics.corrections.inc()
            case Summary(finish_reason=reason, reconnects=reconnects):
                self._end(reason.name.lower())
                self._metrics.reconnects.inc(reconnects)
            case Failure(reason=reason):
                self._end(reason.lower())

    def _count(self, tokens: tuple[TokenEvent, ...]) -> None:
        if not self._has_tokens:
            self._has_tokens = True
            waited_ns = max(0, time.time_ns() - self._accepted_ns)
            self._metrics.first_token_seconds.observe(waited_ns / 1e9)
        for token in tokens:
            self._metrics.committed_tokens.labels(token.outcome.name.lower()).inc()

    def _end(self, outcome: str) -> None:
        self._ended = True
        self._metrics.requests.labels(SERVICE, outcome).inc()
