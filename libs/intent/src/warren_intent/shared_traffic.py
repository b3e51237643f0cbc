"""Which tunnels of one peer have common traffic or name one identity, kept while tunnels come and go.

The answers are those of `conflicts.conflicts_at` and `conflicts.standbys_at` for the same tunnels.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping

from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, TunnelName
from warren_intent.conflicts import Claimant, Conflict, Shared, conflicts_of, share, standbys_of
from warren_intent.overlaps import Range, claim_the_same, claimed_ranges


class SharedTraffic:
    """The pairs of one peer's tunnels with common traffic, and the groups that name one identity."""

    def __init__(self) -> None:
        self._claimants: dict[TunnelName, Claimant] = {}
        self._claims: list[tuple[Range, TunnelName]] = []  # sorted
        self._lengths: dict[tuple[int, int], int] = {}  # number of claims by version and size of the network
        self._pairs: dict[frozenset[TunnelName], Shared] = {}
        self._pairs_of: dict[TunnelName, set[TunnelName]] = {}
        self._identities: dict[str, set[TunnelName]] = {}
        self._crowded: set[str] = set()  # identities that several tunnels name

    def add(self, claimant: Claimant) -> None:
        """Add a tunnel."""
        name = claimant.tunnel.name
        for claimed in claimed_ranges(claimant.tunnel):
            for other in self._overlapping(claimed):
                if other != name and frozenset((name, other)) not in self._pairs:
                    self._compare(claimant, self._claimants[other])
        self._claimants[name] = claimant
        for claimed in claimed_ranges(claimant.tunnel):
            insort(self._claims, (claimed, name))
            size = claimed[0], claimed[2] - claimed[1]
            self._lengths[size] = self._lengths.get(size, 0) + 1
        identity = canonical(claimant.tunnel.link.remote_auth.identity)
        holders = self._identities.setdefault(identity, set())
        holders.add(name)
        if len(holders) > 1:
            self._crowded.add(identity)

    def remove(self, claimant: Claimant) -> None:
        """Remove a tunnel that was added."""
        name = claimant.tunnel.name
        del self._claimants[name]
        for claimed in claimed_ranges(claimant.tunnel):
            del self._claims[bisect_left(self._claims, (claimed, name))]
            size = claimed[0], claimed[2] - claimed[1]
            self._lengths[size] -= 1
            if not self._lengths[size]:
                del self._lengths[size]
        for other in self._pairs_of.pop(name, ()):
            self._pairs_of[other].discard(name)
            del self._pairs[frozenset((name, other))]
        identity = canonical(claimant.tunnel.link.remote_auth.identity)
        holders = self._identities[identity]
        holders.discard(name)
        if len(holders) < 2:
            self._crowded.discard(identity)
        if not holders:
            del self._identities[identity]

    def conflicts(self, at: PeerId) -> dict[TunnelName, Conflict]:
        """The tunnels that lose a conflict at this peer."""
        if not (self._pairs or self._crowded):
            return {}
        groups = ([self._claimants[name] for name in self._identities[it]] for it in self._crowded)
        return conflicts_of(at, self._pairs.values(), groups)

    def standbys(self, excluded: Mapping[TunnelName, Conflict]) -> dict[TunnelName, tuple[TunnelName, ...]]:
        """The standby tunnels among those that are left."""
        left = (
            it
            for it in self._pairs.values()
            if excluded.keys().isdisjoint((it.first.tunnel.name, it.second.tunnel.name))
        )
        return standbys_of(left)

    def _compare(self, one: Claimant, other: Claimant) -> None:
        if claim_the_same(one.tunnel, other.tunnel):
            names = one.tunnel.name, other.tunnel.name
            self._pairs[frozenset(names)] = share(one, other)
            for name, partner in (names, names[::-1]):
                self._pairs_of.setdefault(name, set()).add(partner)

    def _overlapping(self, claimed: Range) -> Iterator[TunnelName]:
        """The tunnels with a network within this one, or around it: networks contain each other or are disjoint."""
        version, first, last = claimed
        begin = bisect_left(self._claims, ((version, first, -1), ""))
        end = bisect_right(self._claims, ((version, last, 1 << 129), "~"))
        yield from {name for _, name in self._claims[begin:end]}
        for held_version, span in list(self._lengths):
            if held_version != version or span <= last - first:
                continue
            start = first - first % (span + 1)
            around = (version, start, start + span)
            position = bisect_left(self._claims, (around, ""))
            while position < len(self._claims) and self._claims[position][0] == around:
                yield self._claims[position][1]
                position += 1
