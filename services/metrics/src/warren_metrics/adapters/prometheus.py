"""The Prometheus exposition, built at each scrape from the state in memory.

A series exists as long as its tunnel is reported. While its peer is offline, a tunnel keeps its counters and has no state
(`ipsec_tunnel_stale` is 1): the state is unknown, so neither 0 nor 1 would be right. No name contains a generation, and labels are
only tunnel names and peer ids, never values that a payload may choose freely.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from warren_contracts.status import DriverState, ReasonCode, TunnelState
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.domain.views import is_stale, stands_by

SNAPSHOT_TIMEOUT = 10.0  # s that a scrape waits for the event loop: the scrape_timeout of Prometheus
SampleT = TypeVar("SampleT")


class TunnelSample(NamedTuple):
    """One end of one tunnel."""

    name: str
    peer: str
    view: TunnelView
    stale: bool
    standby: bool


class PeerSample(NamedTuple):
    """One peer; `uptime` (s) is None while it is unknown."""

    peer: str
    view: PeerView
    online: bool
    uptime: float | None


class Scrape(NamedTuple):
    """The samples of one scrape."""

    tunnels: tuple[TunnelSample, ...]
    peers: tuple[PeerSample, ...]


def snapshot(fleet: FleetTelemetry, now: datetime) -> Scrape:
    """The current state; the views are immutable, so another thread may read them."""
    stale = {peer: is_stale(fleet, peer, now) for peer in fleet.peers}
    return Scrape(
        tuple(
            TunnelSample(name, peer, view, stale.get(peer, True), stands_by(ends, peer))
            for name, ends in fleet.tunnels.items()
            for peer, view in ends.items()
        ),
        tuple(PeerSample(peer, view, view.online(now), _uptime(view, now)) for peer, view in fleet.peers.items()),
    )


def _uptime(view: PeerView, now: datetime) -> float | None:
    if view.started_at is None or not view.online(now):
        return None
    return max(0.0, (now - view.started_at).total_seconds())


class FleetCollector(Collector):
    """Collects a snapshot at each scrape."""

    def __init__(self, take: Callable[[], Scrape]) -> None:
        self._take = take

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        taken = self._take()
        yield from _tunnels(taken)
        yield from _peers(taken)


class Series(NamedTuple, Generic[SampleT]):
    """A metric of every sample of one kind, except those whose `value` is None."""

    family: type[GaugeMetricFamily | CounterMetricFamily | UntypedMetricFamily]
    name: str
    text: str
    value: Callable[[SampleT], float | None]


def _state(sample: TunnelSample) -> float | None:
    return None if sample.stale else float(sample.view.status.state is TunnelState.UP)


def _degraded(sample: TunnelSample) -> float | None:
    return None if sample.stale else float(sample.view.status.state is TunnelState.DEGRADED)


def _standby(sample: TunnelSample) -> float | None:
    return None if sample.stale else float(sample.standby)


def _evidence(sample: TunnelSample) -> float | None:
    at = sample.view.status.evidence.at
    return None if at is None or at.tzinfo is None else at.timestamp()


def _established(sample: TunnelSample) -> float | None:
    at = sample.view.status.link.ike_established_at
    return None if at is None or at.tzinfo is None else at.timestamp()


_TUNNEL_SERIES: tuple[Series[TunnelSample], ...] = (
    Series(
        GaugeMetricFamily, "ipsec_tunnel_state",
        "1 if the tunnel is up at this end, 0 otherwise (degraded, connecting, standby, down, error); absent while the peer is offline.",
        _state,
    ),
    Series(
        GaugeMetricFamily, "ipsec_tunnel_degraded",
        "1 if CHILD_SAs are installed at this end and something contradicts that packets pass, 0 otherwise; absent while"
        " the peer is offline.",
        _degraded,
    ),
    Series(
        GaugeMetricFamily, "ipsec_tunnel_standby",
        "1 while the tunnel has no SA at this end since another one carries its traffic (redundant gateways), 0 otherwise;"
        " absent while the peer is offline.",
        _standby,
    ),
    Series(
        GaugeMetricFamily, "ipsec_tunnel_evidence_timestamp_seconds",
        "Unix time of the newest evidence that packets pass: a packet of the peer was decrypted, or a probe was answered."
        " Absent if there was none.",
        _evidence,
    ),
    Series(
        GaugeMetricFamily, "ipsec_tunnel_stale",
        "1 while the peer of this end is offline: its values are the last known ones.",
        lambda it: float(it.stale),
    ),
    Series(
        GaugeMetricFamily, "ipsec_tunnel_established_timestamp_seconds", "Unix time at which the IKE_SA was established.", _established
    ),
    Series(
        CounterMetricFamily, "ipsec_rekey_events", "Rekeyings of the tunnel.", lambda it: it.view.status.rekeys
    ),
    Series(
        CounterMetricFamily, "ipsec_tunnel_restarts", "Restarts of the tunnel by the agent's watchdog.",
        lambda it: it.view.status.restarts,
    ),
    Series(
        UntypedMetricFamily, "ipsec_tunnel_bytes_in", "Bytes received through the tunnel. Monotonic across rekeyings.",
        lambda it: it.view.status.traffic.bytes_in,
    ),
    Series(
        UntypedMetricFamily, "ipsec_tunnel_bytes_out", "Bytes sent through the tunnel. Monotonic across rekeyings.",
        lambda it: it.view.status.traffic.bytes_out,
    ),
    Series(
        UntypedMetricFamily, "ipsec_tunnel_packets_in",
        "Packets received through the tunnel. Monotonic across rekeyings.",
        lambda it: it.view.status.traffic.packets_in,
    ),
    Series(
        UntypedMetricFamily, "ipsec_tunnel_packets_out", "Packets sent through the tunnel. Monotonic across rekeyings.",
        lambda it: it.view.status.traffic.packets_out,
    ),
)  # fmt: skip


def _of_process(sample: PeerSample, value: float) -> float | None:
    """A value of the agent's process; None while the peer is offline or its start is unknown."""
    return None if sample.uptime is None else value


def _driver_states(peers: Iterable[PeerSample]) -> Metric:
    family = GaugeMetricFamily(
        "ipsec_daemon_up",
        "1 when the daemon of the peer's driver answers the agent, 0 when it does not; absent while this is unknown.",
        labels=("peer", "driver"),
    )
    for sample in peers:
        for driver in sample.view.drivers if sample.online else ():
            if driver.state is not DriverState.UNKNOWN:
                family.add_metric((sample.peer, driver.kind), float(driver.state is DriverState.UP))
    return family


_PEER_SERIES: tuple[Series[PeerSample], ...] = (
    Series(
        GaugeMetricFamily, "warren_peer_online", "1 if the peer is online, 0 otherwise.", lambda it: float(it.online)
    ),
    Series(GaugeMetricFamily, "ipsec_agent_uptime_seconds", "Seconds since the agent was started.", lambda it: it.uptime),
    Series(
        GaugeMetricFamily, "ipsec_agent_resident_memory_bytes", "Resident memory of the agent, in bytes.",
        lambda it: _of_process(it, it.view.resident_bytes),
    ),
    Series(
        CounterMetricFamily, "ipsec_agent_cpu_seconds", "CPU time of the agent, in seconds.",
        lambda it: _of_process(it, it.view.cpu_seconds),
    ),
    Series(
        CounterMetricFamily, "ipsec_dpd_failures", "Peers that dead peer detection found unreachable.", lambda it: it.view.dpd_failures
    ),
    Series(
        CounterMetricFamily, "ipsec_policy_sync_errors", "Policies and records that the agent could not read or verify.",
        lambda it: it.view.policy_sync_errors,
    ),
    Series(
        GaugeMetricFamily, "warren_policy_applied_revision",
        "The newest policy revision that the agent has applied completely.",
        lambda it: it.view.applied_revision,
    ),
    Series(
        GaugeMetricFamily, "warren_policy_received_revision",
        "The newest policy revision that the agent has received, applied or not.",
        lambda it: it.view.received_revision,
    ),
)  # fmt: skip


def _families(
    table: Iterable[Series[SampleT]],
    samples: Iterable[SampleT],
    labels: Sequence[str],
    values: Callable[[SampleT], Sequence[str]],
) -> Iterator[Metric]:
    for series in table:
        family = series.family(series.name, series.text, labels=labels)
        for sample in samples:
            if (value := series.value(sample)) is not None:
                family.add_metric(values(sample), value)
        yield family


def _reasons(tunnels: Iterable[TunnelSample]) -> Metric:
    family = GaugeMetricFamily(
        "ipsec_tunnel_reason",
        "1 for the reason why the tunnel is not up at this end; absent while it is up or the peer is offline.",
        labels=("name", "peer", "reason"),
    )
    for sample in tunnels:
        reason = sample.view.status.reason
        if not sample.stale and reason is not ReasonCode.NONE:
            family.add_metric((sample.name, sample.peer, reason.value), 1.0)
    return family


def _tunnels(taken: Scrape) -> Iterator[Metric]:
    yield _reasons(taken.tunnels)
    yield from _families(_TUNNEL_SERIES, taken.tunnels, ("name", "peer"), lambda it: (it.name, it.peer))


def _peers(taken: Scrape) -> Iterator[Metric]:
    yield from _families(_PEER_SERIES, taken.peers, ("peer",), lambda it: (it.peer,))
    yield _driver_states(taken.peers)
    yield GaugeMetricFamily(
        "warren_peers_online", "Peers that are online.", value=sum(item.online for item in taken.peers)
    )
    yield GaugeMetricFamily(
        "warren_peers_known", "Peers that have reported within the last 7 days.", value=len(taken.peers)
    )


def from_loop(loop: asyncio.AbstractEventLoop, take: Callable[[], Scrape]) -> Callable[[], Scrape]:
    """`take` for other threads: it runs in the event loop that owns the state."""

    async def taken() -> Scrape:
        return take()

    return lambda: asyncio.run_coroutine_threadsafe(taken(), loop).result(SNAPSHOT_TIMEOUT)
