"""The Prometheus exposition: seed 1's names, made anew at each scrape from the state in memory.

A series exists as long as its tunnel is reported; it vanishes with the tunnel. A tunnel whose peer is silent keeps its
counters and loses its state (`ipsec_tunnel_stale` becomes 1): nobody knows it, so neither 0 nor 1 would be true.
No name carries a generation, and no label anything that a payload may choose freely: tunnel names and peer ids alone.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from warren_bus.errors import BadSetting
from warren_contracts.status import DaemonState, TunnelState
from warren_metrics.domain.fleet import Fleet
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.domain.views import is_stale

SNAPSHOT_TIMEOUT = 10.0  # s that a scrape waits for the event loop; Prometheus gives up at the same time
_OF_TUNNEL = ["name", "peer"]


class TunnelSample(NamedTuple):
    """One end of one tunnel."""

    name: str
    peer: str
    view: TunnelView
    stale: bool


class PeerSample(NamedTuple):
    """One peer."""

    peer: str
    view: PeerView
    online: bool


class Snapshot(NamedTuple):
    """What one scrape tells."""

    now: datetime
    tunnels: tuple[TunnelSample, ...]
    peers: tuple[PeerSample, ...]


def snapshot(fleet: Fleet, now: datetime) -> Snapshot:
    """The state now; the views are immutable, so they may be read in another thread."""
    stale = {peer: is_stale(fleet, peer, now) for peer in fleet.peers}
    return Snapshot(
        now,
        tuple(
            TunnelSample(name, peer, view, stale.get(peer, True))
            for name, ends in fleet.tunnels.items()
            for peer, view in ends.items()
        ),
        tuple(PeerSample(peer, view, view.online(now)) for peer, view in fleet.peers.items()),
    )


class FleetCollector(Collector):
    """Asks for a snapshot at each scrape."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        taken = self._take()
        yield from _tunnels(taken)
        yield from _peers(taken)


def _tunnels(taken: Snapshot) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "ipsec_tunnel_state",
        "1 when the tunnel is up at this end, 0 when it is not (connecting, down, error); absent while its peer is silent.",
        labels=_OF_TUNNEL,
    )
    stale = GaugeMetricFamily(
        "ipsec_tunnel_stale",
        "1 when this end has not been heard lately, and the numbers are the last known.",
        labels=_OF_TUNNEL,
    )
    established = GaugeMetricFamily(
        "ipsec_tunnel_established_timestamp_seconds", "When the IKE_SA was established.", labels=_OF_TUNNEL
    )
    rekeys = CounterMetricFamily("ipsec_rekey_events", "Rekeyings of this tunnel.", labels=_OF_TUNNEL)
    restarts = CounterMetricFamily("ipsec_tunnel_restarts", "Restarts by the agent's watchdog.", labels=_OF_TUNNEL)
    traffic = {
        field: UntypedMetricFamily(f"ipsec_tunnel_{field}", f"{text} Counts up, across rekeyings.", labels=_OF_TUNNEL)
        for field, text in (
            ("bytes_in", "Bytes received through the tunnel."), ("bytes_out", "Bytes sent through the tunnel."),
            ("packets_in", "Packets received through the tunnel."), ("packets_out", "Packets sent through the tunnel."),
        )
    }  # fmt: skip
    for name, peer, view, is_old in taken.tunnels:
        labels, status = (name, peer), view.status
        if not is_old:
            state.add_metric(labels, float(status.state is TunnelState.UP))
        stale.add_metric(labels, float(is_old))
        if status.ike_established_at is not None and status.ike_established_at.tzinfo is not None:
            established.add_metric(labels, status.ike_established_at.timestamp())
        rekeys.add_metric(labels, status.rekeys)
        restarts.add_metric(labels, status.restarts)
        for field, family in traffic.items():
            family.add_metric(labels, getattr(status.traffic, field))
    yield from (state, stale, established, rekeys, restarts, *traffic.values())


def _peers(taken: Snapshot) -> Iterator[Metric]:
    online = GaugeMetricFamily("warren_peer_online", "1 when the peer has been heard lately.", labels=["peer"])
    uptime = GaugeMetricFamily("ipsec_agent_uptime_seconds", "How long the agent has been running.", labels=["peer"])
    memory = GaugeMetricFamily("ipsec_agent_resident_memory_bytes", "Resident memory of the agent.", labels=["peer"])
    cpu = CounterMetricFamily("ipsec_agent_cpu_seconds", "CPU time of the agent.", labels=["peer"])
    dpd = CounterMetricFamily("ipsec_dpd_failures", "Peers found dead by DPD.", labels=["peer"])
    sync = CounterMetricFamily(
        "ipsec_policy_sync_errors", "Policies that could not be verified or applied.", labels=["peer"]
    )
    applied = GaugeMetricFamily(
        "warren_policy_applied_revision",
        "The newest policy revision that the agent has applied in full.",
        labels=["peer"],
    )
    received = GaugeMetricFamily(
        "warren_policy_received_revision",
        "The newest policy revision that the agent has received, whether it could apply it or not.",
        labels=["peer"],
    )
    daemon = GaugeMetricFamily(
        "ipsec_daemon_up",
        "1 when the peer's IPsec daemon answers its agent; absent while nobody knows.",
        labels=["peer"],
    )
    for peer, view, is_online in taken.peers:
        labels = (peer,)
        online.add_metric(labels, float(is_online))
        dpd.add_metric(labels, view.dpd_failures)
        sync.add_metric(labels, view.policy_sync_errors)
        applied.add_metric(labels, view.applied_revision)
        received.add_metric(labels, view.received_revision)
        if is_online and view.daemon is not DaemonState.UNKNOWN:
            daemon.add_metric(labels, float(view.daemon is DaemonState.UP))
        if view.started_at is not None and is_online:
            uptime.add_metric(labels, max(0.0, (taken.now - view.started_at).total_seconds()))
            memory.add_metric(labels, view.resident_bytes)
            cpu.add_metric(labels, view.cpu_seconds)
    yield from (online, uptime, memory, cpu, dpd, sync, applied, received, daemon)
    yield GaugeMetricFamily(
        "warren_peers_online", "Peers heard lately.", value=sum(item.online for item in taken.peers)
    )
    yield GaugeMetricFamily("warren_peers_known", "Peers heard within the last days.", value=len(taken.peers))


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int) -> Iterator[None]:
    """Serve `/metrics` in a thread until the block ends; BadSetting when the address cannot be had."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        reason = f"cannot be had: {host}:{port}: {error.strerror or error}"
        raise BadSetting({"WARREN_METRICS_HOST, WARREN_METRICS_PORT": reason}) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def from_loop(loop: asyncio.AbstractEventLoop, take: Callable[[], Snapshot]) -> Callable[[], Snapshot]:
    """`take` for other threads: it runs in the event loop that owns the state."""

    async def taken() -> Snapshot:
        return take()

    return lambda: asyncio.run_coroutine_threadsafe(taken(), loop).result(SNAPSHOT_TIMEOUT)
