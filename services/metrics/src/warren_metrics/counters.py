"""The service's own counters, next to the fleet's metrics. No label contains a peer or a tunnel."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from warren_contracts import telemetry
from warren_contracts.status import ReasonCode
from warren_metrics.errors import TelemetryRejectedError

APPLY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # s


class IngestCounters:
    """Counters of one process; every child exists from the start, so that a rate starts at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter(
            "warren_telemetry_messages", "Telemetry messages accepted, by kind.", ["kind"], registry=registry
        )
        self.rejected = Counter(
            "warren_telemetry_rejected", "Telemetry messages refused, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.dead_letters = Counter(
            "warren_telemetry_dead_letters", "Telemetry messages dropped after their last delivery.", registry=registry
        )
        self.suppressed = Counter(
            "warren_events_suppressed", "Events dropped because a peer exceeded its rate.", registry=registry
        )
        self.failures = Counter(
            "ipsec_tunnel_failures",
            "Failed attempts to establish a tunnel, and tunnels whose daemon is unreachable, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.apply_seconds = Histogram(
            "warren_policy_apply_duration_seconds", "Seconds that agents took to apply a change.", registry=registry,
            buckets=APPLY_BUCKETS,
        )  # fmt: skip
        self.apply_failures = Counter(
            "warren_policy_apply_failures", "Changes that agents could not apply.", registry=registry
        )
        for kind in telemetry.KINDS:
            self.messages.labels(kind)
        for reason in TelemetryRejectedError.REASONS:
            self.rejected.labels(reason)
        for code in ReasonCode:
            self.failures.labels(code.value)
