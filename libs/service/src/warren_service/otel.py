"""OpenTelemetry for services: spans that carry the bus's trace id. Agents never import this module.

Spans are exported by OTLP over HTTP if the standard variables name an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; headers, time-outs, sampling and so on by theirs); else they only maintain ids and parents.
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from warren_bus.errors import InvalidSettingError
from warren_bus.tracing import HEADER, TraceContext, current, entered, parse

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
STOP_LIMIT_MS = 2_000  # that the last spans may take at the end of a process
Attributes = Mapping[str, str | int | bool]


def build_tracer(service: str, processors: tuple[SpanProcessor, ...] | None = None) -> Tracer:
    """A tracer of one service; nothing global is set. `processors`: None for what the environment asks for.

    Raises:
        InvalidSettingError: the environment names an endpoint, and the exporter is not installed.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": f"warren-{service}"}))
    for processor in _exporters() if processors is None else processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("warren")


def _exporters() -> tuple[SpanProcessor, ...]:
    """Those that the environment asks for. The libraries are loaded only then: they take 15 MB."""
    named = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if named is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ()
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return ()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise InvalidSettingError(
            {named: "needs the exporter, which is not installed: pip install 'warren-service[otlp]'"}
        ) from None

    class Exporting(BatchSpanProcessor):
        def shutdown(self) -> None:
            """As the base class does, whose 30 s cannot be set: a receiver that hangs would delay the stop of the service by them."""
            self._batch_processor.shutdown(timeout_millis=STOP_LIMIT_MS)

    return (Exporting(OTLPSpanExporter()),)


@contextmanager
def span(
    tracer: Tracer, name: str, headers: Mapping[str, str] | None = None, *, kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> Iterator[TraceContext]:  # fmt: skip
    """A span within the trace of the received headers, else within the current trace, else of a new one."""
    parent = parse((headers or {}).get(HEADER)) or current()
    context = _of(parent) if parent is not None else None
    with tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as started:
        here = started.get_span_context()
        ids = TraceContext(f"{here.trace_id:032x}", f"{here.span_id:016x}", here.trace_flags.sampled)
        with entered(ids):
            yield ids


def describe_span(name: str, attributes: Attributes, *, failed: str = "") -> None:
    """Give the span of the present work a name and attributes that are known only at its end."""
    here = get_current_span()
    here.update_name(name)
    here.set_attributes(attributes)
    if failed:
        here.set_status(Status(StatusCode.ERROR, failed))


def record_span(
    tracer: Tracer, name: str, traceparent: str, times: tuple[datetime, datetime], attributes: Attributes, *, failed: str = ""
) -> None:  # fmt: skip
    """A span of work that is over, and that another process did: an agent, which has no OpenTelemetry.

    None of a time that OTLP cannot represent, before 1970 or after 2554: one such span would cost the exporter its batch.
    """
    parent = parse(traceparent)
    begin, end = (int(at.timestamp() * 1e9) for at in times)
    if parent is None or not 0 <= min(begin, end) <= max(begin, end) < 2**64:
        return
    made = tracer.start_span(name, context=_of(parent), kind=SpanKind.CONSUMER, attributes=attributes, start_time=begin)
    if failed:
        made.set_status(Status(StatusCode.ERROR, failed))
    made.end(max(begin, end))


def _of(parent: TraceContext) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    remote = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote))
