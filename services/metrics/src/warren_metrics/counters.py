"""What the service counts about itself, next to the fleet's own numbers. No label has a peer or a tunnel in it."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from warren_contracts import telemetry
from warren_contracts.status import ReasonCode
from warren_metrics.errors import TelemetryRejectedError

APPLY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # s


class Counters:
    """Counters of one process; every child exists from the start, so that a rate is never missing its zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter(
            "warren_telemetry_messages", "Telemetry messages taken in, by kind.", ["kind"], registry=registry
        )
        self.rejected = Counter(
            "warren_telemetry_rejected", "Telemetry that was not believed and dropped, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.dead_letters = Counter(
            "warren_telemetry_dead_letters", "Telemetry given up after its last delivery.", registry=registry
        )
        self.suppressed = Counter(
            "warren_events_suppressed", "Events not told because one peer caused too many.", registry=registry
        )
        self.failures = Counter(
            "ipsec_tunnel_failures",
            "Failed attempts to establish a tunnel, and tunnels without a daemon that would try, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.apply_seconds = Histogram(
            "warren_policy_apply_duration_seconds", "How long agents took to apply a change.", registry=registry,
            buckets=APPLY_BUCKETS,
        )  # fmt: skip
        self.apply_failures = Counter(
            "warren_policy_apply_failures", "Changes that could not be applied.", registry=registry
        )
        for kind in telemetry.KINDS:
            self.messages.labels(kind)
        for reason in TelemetryRejectedError.REASONS:
            self.rejected.labels(reason)
        for code in ReasonCode:
            self.failures.labels(code.value)
