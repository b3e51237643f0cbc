"""Letters: telemetry documents with their CloudEvents headers, ready for the spool."""

from uuid import uuid4

from pydantic import BaseModel

from warren_agent.spool import Letter
from warren_bus.tracing import new_trace, parse
from warren_contracts.cloudevents import TELEMETRY_TYPES, EventAttributes, build_headers
from warren_contracts.subjects import telemetry
from warren_contracts.telemetry import Applied, Presence, Reason, Report, TunnelChange

Telemetry = Presence | Report | TunnelChange | Applied | Reason
_KINDS: dict[type[BaseModel], str] = {
    Presence: "presence", Report: "report", TunnelChange: "tunnel", Applied: "applied", Reason: "reason",
}  # fmt: skip


def letter(peer: str, document: Telemetry, traceparent: str = "") -> Letter:
    """A letter of this peer. `traceparent` continues the trace of the change that this tells of."""
    kind = _KINDS[type(document)]
    trace = parse(traceparent) or new_trace()
    attributes = EventAttributes(TELEMETRY_TYPES[kind], f"/peers/{peer}", str(uuid4()), document.at)
    headers = build_headers(attributes, trace.child().traceparent)
    return Letter(telemetry(peer, kind), document.model_dump_json().encode(), headers, _series(document))


def _series(document: Telemetry) -> str:
    if isinstance(document, Report):
        return f"report {document.part}"
    return "presence" if isinstance(document, Presence) else ""
