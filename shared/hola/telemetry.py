"""Logs as JSON lines that carry request, session and trace ids, and never a prompt."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from hola import tracing
from hola.config import Settings
from hola.metrics import Metrics as Metrics, serve_metrics as serve_metrics
from hola.security.redaction import clean_text, redact


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
        _add_trace,
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


def _add_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
    """Log processor: the ids of the span that is current, where requests are traced."""
    event.update(tracing.current_ids())
    return event


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
