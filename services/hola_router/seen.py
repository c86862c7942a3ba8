"""What a request's first client sees of it, and when: first token and end, measured and traced."""

from __future__ import annotations

import time
from collections.abc import Callable

from hola import genai, tracing
from hola.telemetry import Metrics
from hola.types import Failure, GenerateEvent, GenerateJob, Summary, Tokens

SERVICE = "router"


class Seen:
    """Watches one stream. The span is the task's own at the first event: the call's."""

    def __init__(
        self, job: GenerateJob, metrics: Metrics, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """`clock` gives Unix nanoseconds, as the job's times are."""
        self._accepted_ns = job.accepted_unix_ns or clock()
        self._asked = genai.of_request(job.model, job.sampling, request_id=job.request_id)
        self._metrics = metrics
        self._clock = clock
        self._has_tokens = False

    def note(self, event: GenerateEvent) -> None:
        """The event is about to be passed on."""
        if isinstance(event, Tokens) and not self._has_tokens:
            self._has_tokens = True
            self._metrics.time_to_first_token.labels(SERVICE).observe(self._waited_s())
            tracing.current().event("first token")
        elif isinstance(event, Summary | Failure):
            tracing.current().set({**self._asked, **genai.of_end(event)})
            if isinstance(event, Summary):
                self._metrics.request_latency.labels(SERVICE).observe(self._waited_s())

    def _waited_s(self) -> float:
        return max(0, self._clock() - self._accepted_ns) / 1e9
