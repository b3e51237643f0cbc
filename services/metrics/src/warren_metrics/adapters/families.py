"""The metrics of the fleet: a table of names, meanings and values. `docs/monitoring.md` describes each.

Names follow the Prometheus conventions, as `promtool check metrics` checks them: counters end with `_total`, units are base units.
"""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from warren_contracts.explanation import Cause
from warren_contracts.status import DriverState, ReasonCode, TunnelState
from warren_metrics.adapters.series import Family, Value, Values
from warren_metrics.domain.peers import PeerView, TunnelView, measured, unix_time

SampleT = TypeVar("SampleT")


class PeerSample(NamedTuple):
    """One peer."""

    view: PeerView
    online: bool


class Column(NamedTuple, Generic[SampleT]):
    """A metric and its value of one sample; None: it has no line."""

    family: Family
    value: Callable[[SampleT], Value]


def _gauge(name: str, text: str, value: Callable[[SampleT], Value]) -> Column[SampleT]:
    return Column(Family("gauge", name, text), value)


def _counter(name: str, text: str, value: Callable[[SampleT], Value]) -> Column[SampleT]:
    return Column(Family("counter", name, text), value)


def _untyped(name: str, text: str, value: Callable[[SampleT], Value]) -> Column[SampleT]:
    return Column(Family("untyped", name, text), value)


TUNNEL: tuple[Family, ...] = (
    Family(
        "gauge", "warren_tunnel_up",
        "1 if the tunnel is up at this end, 0 otherwise (degraded, connecting, standby, down, error); absent while the peer is offline.",
    ),
    Family(
        "gauge", "warren_tunnel_degraded",
        "1 if CHILD_SAs are installed at this end and something contradicts that packets pass, 0 otherwise; absent while the peer is"
        " offline.",
    ),
    Family(
        "gauge", "warren_tunnel_standby",
        "1 while the tunnel has no SA at this end since another one carries its traffic (redundant gateways), 0 otherwise; absent"
        " while the peer is offline.",
    ),
    Family(
        "gauge", "warren_tunnel_reason",
        "1 for the reason why the tunnel is not up at this end; absent while it is up or the peer is offline.",
        'reason="%s"',
    ),
    Family(
        "gauge", "warren_tunnel_cause",
        "1 for what is wrong with the tunnel by what both ends say, at the first of its ends; absent while nothing is.",
        'cause="%s"',
    ),
    Family("gauge", "warren_tunnel_stale", "1 while this end has no current report: its values are the last known ones."),
    Family(
        "gauge", "warren_tunnel_info", "1, with the other end and the policy of the tunnel.", 'remote_peer="%s",policy="%s"'
    ),
    Family(
        "gauge", "warren_tunnel_state_changed_timestamp_seconds", "Unix time at which the state of this end last changed."
    ),
    Family(
        "gauge", "warren_tunnel_evidence_timestamp_seconds",
        "Unix time of the newest evidence that packets pass: a packet of the peer was decrypted, or a probe was answered; absent if"
        " there was none.",
    ),
    Family("gauge", "warren_tunnel_established_timestamp_seconds", "Unix time at which the IKE_SA was established."),
    Family("counter", "warren_tunnel_rekeys_total", "Rekeyings of the tunnel."),
    Family("counter", "warren_tunnel_restarts_total", "Restarts of the tunnel by the agent's watchdog."),
    Family(
        "counter", "warren_tunnel_receive_bytes_total", "Bytes received through the tunnel; monotonic across rekeyings."
    ),
    Family("counter", "warren_tunnel_transmit_bytes_total", "Bytes sent through the tunnel; monotonic across rekeyings."),
    Family(
        "counter", "warren_tunnel_receive_packets_total", "Packets received through the tunnel; monotonic across rekeyings."
    ),
    Family(
        "counter", "warren_tunnel_transmit_packets_total", "Packets sent through the tunnel; monotonic across rekeyings."
    ),
)  # fmt: skip

TUNNEL_ALIASES: tuple[Family, ...] = (
    Family("untyped", "ipsec_tunnel_state", "As warren_tunnel_up."),
    Family("untyped", "ipsec_tunnel_bytes_in", "As warren_tunnel_receive_bytes_total."),
    Family("untyped", "ipsec_tunnel_bytes_out", "As warren_tunnel_transmit_bytes_total."),
    Family("untyped", "ipsec_rekey_events_total", "As warren_tunnel_rekeys_total."),
)


_COUNTERS: Values = (None,) * sum(it.kind == "counter" for it in TUNNEL)  # the last families
_PLAINLY_UP: Values = (1, 0, 0, None, None, 0)  # the first families: up, degraded, standby, reason, cause, stale


def tunnel_values(view: TunnelView, stale: bool, standby: bool, cause: Cause | None = None) -> Values:
    """The values of TUNNEL of one end."""
    return (
        None if stale else int(view.state is TunnelState.UP),
        None if stale else int(view.state is TunnelState.DEGRADED),
        None if stale else int(standby),
        None if stale or view.reason is ReasonCode.NONE else view.reason.value,
        None if cause is None else cause.value,
        int(stale),
        (view.peer or "", view.policy or ""),
        *_measured(view),
    )


def values_of_plainly_up(view: TunnelView) -> Values:
    """The same of an end that is up without a reason, of a tunnel without a cause: nearly all ends, so it is made of few parts."""
    return (*_PLAINLY_UP, (view.peer or "", view.policy or ""), *_measured(view))


def _measured(view: TunnelView) -> Values:
    """Times and counters; counters that are not known have no line, so that none of them goes down."""
    values: Values = measured(view)
    return values if view.counters_known else (*values[: -len(_COUNTERS)], *_COUNTERS)


def alias_values(view: TunnelView, stale: bool) -> Values:
    """The values of TUNNEL_ALIASES of one end."""
    counters = (view.bytes_in, view.bytes_out, view.rekeys) if view.counters_known else (None, None, None)
    return (None if stale else int(view.state is TunnelState.UP), *counters)


def _while_online(value: Callable[[PeerView], float | None]) -> Callable[[PeerSample], Value]:
    """A value of the agent's process, which is not known while the peer is offline."""
    return lambda it: value(it.view) if it.online and it.view.started_at is not None else None


PEER: tuple[Column[PeerSample], ...] = (
    _gauge("warren_peer_online", "1 if the peer is online, 0 otherwise.", lambda it: int(it.online)),
    _gauge(
        "warren_peer_clock_skew_seconds", "How far the peer's clock is ahead of the bus's, by its last heartbeat.",
        lambda it: it.view.clock_skew_s if it.online else None,
    ),
    _gauge(
        "warren_peer_intent_unconfirmed_seconds",
        "For how long the registry's digests, which confirm the peer's policies, have been missing.",
        lambda it: it.view.intent_unconfirmed_s if it.online else None,
    ),
    _gauge(
        "warren_policy_applied_revision", "The newest policy revision that the agent has applied completely.",
        lambda it: it.view.applied_revision,
    ),
    _gauge(
        "warren_policy_received_revision", "The newest policy revision that the agent has received, applied or not.",
        lambda it: it.view.received_revision,
    ),
    _gauge(
        "warren_policy_outdated", "1 if the agent has received a newer policy revision than it has applied, 0 otherwise.",
        lambda it: int(it.view.received_revision > it.view.applied_revision),
    ),
    _counter(
        "warren_peer_config_drifts_total", "Times that the daemon did not hold what the agent had given to it.",
        lambda it: it.view.config_drifts,
    ),
    _counter(
        "warren_peer_dpd_failures_total", "Peers that dead peer detection found unreachable.", lambda it: it.view.dpd_failures
    ),
    _counter(
        "warren_peer_policy_sync_errors_total", "Policies and records that the agent could not read or verify.",
        lambda it: it.view.policy_sync_errors,
    ),
    _gauge(
        "warren_agent_start_time_seconds", "Unix time at which the agent was started; absent while the peer is offline.",
        _while_online(lambda view: unix_time(view.started_at)),
    ),
    _gauge(
        "warren_agent_resident_memory_bytes", "Resident memory of the agent; absent while the peer is offline.",
        _while_online(lambda view: view.resident_bytes),
    ),
    _counter(
        "warren_agent_cpu_seconds_total", "CPU time of the agent; absent while the peer is offline.",
        _while_online(lambda view: view.cpu_seconds),
    ),
    _gauge(
        "warren_agent_queue_messages", "Telemetry messages that wait in the agent's memory for the bus.",
        _while_online(lambda view: view.queued),
    ),
    _gauge(
        "warren_agent_queue_bytes", "Telemetry that waits on the agent's disk for the bus.",
        _while_online(lambda view: view.queued_bytes),
    ),
    _counter(
        "warren_agent_dropped_messages_total", "Telemetry messages that the agent dropped since its queue was full.",
        _while_online(lambda view: view.dropped),
    ),
)  # fmt: skip

PEER_ALIASES: tuple[Column[PeerSample], ...] = (
    _untyped(
        "ipsec_policy_sync_errors_total",
        "As warren_peer_policy_sync_errors_total.",
        lambda it: it.view.policy_sync_errors,
    ),
)

DRIVER = Family(
    "gauge", "warren_daemon_up",
    "1 when the daemon of the peer's driver answers the agent, 0 when it does not; absent while this is unknown.",
)  # fmt: skip

ROLLOUT = Family(
    "gauge", "warren_policy_rollout_gateways",
    "Gateways of a policy by what they have done with its current revision: applied, pending, failed (received and not applied"
    " completely) or unreachable (offline).",
)  # fmt: skip
ROLLOUT_START = Family(
    "gauge", "warren_policy_rollout_start_timestamp_seconds",
    "Unix time at which the current revision of the policy was published, or this service was started if that was later; absent once"
    " every gateway has applied it.",
)  # fmt: skip

FLEET = (
    ("warren_peers_online", "Peers that are online."),
    ("warren_peers_known", "Peers that have reported within the last 7 days."),
    ("warren_policy_revision", "The newest policy revision that was published."),
)


def tunnel_labels(tunnel: str, peer: str) -> str:
    """The labels of an end of a tunnel."""
    return f'{{tunnel="{tunnel}",peer="{peer}"}} '


def alias_labels(tunnel: str, peer: str) -> str:
    """The labels of an end of a tunnel under the alias names."""
    return f'{{name="{tunnel}",peer="{peer}"}} '


def peer_labels(peer: str, _: str) -> str:
    """The labels of a peer."""
    return f'{{peer="{peer}"}} '


def driver_labels(peer: str, kind: str) -> str:
    """The labels of a driver of a peer, whose kind the agent chose."""
    return f'{{peer="{peer}",driver="{_escaped(kind)}"}} '


def rollout_labels(policy: str, state: str) -> str:
    """The labels of the gateways of a policy in one state."""
    return f'{{policy="{policy}",state="{state}"}} '


def policy_labels(policy: str, _: str) -> str:
    """The labels of a policy."""
    return f'{{policy="{policy}"}} '


def peer_values(columns: Sequence[Column[PeerSample]], view: PeerView, online: bool) -> Values:
    """The values of one peer."""
    sample = PeerSample(view, online)
    return tuple(column.value(sample) for column in columns)


def driver_states(view: PeerView, online: bool) -> dict[str, Values]:
    """The states of a peer's drivers, by their kinds, as far as they are known."""
    known = [driver for driver in view.drivers if online and driver.state is not DriverState.UNKNOWN]
    return {driver.kind: (int(driver.state is DriverState.UP),) for driver in known}


def _escaped(text: str) -> str:
    """A label's value that an agent chose."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
