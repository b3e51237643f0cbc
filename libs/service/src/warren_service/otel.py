"""OpenTelemetry for services: spans that carry the bus's trace id. Agents never import this module.

An OTLP exporter is passed in; without one the spans only maintain ids and parents.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, set_span_in_context

from warren_bus.tracing import HEADER, TraceContext, current, entered, parse


def build_tracer(service: str, processors: tuple[SpanProcessor, ...] = ()) -> Tracer:
    """A tracer of one service; nothing global is set."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"warren-{service}"}))
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("warren")


@contextmanager
def span(tracer: Tracer, name: str, headers: Mapping[str, str] | None = None) -> Iterator[TraceContext]:
    """A span within the trace of the received headers, else within the current trace, else of a new one."""
    parent = parse((headers or {}).get(HEADER)) or current()
    context = None
    if parent is not None:
        flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
        remote = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
        context = set_span_in_context(NonRecordingSpan(remote))
    with tracer.start_as_current_span(name, context=context) as started:
        here = started.get_span_context()
        ids = TraceContext(f"{here.trace_id:032x}", f"{here.span_id:016x}", here.trace_flags.sampled)
        with entered(ids):
            yield ids
