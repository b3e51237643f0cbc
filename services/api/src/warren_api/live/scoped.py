"""The live view for a reader of a scope: the rows of its peers and their tunnels, as they are when they are sent.

Whether a row is sent is decided by the tags that its peers have at that moment, and what a reader has been sent is remembered: a row
that leaves the scope is named as gone, whatever made it leave. There is no cursor: a reader whose scope was another in between would
continue with changes that are not its own.
"""

import json
from collections.abc import Iterable, Iterator

from warren_api.live.filters import LiveFilter
from warren_api.live.messages import LiveFrame, RowSnapshot, changed, health_changed, ready, rows_changed, snapshot
from warren_api.live.model import LiveChange, LiveModel, Row
from warren_contracts.commands import Health
from warren_contracts.live import LivePeer, LiveTunnel
from warren_contracts.names import Scope


class WholeFleet:
    """What a reader of the whole fleet is sent."""

    def __init__(self, wanted: LiveFilter) -> None:
        self._wanted = wanted

    def changed(self, change: LiveChange) -> Iterator[LiveFrame]:
        """The messages of a change."""
        return changed(change, self._wanted)

    def health(self, health: Health) -> LiveFrame:
        """The message of the services' health."""
        return health_changed(health)


class PartOfFleet:
    """What a reader of a scope is sent."""

    def __init__(self, model: LiveModel, scope: Scope, wanted: LiveFilter) -> None:
        self._model = model
        self._scope = frozenset(scope)
        self._wanted = wanted
        self._tunnels: set[str] = set()  # that the reader has
        self._peers: set[str] = set()

    def beginning(self, health: Health | None) -> Iterator[LiveFrame]:
        """The messages of a snapshot."""
        peers = [row for row in self._model.peers.values() if self._shows_peer(row.value)]
        names = {
            name
            for row in self._model.peers.values()
            if self._has(row.value)
            for name in self._model.tunnels_of(row.value.peer)
        }
        tunnels = [Row(tunnel) for name in sorted(names) if (tunnel := self._shown_tunnel(name)) is not None]
        self._peers |= {row.value.peer for row in peers}
        self._tunnels |= {row.value.name for row in tunnels}
        yield from snapshot(RowSnapshot(tunnels, peers, ()), LiveFilter(), None if health is None else _bare(health))
        yield ready(None)

    def changed(self, change: LiveChange) -> Iterator[LiveFrame]:
        """The messages of a change."""
        peers: list[str] = []
        names = {row.name for row in change.tunnels}
        for row in change.peers:
            peers.append(row.name)
            if row.before is None or row.after is None or row.before.value.tags != row.after.value.tags:
                names |= self._model.tunnels_of(row.name)
        yield from self._rows(peers, sorted(names))

    def health(self, health: Health) -> LiveFrame:
        """The message of the services' health, without reasons: they name what they concern."""
        return health_changed(_bare(health))

    def _rows(self, peers: Iterable[str], tunnels: Iterable[str]) -> Iterator[LiveFrame]:
        shown_peers: list[str] = []
        gone_peers: list[str] = []
        for name in peers:
            held = self._model.peers.get(name)
            if held is not None and self._shows_peer(held.value):
                self._peers.add(name)
                shown_peers.append(held.json)
            elif name in self._peers:
                self._peers.remove(name)
                gone_peers.append(json.dumps(name))
        shown: list[str] = []
        gone: list[str] = []
        for name in tunnels:
            tunnel = self._shown_tunnel(name)
            if tunnel is not None:
                self._tunnels.add(name)
                shown.append(Row(tunnel).json)
            elif name in self._tunnels:
                self._tunnels.remove(name)
                gone.append(json.dumps(name))
        yield from rows_changed({"peers": shown_peers, "peers_gone": gone_peers, "tunnels_gone": gone}, shown, None)

    def _has(self, peer: LivePeer) -> bool:
        return not self._scope.isdisjoint(peer.tags)

    def _shows_peer(self, peer: LivePeer) -> bool:
        return self._has(peer) and self._wanted.matches(peer)

    def _shown_tunnel(self, name: str) -> LiveTunnel | None:
        """A tunnel as it is shown; the filter is applied to that, so that it answers nothing about what is not shown."""
        tunnel = self._model.tunnel_of_scope(name, self._scope)
        return tunnel if tunnel is not None and self._wanted.matches(tunnel) else None


def _bare(health: Health) -> Health:
    return health.model_copy(update={"detail": {}, "remarks": {}})
