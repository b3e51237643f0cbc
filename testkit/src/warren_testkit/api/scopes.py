"""Scopes of a fleet in memory, as the registry knows them."""

from collections.abc import Collection
from datetime import UTC, datetime

from warren_contracts.names import Scope
from warren_contracts.peers import PeerSummary
from warren_contracts.scope import ListScopedPeers, ScopedPeers

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class FakeScopes:
    """The verb; `FakeBus` has the state. `tagged_at`: since when a peer has carried its tags, if not for long."""

    peers: dict[str, PeerSummary]
    tagged_at: dict[str, datetime]

    def _registry_scoped_peers(self, query: ListScopedPeers) -> ScopedPeers:
        names = [name for name in sorted(of_scope(self.peers, query.scope)) if name > query.after]
        shown = names[: query.limit]
        return ScopedPeers(
            peers={name: self.tagged_at.get(name, LONG_AGO) for name in shown},
            next_after=shown[-1] if len(names) > len(shown) else None,
        )


def of_scope(peers: dict[str, PeerSummary], scope: Scope | None) -> dict[str, PeerSummary]:
    """The peers of a scope; without one all."""
    return {name: it for name, it in peers.items() if scope is None or not set(scope).isdisjoint(it.tags)}


def has_end(peers: Collection[str], ends: Collection[str] | None) -> bool:
    """Whether one of a tunnel's peers is one of these; None: any."""
    return ends is None or not set(ends).isdisjoint(peers)
