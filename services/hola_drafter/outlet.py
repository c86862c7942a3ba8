"""The way out for one request's events: exactly one end, and the metrics of what passes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from hola import genai, tracing
from hola.telemetry import Metrics
from hola.types import Correction, Failure, GenerateEvent, GenerateJob, Summary, TokenEvent, Tokens

EmitEvent = Callable[[GenerateEvent], Awaitable[None]]
SERVICE = "drafter"


class Outlet:
    """Passes events on until the terminal one; later ones are dropped.

    `broken` tells that the receiver itself refused an event: there is nobody to send a Failure to.
    """

    def __init__(
        self,
        emit: EmitEvent,
        metrics: Metrics,
        job: GenerateJob,
        span: tracing.Span = tracing.OFF,
    ) -> None:
        self._emit = emit
        self._metrics = metrics
        self._span = span
        self._accepted_ns = job.accepted_unix_ns or time.time_ns()
        self._last_ns = 0  # of the tokens before; monotonic
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
            case Summary():
                self._end(event.finish_reason.name.lower(), event)
                self._sum_up(event)
            case Failure(reason=reason):
                self._end(reason.lower(), event)

    def _count(self, tokens: tuple[TokenEvent, ...]) -> None:
        now_ns = time.monotonic_ns()
        if not self._last_ns:
            waited_s = self._waited_s()
            self._metrics.time_to_first_token.labels(SERVICE).observe(waited_s)
            self._span.event("first token")
        else:
            each_s = (now_ns - self._last_ns) / 1e9 / len(tokens)
            for _ in tokens:
                self._metrics.inter_token_latency.observe(each_s)
        self._last_ns = now_ns
        for token in tokens:
            self._metrics.committed_tokens.labels(token.outcome.name.lower()).inc()

    def _end(self, outcome: str, event: Summary | Failure) -> None:
        self._ended = True
        self._metrics.requests.labels(SERVICE, outcome).inc()
        self._span.set(genai.of_end(event))

    def _sum_up(self, summary: Summary) -> None:
        self._metrics.reconnects.inc(summary.reconnects)
        self._metrics.prompt_tokens.inc(summary.prompt_tokens)
        self._metrics.request_latency.labels(SERVICE).observe(self._waited_s())
        for tier in summary.tiers:
            counted = self._metrics.tier_tokens.labels
            counted(tier.tier, "proposed").inc(tier.proposed_tokens)
            counted(tier.tier, "accepted").inc(tier.accepted_tokens)

    def _waited_s(self) -> float:
        return max(0, time.time_ns() - self._accepted_ns) / 1e9
