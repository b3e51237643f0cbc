"""Spans: names of few kinds, parents across processes, an exporter only where the environment asks for one."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from warren_bus.tracing import HEADER, outgoing
from warren_contracts import subjects
from warren_service import otel
from warren_service.otel import build_tracer, describe_span, record_span, span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_what_is_sent_within_a_span_is_below_it() -> None:
    spans = InMemorySpanExporter()
    tracer = build_tracer("test", (SimpleSpanProcessor(spans),))
    with span(tracer, "GET", {HEADER: PARENT}, kind=SpanKind.SERVER):
        sent = outgoing()
        describe_span("GET /api/peers", {"http.route": "/api/peers"}, failed="503")
    with span(tracer, "process", {HEADER: sent}):
        pass
    server, consumer = spans.get_finished_spans()
    assert server.parent is not None
    assert consumer.parent is not None
    assert (f"{server.context.trace_id:032x}", f"{server.parent.span_id:016x}") == tuple(PARENT.split("-")[1:3])
    assert consumer.parent.span_id == server.context.span_id
    assert (server.name, server.kind, server.status.status_code) == (
        "GET /api/peers",
        SpanKind.SERVER,
        StatusCode.ERROR,
    )
    assert server.resource.attributes["service.name"] == "warren-test"


def test_work_of_an_agent_has_its_own_times_and_ends_after_it_began() -> None:
    spans = InMemorySpanExporter()
    tracer = build_tracer("test", (SimpleSpanProcessor(spans),))
    record_span(tracer, "apply", PARENT, (NOW, NOW + timedelta(milliseconds=40)), {"warren.peer": "gw1"})
    record_span(tracer, "apply", PARENT, (NOW, NOW - timedelta(hours=1)), {}, failed="refused")
    record_span(tracer, "apply", "of no trace", (NOW, NOW), {})
    for wrong in (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)):  # an agent's clock
        record_span(tracer, "apply", PARENT, (wrong, wrong), {})
    first, second = spans.get_finished_spans()
    assert (first.end_time or 0) - (first.start_time or 0) == 40_000_000
    assert second.end_time == second.start_time
    assert second.status.description == "refused"


@pytest.mark.parametrize("name", otel.ENDPOINTS)
def test_spans_are_exported_where_the_environment_names_an_endpoint(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in otel.ENDPOINTS:
        monkeypatch.delenv(other, raising=False)
    assert otel._exporters() == ()
    monkeypatch.setenv(name, "http://127.0.0.1:4318")
    (processor,) = otel._exporters()
    try:
        assert isinstance(processor.span_exporter, OTLPSpanExporter)  # type: ignore[attr-defined] # of the SDK's processor
    finally:
        processor.shutdown()
    for switch, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as scope:
            scope.setenv(switch, value)
            assert otel._exporters() == ()


@pytest.mark.parametrize(
    ("subject", "template"),
    [
        ("warren.v1.telemetry.gw1.report", "warren.v1.telemetry.{peer}.report"),
        ("warren.v1.rpc.policy.apply", "warren.v1.rpc.policy.apply"),
        ("warren.v1.rpc.agent.gw1.announce", "warren.v1.rpc.agent.{peer}.announce"),
        ("warren.v1.rpc.enrol.UABC", "warren.v1.rpc.enrol.{key}"),
        ("warren.v1.event.policy.changed.star", "warren.v1.event.policy.changed.{name}"),
        ("warren.v1.directory.tag=hub.gw1", "warren.v1.directory.{reader}.{peer}"),
        ("$SYS.REQ.USER.AUTH", "$SYS.REQ.USER"),
        ("warren.v1", "warren.v1"),
        ("", ""),
    ],
)
def test_a_template_names_no_peer(subject: str, template: str) -> None:
    assert subjects.template(subject) == template


@contextmanager
def receiver(reply: bytes) -> Iterator[str]:
    """A receiver that answers every request with these bytes and leaves the connection open; nothing: it hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        opened: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    opened.append(connection)
                    connection.recv(65_536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in opened:
                connection.close()


MAKES_SPANS = """
from warren_service.otel import build_tracer, span
tracer = build_tracer("test")
for _ in range(3_000):  # more than are kept and than one batch
    with span(tracer, "work"):
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx",
        b"no HTTP",
    ],
    ids=["hangs", "unavailable", "unavailable for long", "states a wrong length", "no HTTP"],
)
def test_a_receiver_that_fails_neither_stops_a_process_nor_delays_its_end(reply: bytes) -> None:
    """The library alone waits 30 s at the end."""
    with receiver(reply) as url:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        done = subprocess.run([sys.executable, "-c", MAKES_SPANS], env=environment, capture_output=True, timeout=25)
    assert done.returncode == 0, done.stderr.decode()
