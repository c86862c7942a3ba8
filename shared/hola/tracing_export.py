"""Spans of OpenTelemetry's SDK, sent to a collector (OTLP) or written to a file as JSON lines."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from hola import __version__
from hola.config import Settings
from hola.errors import ConfigError
from hola.tracing import Attributes, Kind, Span, Tracer

FORM = "file:PATH, otlp:, otlp://host:port or otlps://host:port"
_FLUSH_MS = 5000
_BATCH_MS = 1000
_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def open_tracer(service: str, settings: Settings) -> tuple[Tracer, Callable[[], None]]:
    """A recording tracer, and what sends the rest and ends it. Raises ConfigError."""
    name = settings.name or f"{socket.gethostname()}-{os.getpid()}"
    resource = Resource.create(
        {
            "service.name": f"hola-{service}",
            "service.namespace": "hola",
            "service.instance.id": name,
            "service.version": __version__,
        }
    )
    provider = TracerProvider(
        resource=resource,
        sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        shutdown_on_exit=False,
    )
    exporter = exporter_of(settings.trace)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_BATCH_MS))

    def end() -> None:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()

    return _OtelTracer(provider.get_tracer("hola", __version__)), end


def exporter_of(spec: str) -> SpanExporter:
    """What HOLA_TRACE names. Raises ConfigError when it names nothing, or its file is no file."""
    check_spec(spec)
    scheme, _, rest = spec.partition(":")
    if scheme == "file":
        return FileExporter(Path(rest))
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    if not rest:  # the OTEL_EXPORTER_OTLP_* variables have the word
        return OTLPSpanExporter()
    return OTLPSpanExporter(endpoint=rest.removeprefix("//"), insecure=scheme == "otlp")


def check_spec(spec: str) -> None:
    """Raises ConfigError unless HOLA_TRACE has one of the forms."""
    if not re.fullmatch(r"file:.+|otlp:|otlps?://[^/\s]+:\d+", spec):
        raise _wrong(spec, f"expected {FORM}")


class FileExporter(SpanExporter):
    """Appends each span as one line of JSON; several processes may share a file."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file cannot be written."""
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _wrong(f"file:{path}", error.strerror or str(error)) from None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """One write, so that lines of two processes do not mix."""
        lines = "".join(f"{json.dumps(as_json(span), ensure_ascii=False)}\n" for span in spans)
        try:
            self._file.write(lines.encode())
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held back."""
        return True


def as_json(span: ReadableSpan) -> dict[str, Any]:
    """A span as a line of the file: ids in hex, times in Unix nanoseconds."""
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": "" if span.parent is None else f"{span.parent.span_id:016x}",
        "name": span.name,
        "kind": span.kind.name.lower(),
        "service": span.resource.attributes["service.name"],
        "instance": span.resource.attributes["service.instance.id"],
        "start_unix_ns": span.start_time,
        "end_unix_ns": span.end_time,
        "error": span.status.description or ""
        if span.status.status_code is StatusCode.ERROR
        else "",
        "attributes": dict(span.attributes or {}),
        "events": [{"name": each.name, "unix_ns": each.timestamp} for each in span.events],
    }


class _OtelSpan(Span):
    """A recorded span."""

    def __init__(self, span: trace.Span) -> None:
        self.otel = span
        context = span.get_span_context()
        flags = int(context.trace_flags)
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"

    def set(self, attributes: Attributes) -> None:
        """As Span."""
        self.otel.set_attributes(_given(attributes))

    def event(self, name: str) -> None:
        """As Span."""
        self.otel.add_event(name)

    def end(self, *, error: str = "") -> None:
        """As Span. Only the first end counts."""
        if error and self.otel.is_recording():
            self.otel.set_attribute("error.type", error)
            self.otel.set_status(StatusCode.ERROR, error)
        if self.otel.is_recording():
            self.otel.end()


class _OtelTracer(Tracer):
    """Starts spans of one provider."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def begin(
        self, name: str, attributes: Attributes | None, kind: Kind, parent: Span | str
    ) -> Span:
        """As Tracer."""
        started = self._tracer.start_span(
            name,
            context=_context(parent),
            kind=SpanKind[kind.upper()],
            attributes=_given(attributes or {}),
        )
        return _OtelSpan(started)

    def ids(self, span: Span) -> dict[str, str]:
        """As Tracer."""
        _, trace_id, span_id, _ = span.traceparent.split("-")
        return {"trace_id": trace_id, "span_id": span_id}


def _context(parent: Span | str) -> Any:
    """A context of OpenTelemetry that holds `parent` and nothing of the thread's own."""
    above: trace.Span = trace.INVALID_SPAN
    if isinstance(parent, _OtelSpan):
        above = parent.otel
    elif isinstance(parent, str) and (match := _PARENT.fullmatch(parent)):
        above = trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id=int(match[1], 16),
                span_id=int(match[2], 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(match[3], 16)),
            )
        )
    return trace.set_span_in_context(above)


def _given(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _wrong(spec: str, why: str) -> ConfigError:
    return ConfigError(f"HOLA_TRACE={spec}: {why}", variable="HOLA_TRACE", value=spec)
