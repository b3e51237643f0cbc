"""The service's own counters and histograms, next to the fleet's metrics.

No label contains a tunnel. A histogram has some 15 series, so only the first MAX_PEERS peers have one of their own.
"""

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from warren_contracts import telemetry
from warren_contracts.status import ReasonCode
from warren_metrics.domain.changes import Changes
from warren_metrics.errors import TelemetryRejectedError

APPLY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # s
PROPAGATION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)  # s
HANDSHAKE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # s
MAX_PEERS = 200  # whose histograms are their own
OTHERS = "others"  # the label of the rest; an id that is `others` shares it
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class PeerLabel:
    """The value of the label `peer` in histograms: the id of the first MAX_PEERS peers, OTHERS for the rest."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, peer: str) -> str:
        """The label of a peer."""
        if peer not in self._known:
            if len(self._known) >= MAX_PEERS:
                return OTHERS
            self._known.add(peer)
        return peer


def exemplar(traceparent: str) -> dict[str, str] | None:
    """The exemplar of a measurement: its trace (W3C Trace Context); None without a valid one."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return None if found is None else {"trace_id": found[1], "span_id": found[2]}


class IngestCounters:
    """Counters of one process; every child exists from the start, so that a rate starts at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.peers = PeerLabel()
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
            "warren_tunnel_failures",
            "Failed attempts to establish a tunnel, and tunnels whose daemon is unreachable, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.delay = Gauge(
            "warren_telemetry_delay_seconds", "Age of the newest message of the last batch, since the bus stored it.",
            registry=registry,
        )  # fmt: skip
        self.apply_seconds = Histogram(
            "warren_policy_apply_duration_seconds", "Seconds that an agent took to apply a change.", ["peer"],
            registry=registry, buckets=APPLY_BUCKETS,
        )  # fmt: skip
        self.propagation_seconds = Histogram(
            "warren_policy_propagation_seconds",
            "Seconds from the edit of a policy until a gateway had applied it.", ["peer"],
            registry=registry, buckets=PROPAGATION_BUCKETS,
        )  # fmt: skip
        self.handshake_seconds = Histogram(
            "warren_tunnel_handshake_duration_seconds",
            "Seconds from connecting to the first CHILD_SA, at the initiator.", ["peer"],
            registry=registry, buckets=HANDSHAKE_BUCKETS,
        )  # fmt: skip
        self.rekey_seconds = Histogram(
            "warren_tunnel_rekey_duration_seconds",
            "Seconds from the first request of a rekeying to the new SA, at the end that began it.", ["peer"],
            registry=registry, buckets=HANDSHAKE_BUCKETS,
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

    def add(self, changes: Changes) -> None:
        """Count what a message was refused or failed with; most have nothing of it."""
        if changes.suppressed:
            self.suppressed.inc(changes.suppressed)
        if changes.failed:
            self.apply_failures.inc(changes.failed)
