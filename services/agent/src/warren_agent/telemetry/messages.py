"""Letters: telemetry documents with their CloudEvents headers, ready for the spool."""

from uuid import uuid4

from pydantic import BaseModel

from warren_agent.telemetry.message import TelemetryMessage
from warren_bus.tracing import new_trace, parse
from warren_contracts.cloudevents import TELEMETRY_TYPES, EventAttributes, build_headers
from warren_contracts.subjects import telemetry
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange

Telemetry = Presence | Report | TunnelChange | Applied | AttemptFailure
_KINDS: dict[type[BaseModel], str] = {
    Presence: "presence", Report: "report", TunnelChange: "tunnel", Applied: "applied", AttemptFailure: "reason",
}  # fmt: skip


def telemetry_message(peer: str, document: Telemetry, traceparent: str = "") -> TelemetryMessage:
    """A message of this peer. `traceparent` continues the trace of the change that caused it."""
    kind = _KINDS[type(document)]
    trace = parse(traceparent) or new_trace()
    attributes = EventAttributes(TELEMETRY_TYPES[kind], f"/peers/{peer}", str(uuid4()), document.at)
    headers = build_headers(attributes, trace.traceparent)
    return TelemetryMessage(telemetry(peer, kind), document.model_dump_json().encode(), headers, _series(document))


def _series(document: Telemetry) -> str:
    if isinstance(document, Report):
        return f"report {document.part}"
    return "presence" if isinstance(document, Presence) else ""
