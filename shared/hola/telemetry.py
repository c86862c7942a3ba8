"""Logs that carry request and session ids and never a prompt, and the Prometheus series."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from structlog.typing import FilteringBoundLogger, Processor

from hola.config import Settings
from hola.errors import ConfigError
from hola.security.redaction import clean_text, redact

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Every series of HOLA on one registry. One per process; each service moves its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        where: dict[str, Any] = {"registry": self.registry}
        timed: dict[str, Any] = {**where, "buckets": _SECONDS}
        # every server
        self.rpcs = Counter("hola_rpcs", "Finished calls", ["method", "code"], **where)
        self.rpc_seconds = Histogram("hola_rpc_seconds", "Time of a call", ["method"], **timed)
        # verifier
        self.queue_depth = Gauge(
            "hola_verifier_queue_depth", "Blocks and prefill chunks waiting", **where
        )
        self.sessions = Gauge("hola_verifier_sessions", "Sessions with a KV cache", **where)
        self.kv_bytes = Gauge("hola_verifier_kv_bytes", "KV cache allocated, bytes", **where)
        self.prefill_seconds = Histogram(
            "hola_prefill_seconds", "Engine time of a prefill", **timed
        )
        self.verify_seconds = Histogram("hola_verify_seconds", "Engine time of a block", **timed)
        self.verify_queue_seconds = Histogram(
            "hola_verify_queue_seconds", "Wait of a block for other sessions", **timed
        )
        self.drafted_tokens = Counter("hola_drafted_tokens", "Draft tokens verified", **where)
        self.accepted_tokens = Counter("hola_accepted_tokens", "Draft tokens accepted", **where)
        self.sessions_closed = Counter(
            "hola_verifier_sessions_closed",
            "Sessions freed: done, idle, evicted, moved",
            ["why"],
            **where,
        )
        self.draining = Gauge(
            "hola_verifier_draining", "1 while it hands its sessions over", **where
        )
        # drafter and router
        self.requests = Counter("hola_requests", "Ended requests", ["service", "outcome"], **where)
        self.active_requests = Gauge(
            "hola_active_requests", "Requests running now", ["service"], **where
        )
        self.committed_tokens = Counter(
            "hola_committed_tokens", "Output tokens by outcome", ["outcome"], **where
        )
        self.draft_seconds = Histogram("hola_draft_seconds", "Time of a ladder's proposal", **timed)
        self.reconnects = Counter("hola_reconnects", "Verifier sessions opened again", **where)
        self.corrections = Counter(
            "hola_corrections", "Ends of unverified text: confirmed or taken back", **where
        )
        self.pool_addresses = Gauge(
            "hola_pool_addresses", "Verifier addresses by state", ["state"], **where
        )
        self.failovers = Counter(
            "hola_failovers", "Sessions that went on at another verifier", **where
        )
        self.hedges = Counter("hola_hedges", "Second questions: won, lost", ["outcome"], **where)
        self.breaker_opens = Counter(
            "hola_breaker_opens", "Verifier addresses left alone for a while", **where
        )
        self.first_token_seconds = Histogram(
            "hola_first_token_seconds", "From acceptance to the first token", **timed
        )
        self._retrieval(where, timed)

    def _retrieval(self, where: dict[str, Any], timed: dict[str, Any]) -> None:
        self.search_seconds = Histogram("hola_search_seconds", "Time of a search", **timed)
        self.ingests = Counter(
            "hola_ingests", "Ended ingests: done, failed, cancelled, lost", ["outcome"], **where
        )
        self.ingested_documents = Counter(
            "hola_ingested_documents", "Documents by outcome", ["outcome"], **where
        )
        self.active_ingests = Gauge(
            "hola_active_ingests", "Ingests under way here: call, job", ["kind"], **where
        )
        self.retrieval_plans = Counter(
            "hola_retrieval_plans",
            "Requests that asked for retrieval, by depth",
            ["depth"],
            **where,
        )
        self.retrieval_search_seconds = Histogram(
            "hola_retrieval_search_seconds", "Time of a request's searches", **timed
        )
        self.retrieval_gate_seconds = Histogram(
            "hola_retrieval_gate_seconds", "Time of a draft answer and its check", **timed
        )
        self.ingest_spool_bytes = Gauge(
            "hola_ingest_spool_bytes", "Files of ingests that have not ended, bytes", **where
        )


def configure_logging(service: str, settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs of this process, the libraries' too, to `stream` (stderr if None).

    JSON lines, or coloured text on a terminal (`HOLA_LOG_FORMAT`). Call once, first.
    """
    stream = stream or sys.stderr
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if console else [structlog.processors.format_exc_info]),
        redact,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(settings.log_level.upper())
        ),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def _write_traceback(out: TextIO, raised: Any) -> None:
    """An exception on the console, its secrets blanked as in a JSON line."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, raised)
    out.write(clean_text(text.getvalue()))


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger for a module: `get_logger(__name__).info("session_opened", cached_tokens=3)`."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bind_ids(**ids: str) -> None:
    """Put request_id, session_id, ... into every further log line of this task."""
    structlog.contextvars.bind_contextvars(**ids)


@contextmanager
def bound_ids(**ids: str) -> Iterator[None]:
    """Put ids into every log line of this task until the exit."""
    tokens = structlog.contextvars.bind_contextvars(**ids)
    try:
        yield
    finally:
        # A generator can be closed in another context than its own; then its ids died with that.
        with suppress(ValueError):
            structlog.contextvars.reset_contextvars(**tokens)


def current_id(name: str) -> str:
    """The id bound as `name` in this task, or empty."""
    return str(structlog.contextvars.get_contextvars().get(name, ""))


@asynccontextmanager
async def serve_metrics(listen: str, metrics: Metrics) -> AsyncIterator[int]:
    """Serve /metrics on "host:port" inside the context; gives the port in use (0 asks for any).

    An empty `listen` serves nothing and gives 0. Raises ConfigError when it cannot be bound.
    """
    if not listen:
        yield 0
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"HOLA_METRICS_LISTEN={listen!r} is not valid: expected host:port",
            variable="HOLA_METRICS_LISTEN",
            value=listen,
        )
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry=metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics on {listen}: {error}", variable="HOLA_METRICS_LISTEN"
        ) from error
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
