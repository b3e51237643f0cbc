"""Conflicts: two tunnels of one peer that claim the same traffic, or the same identity of the other end. One is removed.

Two tunnels with common traffic are not a conflict where it is known which of them carries a packet: by the interface ids and marks
of their packets, by the longer prefix (a policy sets the networks of that tunnel, or the other has a default route), or because
one is the standby of the other: their other ends are redundant gateways, and operators gave both a priority.

The order of conflicting tunnels: values that a policy sets for the other end before announced ones, the higher priority, the
lower policy id, the explicit tunnel, the lower name. A tunnel that loses at one end is removed at both, also if the winner is
removed by another conflict: so each end finds the same answer from the tunnels of the two ends only, and no peer has two tunnels
for the same packets.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from warren_contracts.base import amended
from warren_contracts.identities import canonical
from warren_contracts.ipsec import Xfrm
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.policy import TunnelEnd
from warren_contracts.selectors import networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.overlaps import Range, are_apart, claimed_twice, inner_tunnel, overlap, ranges_of

NO_XFRM = Xfrm()


class Claimant(NamedTuple):
    """A tunnel as seen from one of its ends."""

    candidate: Candidate
    tunnel: Tunnel
    own_priority: int | None = None  # of the two ends among redundant gateways
    other_priority: int | None = None


class Precedence(StrEnum):
    """How two tunnels of one peer with common traffic share it."""

    LONGER_PREFIX = "longer-prefix"  # both are up
    STANDBY = "standby"  # one is started only while the other does not work
    CONFLICT = "conflict"  # one is removed


class Conflict(NamedTuple):
    """Two conflicting tunnels, and the peer at which they conflict."""

    winner: Claimant
    loser: Claimant
    at: PeerId
    same_identity: bool


def other_end(claimant: Claimant) -> TunnelEnd:
    """What the policy sets for the other end."""
    return (claimant.candidate.first, claimant.candidate.second)[_other_position(claimant)]


def _other_position(claimant: Claimant) -> int:
    return 0 if claimant.candidate.first.peer == claimant.tunnel.peer else 1


def states_networks(claimant: Claimant) -> bool:
    """Whether the policy, rather than an announcement, sets networks of the other end."""
    position = _other_position(claimant)
    return bool(other_end(claimant).subnets) or any(child.ts[position] for child in claimant.candidate.children)


def rank(claimant: Claimant) -> tuple[bool, int, str, bool, str]:
    """Sort key of conflicting tunnels; the lowest wins."""
    candidate = claimant.candidate
    stated = states_networks(claimant) or other_end(claimant).identity is not None
    return (
        not stated,
        -candidate.policy.priority,
        candidate.policy.id,
        candidate.path == "topology",
        candidate.name,
    )


class Shared(NamedTuple):
    """Two tunnels of one peer with common traffic. `first` carries it: the longer prefix, or the higher priority."""

    first: Claimant
    second: Claimant
    precedence: Precedence


def shared_at(claimants: Sequence[Claimant]) -> Iterator[Shared]:
    """The pairs of one peer's tunnels that have common traffic, each pair once."""
    by_name = {claimant.tunnel.name: claimant for claimant in claimants}
    for one, other in claimed_twice([claimant.tunnel for claimant in claimants]):
        yield share(by_name[one.name], by_name[other.name])


def share(one: Claimant, other: Claimant) -> Shared:
    """How two tunnels with common traffic share it, whatever their order."""
    inner = inner_tunnel(one.tunnel, other.tunnel)
    first, second = (other, one) if inner is other.tunnel else (one, other)
    if inner is not None and (states_networks(first) or _is_default_route(second.tunnel, first.tunnel)):
        return Shared(first, second, Precedence.LONGER_PREFIX)
    if not _are_redundant(one, other):
        winner, loser = sorted((one, other), key=rank)
        return Shared(winner, loser, Precedence.CONFLICT)
    assert one.other_priority is not None
    assert other.other_priority is not None
    if inner is not None and first.other_priority == max(one.other_priority, other.other_priority):
        return Shared(first, second, Precedence.LONGER_PREFIX)
    preferred, standby = (one, other) if one.other_priority > other.other_priority else (other, one)
    return Shared(preferred, standby, Precedence.STANDBY)


def _is_default_route(outer: Tunnel, inner: Tunnel) -> bool:
    """Whether only default routes of `outer` contain networks of `inner`: an announcement may narrow these and nothing else."""
    networks = [network for child in inner.link.children for network in networks_of(child.remote_ts)]
    return all(
        network.prefixlen == 0
        for child in outer.link.children
        for network in networks_of(child.remote_ts)
        if overlap((network,), networks)
    )


def _are_redundant(one: Claimant, other: Claimant) -> bool:
    """Whether the other ends are redundant gateways of distinct priorities.

    This end decides which of them is used. If it were a redundant gateway itself, the other ends would decide, too.
    """
    priorities = {one.other_priority, other.other_priority}
    peers = {one.tunnel.peer, other.tunnel.peer}
    return one.own_priority is None and None not in priorities | peers and len(priorities) == len(peers) == 2


def standbys_at(claimants: Sequence[Claimant]) -> dict[TunnelName, tuple[TunnelName, ...]]:
    """The standby tunnels of one peer, each with the tunnels that have precedence over it, the preferred one first."""
    return standbys_of(shared_at(claimants))


def standbys_of(pairs: Iterable[Shared]) -> dict[TunnelName, tuple[TunnelName, ...]]:
    """The same, from the pairs that have common traffic; their order does not matter."""
    found: dict[TunnelName, list[Claimant]] = {}
    for preferred, standby, precedence in pairs:
        if precedence is Precedence.STANDBY:
            found.setdefault(standby.tunnel.name, []).append(preferred)
    return {
        name: tuple(
            it.tunnel.name for it in sorted(preferred, key=lambda it: (-(it.other_priority or 0), it.tunnel.name))
        )
        for name, preferred in found.items()
    }


def conflicts_at(at: PeerId, claimants: Sequence[Claimant]) -> dict[TunnelName, Conflict]:
    """The tunnels of one peer that lose a conflict there, each with its highest ranking winner."""
    holders: dict[str, list[Claimant]] = {}
    for claimant in claimants:
        holders.setdefault(canonical(claimant.tunnel.link.remote_auth.identity), []).append(claimant)
    return conflicts_of(at, shared_at(claimants), (same for same in holders.values() if len(same) > 1))


def conflicts_of(
    at: PeerId, pairs: Iterable[Shared], same_identity: Iterable[Sequence[Claimant]]
) -> dict[TunnelName, Conflict]:
    """The same, from the pairs that have common traffic and the groups that name one identity; their order does not matter."""
    found: dict[TunnelName, Conflict] = {}
    for winner, loser, is_identity in _conflicting_pairs(pairs, same_identity):
        held = found.get(loser.tunnel.name)
        if held is None or (rank(winner), is_identity) < (rank(held.winner), held.same_identity):
            found[loser.tunnel.name] = Conflict(winner, loser, at, is_identity)
    return found


def _conflicting_pairs(
    pairs: Iterable[Shared], same_identity: Iterable[Sequence[Claimant]]
) -> Iterator[tuple[Claimant, Claimant, bool]]:
    """Winner and loser of each conflict, and whether it is about their identities."""
    for winner, loser, precedence in pairs:
        if precedence is Precedence.CONFLICT:
            yield winner, loser, False
    for same in same_identity:
        ranked = sorted(same, key=rank)
        for number, first in enumerate(ranked):
            yield from ((first, second, True) for second in ranked[number + 1 :])


def all_conflicts(claimants: Mapping[PeerId, Sequence[Claimant]]) -> dict[TunnelName, Conflict]:
    """The tunnels of a fleet that lose a conflict; `claimants` are those of each peer."""
    found: dict[TunnelName, Conflict] = {}
    for peer in sorted(claimants):
        for name, conflict in conflicts_at(peer, claimants[peer]).items():
            found.setdefault(name, conflict)
    return found


def mirrored(claimant: Claimant, me: PeerId) -> Claimant:
    """A tunnel as seen from the other end, in the fields that matter for conflicts; `me` is the end of the tunnel."""
    candidate, tunnel = claimant.candidate, claimant.tunnel
    link = tunnel.link
    children = tuple(amended(child, local_ts=child.remote_ts, remote_ts=child.local_ts) for child in link.children)
    turned = amended(
        link, local_auth=link.remote_auth, remote_auth=link.local_auth, children=children,
        xfrm=other_end(claimant).xfrm or NO_XFRM,
    )  # fmt: skip
    return Claimant(candidate, amended(tunnel, peer=me, link=turned), claimant.other_priority, claimant.own_priority)


def claimants_by_peer(derived: Sequence[Claimant]) -> dict[PeerId, list[Claimant]]:
    """The tunnels of every peer at which two may conflict, from tunnels that were derived once each, at the lower peer id.

    Most peers have one tunnel, or several to disjoint networks of distinct identities: these cannot conflict.
    """
    numbers = Counter(peer for claimant in derived for peer in claimant.candidate.peers)
    found: dict[PeerId, list[tuple[Claimant, bool]]] = {}  # and whether it is seen from the other end
    for claimant in derived:
        me = min(claimant.candidate.peers)
        if numbers[me] > 1:
            found.setdefault(me, []).append((claimant, False))
        if (other := claimant.tunnel.peer) is not None and numbers[other] > 1:
            found.setdefault(other, []).append((claimant, True))
    return {
        peer: [mirrored(it, min(it.candidate.peers)) if is_turned else it for it, is_turned in tunnels]
        for peer, tunnels in found.items()
        if _may_conflict(tunnels)
    }


def _may_conflict(tunnels: Sequence[tuple[Claimant, bool]]) -> bool:
    """Whether two tunnels of one peer have networks in common at their other ends, or name one identity there."""
    identities: set[str] = set()
    networks: list[Range] = []
    for claimant, is_turned in tunnels:
        link = claimant.tunnel.link
        identities.add(canonical((link.local_auth if is_turned else link.remote_auth).identity))
        for child in link.children:
            networks += ranges_of(child.local_ts if is_turned else child.remote_ts)
    return len(identities) < len(tunnels) or not are_apart(networks)
