"""What one request's rounds cost, stage by stage: in the metrics always, as spans where traced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hola import tracing
from hola.telemetry import Metrics
from hola.types import DraftBlock, Open, Opened, Verdict

ROUND = "verify round"


class Rounds:
    """Times a request's stages. `commit` is from a verdict's arrival until the next draft or block
    can begin, or the end: committing tokens, and handing them to the journal."""

    def __init__(self, metrics: Metrics) -> None:
        stage = metrics.stage_seconds.labels
        self._draft, self._wire, self._queue = stage("draft"), stage("wire"), stage("queue")
        self._verify, self._commit = stage("verify"), stage("commit")
        decided = metrics.gate_decisions.labels
        self._full = decided("full")
        self._early, self._none = decided("early"), decided("none")
        self._judged_ns = 0

    def drafted(self, span: tracing.Span, asked: int, tokens: int, elapsed_ns: int) -> None:
        """A draft of `tokens` is made, where `asked` were wanted."""
        self._draft.observe(elapsed_ns / 1e9)
        if asked > 0:
            decision = self._full if tokens >= asked else self._early if tokens else self._none
            decision.inc()
        span.set({"hola.asked_tokens": asked, "hola.draft_tokens": tokens})

    @contextmanager
    def round(self, block: DraftBlock) -> Iterator[tracing.Span]:
        """The span of one block's verification."""
        asked = {"hola.round": block.round, "hola.draft_tokens": len(block.tokens)}
        with tracing.held(ROUND, asked, kind="client") as span:
            yield span

    def judged(self, span: tracing.Span, verdict: Verdict, elapsed_ns: int) -> None:
        """A verdict came, `elapsed_ns` after its block went out."""
        wire_ns = max(0, elapsed_ns - verdict.compute_ns - verdict.queue_ns)
        self._wire.observe(wire_ns / 1e9)
        self._queue.observe(verdict.queue_ns / 1e9)
        self._verify.observe(verdict.compute_ns / 1e9)
        self._judged_ns = time.perf_counter_ns()
        span.set(
            {
                "hola.accepted_tokens": verdict.accepted,
                "hola.wire_ns": wire_ns,
                "hola.queue_ns": verdict.queue_ns,
                "hola.verify_ns": verdict.compute_ns,
            }
        )

    def committed(self) -> None:
        """What the last verdict gave has been handed on; nothing when that was noted before."""
        if self._judged_ns:
            self._commit.observe((time.perf_counter_ns() - self._judged_ns) / 1e9)
            self._judged_ns = 0

    @contextmanager
    def opening(self, message: Open) -> Iterator[tracing.Span]:
        """The span of opening a session, prefill included."""
        asked = {
            "hola.prompt_tokens": len(message.prompt),
            "hola.committed_tokens": len(message.committed),
        }
        with tracing.held("open session", asked, kind="client") as span:
            yield span

    def opened(self, span: tracing.Span, opened: Opened) -> None:
        """The session is there."""
        span.set(
            {
                "hola.cached_tokens": opened.cached_tokens,
                "hola.prefill_ns": opened.prefill_ns,
                "hola.queue_ns": opened.queue_ns,
                "hola.exactness": opened.exactness.name.lower(),
            }
        )
