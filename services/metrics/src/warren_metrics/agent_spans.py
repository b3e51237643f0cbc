"""Spans of what agents do, made of their reports: an agent has no memory for OpenTelemetry.

They have the times of the agent's clock, and the trace of the change that the agent applied.
"""

from datetime import datetime

from opentelemetry.trace import Tracer

from warren_contracts.status import TunnelState
from warren_contracts.telemetry import Applied, Presence, Report, TunnelChange
from warren_service.otel import Attributes, record_span


class AgentSpans:
    """Makes the spans of one message."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def record(self, peer: str, body: object, traceparent: str) -> None:
        """The span of a message's body; most bodies have none."""
        match body:
            case Report() | Presence():
                return
            case Applied():
                attributes: Attributes = {
                    "warren.peer": peer,
                    "warren.revision": body.revision,
                    "warren.epoch": body.epoch,
                }
                failed = "" if body.ok else body.error or "not applied"
                record_span(
                    self._tracer, "apply policy", traceparent, (body.delivered_at, body.at), attributes, failed=failed
                )
            case TunnelChange(first_packet_at=datetime() as passed):
                of: Attributes = {"warren.peer": peer, "warren.tunnel": body.status.name}
                made = max((it.established_at for it in body.status.link.children if it.established_at), default=passed)
                record_span(self._tracer, "tunnel first packet", traceparent, (min(made, passed), passed), of)
            case TunnelChange() if (
                not body.removed and body.status.state is TunnelState.UP and body.previous is not TunnelState.UP
            ):
                about: Attributes = {"warren.peer": peer, "warren.tunnel": body.status.name}
                begun = body.status.since or body.at
                record_span(self._tracer, "tunnel up", traceparent, (min(begun, body.at), body.at), about)
