"""The Prometheus exposition of the fleet.

The event loop only hands over what changed since the last scrape, in slices; a thread renders it (`adapters/series.py`). A series
exists as long as its tunnel is reported. While its peer is offline, a tunnel keeps its counters and has no state
(`warren_tunnel_stale` is 1): the state is unknown, so neither 0 nor 1 would be right. No name contains a generation, and labels
are only names that are bounded by their patterns, never values that a payload may choose freely.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from warren_contracts.explanation import Cause
from warren_metrics.adapters import families
from warren_metrics.adapters.gzip_parts import Part, compress
from warren_metrics.adapters.series import SeriesTable
from warren_metrics.domain.causes import cause, facts, is_plainly_up
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.domain.views import is_stale, stands_by

SLICE = 1_000  # tunnels that are handed over at once: half a millisecond of the event loop

Ends = tuple[tuple[str, TunnelView], ...]


class Handover(NamedTuple):
    """What the renderer gets of the event loop: immutable views only."""

    now: datetime
    peers: tuple[tuple[str, PeerView], ...]
    stale: frozenset[str]
    everything: bool  # the tunnels are all that there are
    tunnels: tuple[tuple[str, Ends], ...]  # those that changed; without ends: it is gone


class FleetCounts(Collector):
    """Gauges of the whole fleet, of the last handover."""

    def __init__(self) -> None:
        self.values: Mapping[str, float] = {}

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for name, text in families.FLEET:
            if name in self.values:
                yield GaugeMetricFamily(name, text, value=self.values[name])


class FleetScraper:
    """Scrapes of the fleet and of a registry, one at a time. With `aliases`, the untyped names of `families.TUNNEL_ALIASES` too."""

    def __init__(
        self, fleet: FleetTelemetry, registry: CollectorRegistry, now: Callable[[], datetime], *,
        revision: Callable[[], int] = lambda: 0, aliases: bool = False,
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._registry = registry
        self._now = now
        self._revision = revision
        self._counts = FleetCounts()
        registry.register(self._counts)
        self._one_at_a_time = asyncio.Lock()  # others would repeat its work
        self._renderer = Renderer(aliases)

    async def scrape(self, accept: str) -> tuple[str, list[Part]]:
        """The content type by the Accept header, and the exposition."""
        encode, content_type = choose_encoder(accept)
        async with self._one_at_a_time:
            handover = await self._handover()
            self._counts.values = {
                "warren_peers_known": len(handover.peers),
                "warren_peers_online": len(handover.peers) - len(handover.stale),
                "warren_policy_revision": self._revision(),
            }
            openmetrics = content_type.startswith("application/openmetrics-text")
            parts = await asyncio.to_thread(self._renderer.render, handover, openmetrics)
            own = await asyncio.to_thread(encode, self._registry)
        return content_type, [*parts, compress(own)]  # last: it ends with the `# EOF` of OpenMetrics

    async def _handover(self) -> Handover:
        now, fleet = self._now(), self._fleet
        peers = tuple(fleet.peers.items())
        stale = frozenset(peer for peer in fleet.peers if is_stale(fleet, peer, now))
        changed = fleet.changed.take()
        if changed is None:
            names = list(fleet.tunnels)
        else:
            for peer in stale ^ self._renderer.stale:
                changed.update(fleet.names_of(peer))
            names = list(changed)
        found: list[tuple[str, Ends]] = []
        try:
            waiting = iter(names)
            while part := list(islice(waiting, SLICE)):
                found += [(name, tuple(fleet.tunnels.get(name, {}).items())) for name in part]
                await asyncio.sleep(0)
        except BaseException:
            fleet.changed.invalidate()
            raise
        return Handover(now, peers, stale, changed is None, tuple(found))


class Renderer:
    """The fleet's series. One thread at a time may use it."""

    def __init__(self, aliases: bool) -> None:
        self._aliases = aliases
        self.stale: frozenset[str] = frozenset()  # peers, as they are rendered
        self._views: Mapping[str, PeerView] = {}
        self._now = datetime.min.replace(tzinfo=UTC)
        self._peers = SeriesTable([it.family for it in families.PEER], families.peer_labels)
        self._drivers = SeriesTable([families.DRIVER], families.driver_labels)
        self._peer_aliases = SeriesTable([it.family for it in families.PEER_ALIASES], families.peer_labels)
        self._forget_tunnels()

    def render(self, handover: Handover, openmetrics: bool) -> list[Part]:
        """The exposition after a handover."""
        self.stale, self._views, self._now = handover.stale, dict(handover.peers), handover.now
        if handover.everything:
            self._forget_tunnels()
        for name, ends in handover.tunnels:
            self._replace(name, ends)
        self._replace_peers(handover)
        tables = [self._tunnels, self._peers, self._drivers]
        if self._aliases:
            tables += [self._tunnel_aliases, self._peer_aliases]
        return [part for table in tables for part in table.parts(openmetrics)]

    def _forget_tunnels(self) -> None:
        self._causes: dict[str, tuple[Hashable, Cause]] = {}  # of the tunnels that are not plainly up, with the facts
        self._tunnels = SeriesTable(families.TUNNEL, families.tunnel_labels)
        self._tunnel_aliases = SeriesTable(families.TUNNEL_ALIASES, families.alias_labels)

    def _replace(self, name: str, ends: Ends) -> None:
        if not ends:
            self._causes.pop(name, None)
            self._tunnels.replace(name, (), ())
            self._tunnel_aliases.replace(name, (), ())
            return
        stale, values_of = self.stale, families.tunnel_values
        peers, views = cast("tuple[tuple[str, ...], tuple[TunnelView, ...]]", tuple(zip(*ends, strict=True)))
        by_peer = dict(ends)
        if is_plainly_up(by_peer, self._views, stale):
            self._causes.pop(name, None)
            values = [values_of(view, False, False) for view in views]
        else:
            first, label = min(peers), self._cause(name, by_peer)
            values = [
                values_of(view, peer in stale, stands_by(by_peer, peer), label if peer == first else None)
                for peer, view in ends
            ]
        self._tunnels.replace(name, peers, values)
        if self._aliases:
            self._tunnel_aliases.replace(
                name, peers, [families.alias_values(view, peer in stale) for peer, view in ends]
            )

    def _cause(self, name: str, ends: Mapping[str, TunnelView]) -> str | None:
        """The label of what is wrong with a tunnel; it is found again only when the facts have changed."""
        seen = facts(ends, self._views, self.stale)
        known = self._causes.get(name)
        if known is None or known[0] != seen:
            known = self._causes[name] = seen, cause(name, ends, self._views, self.stale, self._now)
        return None if known[1] is Cause.NONE else f'cause="{known[1].value}"'

    def _replace_peers(self, handover: Handover) -> None:
        known = {peer for peer, _ in handover.peers}
        for gone in [peer for peer in self._peers.groups if peer not in known]:
            for table in (self._peers, self._drivers, self._peer_aliases):
                table.replace(gone, (), [])
        for peer, view in handover.peers:
            online = peer not in handover.stale
            self._peers.replace(peer, ("",), [families.peer_values(families.PEER, view, online)])
            drivers = families.driver_states(view, online)
            self._drivers.replace(peer, tuple(drivers), list(drivers.values()))
            if self._aliases:
                self._peer_aliases.replace(peer, ("",), [families.peer_values(families.PEER_ALIASES, view, online)])
