"""W3C trace context without a library: parse, make, propagate (https://www.w3.org/TR/trace-context/, section 3.2).

The current trace lives in a context variable, so that logs, RPC calls and published events of one chain of work carry one id.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"
_FORMAT = re.compile(r"\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a trace: the trace's id, the span's id, and whether it is sampled."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> "TraceContext":
        """A new span of the same trace."""
        return TraceContext(self.trace_id, os.urandom(8).hex(), self.sampled)


def new_trace() -> TraceContext:
    return TraceContext(os.urandom(16).hex(), os.urandom(8).hex())


def parse(traceparent: str | None) -> TraceContext | None:
    """A received header; None when it is absent or malformed (section 3.2.2.3: then a new trace starts)."""
    match = _FORMAT.match(traceparent or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


_current: ContextVar[TraceContext | None] = ContextVar("warren_trace", default=None)


def current() -> TraceContext | None:
    """The trace of the current task, if any."""
    return _current.get()


def outgoing() -> str:
    """The header of a message that is sent now: what comes of it is below the span of the present work, or begins a new trace."""
    return (_current.get() or new_trace()).traceparent


@contextmanager
def continued(headers: Mapping[str, str] | None) -> Iterator[TraceContext]:
    """Work for the trace of a received message (or for a new one) until the block ends."""
    received = parse((headers or {}).get(HEADER))
    with entered(received.child() if received else new_trace()) as context:
        yield context


@contextmanager
def entered(context: TraceContext) -> Iterator[TraceContext]:
    """Work for this trace until the block ends."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
