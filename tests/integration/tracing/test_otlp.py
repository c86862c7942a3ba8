"""Spans reach a collector over OTLP: a real gRPC server with OpenTelemetry's own contract."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from hola import tracing
from hola.config import Settings


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(self, request, context):
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    servicer = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


@pytest.mark.parametrize("named", ["in HOLA_TRACE", "by OpenTelemetry's own variable"])
def test_a_collector_gets_the_spans(collector, monkeypatch, named: str) -> None:
    servicer, port = collector
    spec = f"otlp://127.0.0.1:{port}"
    if named != "in HOLA_TRACE":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        spec = "otlp:"
    with (
        tracing.exporting("router", Settings(trace=spec, name="r1")),
        tracing.span("outer", {"hola.round": 3}, kind="server"),
        tracing.held("inner"),
    ):
        pass
    (request,) = servicer.received
    (resource,) = request.resource_spans
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("hola-router", "r1")
    inner, outer = resource.scope_spans[0].spans
    assert (inner.name, outer.name) == ("inner", "outer")
    assert inner.parent_span_id == outer.span_id
    assert outer.attributes[0].value.int_value == 3
