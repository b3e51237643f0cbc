"""Conflicts: two tunnels of one peer that claim the same traffic, or the same identity of the other end. One is removed.

The order: values that a policy sets for the other end before announced ones, the higher priority, the lower policy id, the
explicit tunnel, the lower name. A tunnel that loses at one end is removed at both, also if the winner is removed by another
conflict: so each end finds the same answer from the tunnels of the two ends only, and no peer has two tunnels for the same
packets.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.policy import TunnelEnd
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.overlaps import claimed_twice


class Claimant(NamedTuple):
    """A tunnel as seen from one of its ends."""

    candidate: Candidate
    tunnel: Tunnel


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


def conflicts_at(at: PeerId, claimants: Sequence[Claimant]) -> dict[TunnelName, Conflict]:
    """The tunnels of one peer that lose a conflict there, each with its highest ranking winner."""
    by_name = {claimant.tunnel.name: claimant for claimant in claimants}
    found: dict[TunnelName, Conflict] = {}
    for first, second, same_identity in _overlapping_pairs([claimant.tunnel for claimant in claimants]):
        winner, loser = sorted((by_name[first.name], by_name[second.name]), key=rank)
        held = found.get(loser.tunnel.name)
        if held is None or (rank(winner), same_identity) < (rank(held.winner), held.same_identity):
            found[loser.tunnel.name] = Conflict(winner, loser, at, same_identity)
    return found


def _overlapping_pairs(tunnels: Sequence[Tunnel]) -> Iterator[tuple[Tunnel, Tunnel, bool]]:
    for first, second in claimed_twice(tunnels):
        yield first, second, False
    holders: dict[str, list[Tunnel]] = {}
    for tunnel in tunnels:
        holders.setdefault(canonical(tunnel.link.remote_auth.identity), []).append(tunnel)
    for same in holders.values():
        for number, first in enumerate(same):
            yield from ((first, second, True) for second in same[number + 1 :])


def all_conflicts(claimants: Mapping[PeerId, Sequence[Claimant]]) -> dict[TunnelName, Conflict]:
    """The tunnels of a fleet that lose a conflict; `claimants` are those of each peer."""
    found: dict[TunnelName, Conflict] = {}
    for peer in sorted(claimants):
        for name, conflict in conflicts_at(peer, claimants[peer]).items():
            found.setdefault(name, conflict)
    return found


def mirrored(tunnel: Tunnel, me: PeerId) -> Tunnel:
    """A tunnel as seen from the other end, in the fields that matter for conflicts; `me` is the end of `tunnel`."""
    link = tunnel.link
    children = tuple(
        child.model_copy(update={"local_ts": child.remote_ts, "remote_ts": child.local_ts}) for child in link.children
    )
    turned = {"local_auth": link.remote_auth, "remote_auth": link.local_auth, "children": children}
    return tunnel.model_copy(update={"peer": me, "link": link.model_copy(update=turned)})


def claimants_by_peer(derived: Iterable[Claimant]) -> dict[PeerId, list[Claimant]]:
    """The tunnels of every peer, from tunnels that were derived once each, at the lower peer id."""
    found: dict[PeerId, list[Claimant]] = {}
    for claimant in derived:
        me = min(claimant.candidate.peers)
        found.setdefault(me, []).append(claimant)
        if (other := claimant.tunnel.peer) is not None:
            found.setdefault(other, []).append(Claimant(claimant.candidate, mirrored(claimant.tunnel, me)))
    return found
