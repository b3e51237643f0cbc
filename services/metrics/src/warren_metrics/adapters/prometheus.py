"""The Prometheus exposition of the fleet.

The event loop only hands over what changed since the last scrape, in slices; a thread renders it (`adapters/series.py`). A series
exists as long as its tunnel is reported. While its peer is offline, or back without a current report, a tunnel keeps its counters and
has no state (`warren_tunnel_stale` is 1): the state is unknown, so neither 0 nor 1 would be right. No name contains a generation,
and labels are only names that are bounded by their patterns, never values that a payload may choose freely.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from warren_contracts.explanation import Cause
from warren_contracts.rollouts import PolicyRollout
from warren_metrics.adapters import families
from warren_metrics.adapters.gzip_parts import Part, compress
from warren_metrics.adapters.series import SeriesTable
from warren_metrics.domain.causes import cause, facts, is_plainly_up, outdated_ends
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import PeerView, TunnelView, unix_time
from warren_metrics.domain.views import is_stale, stands_by

SLICE = 1_000  # tunnels that are handed over at once: half a millisecond of the event loop

Ends = Mapping[str, TunnelView]  # of a tunnel, by the peer that reports it; none: the tunnel is gone
_GONE: dict[str, TunnelView] = {}


class Moment(NamedTuple):
    """What the renderer has to know of the whole fleet: immutable views only."""

    now: datetime
    peers: Mapping[str, PeerView]
    stale: frozenset[str]  # peers that are offline
    outdated: Mapping[str, datetime]  # peers, and before when their reports are outdated
    rollouts: Sequence[PolicyRollout]


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
        revision: Callable[[], int] = lambda: 0, rollouts: Callable[[datetime], Sequence[PolicyRollout]] = lambda now: (),
        aliases: bool = False,
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._registry = registry
        self._now = now
        self._revision = revision
        self._rollouts = rollouts
        self._counts = FleetCounts()
        registry.register(self._counts)
        self._one_at_a_time = asyncio.Lock()  # others would repeat its work
        self._renderer = Renderer(aliases)

    async def scrape(self, accept: str) -> tuple[str, list[Part]]:
        """The content type by the Accept header, and the exposition."""
        encode, content_type = choose_encoder(accept)
        async with self._one_at_a_time:
            moment = self._moment()
            self._counts.values = {
                "warren_peers_known": len(moment.peers),
                "warren_peers_online": len(moment.peers) - len(moment.stale),
                "warren_policy_revision": self._revision(),
            }
            openmetrics = content_type.startswith("application/openmetrics-text")
            await self._hand_over(moment)
            parts = await asyncio.to_thread(self._renderer.render, openmetrics)
            own = await asyncio.to_thread(encode, self._registry)
        return content_type, [*parts, compress(own)]  # last: it ends with the `# EOF` of OpenMetrics

    def _moment(self) -> Moment:
        now, fleet = self._now(), self._fleet
        stale = frozenset(peer for peer in fleet.peers if is_stale(fleet, peer, now))
        outdated = {peer: view.outdated_until for peer, view in fleet.peers.items() if view.outdated_until is not None}
        return Moment(now, dict(fleet.peers), stale, outdated, self._rollouts(now))

    async def _hand_over(self, moment: Moment) -> None:
        """Give the tunnels that changed to the renderer, a slice at a time: it works on one that the processor has just read."""
        fleet, renderer = self._fleet, self._renderer
        changed = fleet.changed.take()
        if changed is None:
            names: Iterable[str] = list(fleet.tunnels)
        else:
            back = {peer for peer, _ in moment.outdated.items() ^ renderer.outdated.items()}
            for peer in back | (moment.stale ^ renderer.stale):
                changed.update(dict.fromkeys(fleet.names_of(peer)))
            names = changed
        try:
            await asyncio.to_thread(renderer.begin, moment, changed is None)
            waiting = iter(names)
            while part := list(islice(waiting, SLICE)):
                found = [(name, fleet.tunnels.get(name, _GONE).copy()) for name in part]
                await asyncio.to_thread(renderer.replace, found)
        except BaseException:
            fleet.changed.invalidate()
            raise


class Renderer:
    """The fleet's series. One thread at a time may use it."""

    def __init__(self, aliases: bool) -> None:
        self._aliases = aliases
        self.stale: frozenset[str] = frozenset()  # peers, as they are rendered
        self.outdated: Mapping[str, datetime] = {}  # the same
        self._views: Mapping[str, PeerView] = {}
        self._now = datetime.min.replace(tzinfo=UTC)
        self._peers = SeriesTable([it.family for it in families.PEER], families.peer_labels)
        self._drivers = SeriesTable([families.DRIVER], families.driver_labels)
        self._peer_aliases = SeriesTable([it.family for it in families.PEER_ALIASES], families.peer_labels)
        self._rollouts = SeriesTable([families.ROLLOUT], families.rollout_labels)
        self._rollout_starts = SeriesTable([families.ROLLOUT_START], families.policy_labels)
        self._forget_tunnels()

    def begin(self, moment: Moment, everything: bool) -> None:
        """Take over the peers and policies; with `everything`, all tunnels follow."""
        self.stale, self.outdated = moment.stale, moment.outdated
        self._views, self._now = moment.peers, moment.now
        if everything:
            self._forget_tunnels()
        self._replace_peers()
        self._replace_rollouts(moment.rollouts)

    def replace(self, tunnels: Iterable[tuple[str, Ends]]) -> None:
        """Take over tunnels that changed."""
        for name, ends in tunnels:
            self._replace(name, ends)

    def render(self, openmetrics: bool) -> list[Part]:
        """The exposition of what was taken over."""
        tables = [self._tunnels, self._peers, self._drivers, self._rollouts, self._rollout_starts]
        if self._aliases:
            tables += [self._tunnel_aliases, self._peer_aliases]
        return [part for table in tables for part in table.parts(openmetrics)]

    def _forget_tunnels(self) -> None:
        self._causes: dict[str, tuple[Hashable, Cause]] = {}  # of the tunnels that are not plainly up, with the facts
        self._tunnels = SeriesTable(families.TUNNEL, families.tunnel_labels)
        self._tunnel_aliases = SeriesTable(families.TUNNEL_ALIASES, families.alias_labels)

    def _replace(self, name: str, ends: Ends) -> None:
        peers = tuple(ends)
        stale: Set[str] = self.stale
        if not self.outdated.keys().isdisjoint(ends):
            stale = stale | outdated_ends(ends, self._views)
        if stale.isdisjoint(ends) and is_plainly_up(ends, self._views, self.stale):
            self._causes.pop(name, None)
            self._tunnels.replace(name, peers, list(map(families.values_of_plainly_up, ends.values())))
        else:
            first, found = min(peers), self._cause(name, ends)
            values = [
                families.tunnel_values(view, peer in stale, stands_by(ends, peer), found if peer == first else None)
                for peer, view in ends.items()
            ]
            self._tunnels.replace(name, peers, values)
        if self._aliases:
            self._tunnel_aliases.replace(
                name, peers, [families.alias_values(view, peer in stale) for peer, view in ends.items()]
            )

    def _cause(self, name: str, ends: Ends) -> Cause | None:
        """What is wrong with a tunnel; it is found again only when the facts have changed."""
        seen = facts(ends, self._views, self.stale)
        known = self._causes.get(name)
        if known is None or known[0] != seen:
            known = self._causes[name] = seen, cause(name, ends, self._views, self.stale, self._now)
        return None if known[1] is Cause.NONE else known[1]

    def _replace_peers(self) -> None:
        for gone in [peer for peer in self._peers.groups if peer not in self._views]:
            for table in (self._peers, self._drivers, self._peer_aliases):
                table.replace(gone, (), [])
        for peer, view in self._views.items():
            online = peer not in self.stale
            self._peers.replace(peer, ("",), [families.peer_values(families.PEER, view, online)])
            drivers = families.driver_states(view, online)
            self._drivers.replace(peer, tuple(drivers), list(drivers.values()))
            if self._aliases:
                self._peer_aliases.replace(peer, ("",), [families.peer_values(families.PEER_ALIASES, view, online)])

    def _replace_rollouts(self, rollouts: Sequence[PolicyRollout]) -> None:
        known = {it.policy for it in rollouts}
        for gone in [policy for policy in self._rollouts.groups if policy not in known]:
            self._rollouts.replace(gone, (), [])
            self._rollout_starts.replace(gone, (), [])
        for it in rollouts:
            self._rollouts.replace(it.policy, tuple(it.gateways), [(count,) for count in it.gateways.values()])
            self._rollout_starts.replace(it.policy, ("",), [(unix_time(it.since),)])
