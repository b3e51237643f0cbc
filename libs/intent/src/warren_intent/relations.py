"""The readers of a policy, and the records that each reader needs for both ends to derive the same tunnels."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from warren_contracts.names import PeerId, Tag
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.subjects import Audience, peer_reader
from warren_intent.fleet import Members, current, is_transit, sides


def readers(policy: Policy) -> frozenset[Audience]:
    """The readers of a policy: `applies_to`, and those that its topology and tunnels name.

    Every end that a policy names reads it, so that both ends of a tunnel see the same policies.
    """
    named = {peer_reader(end.peer) for tunnel in policy.tunnels for end in tunnel.ends if end.peer is not None}
    roles = {reader for side in (sides(policy.topology) if policy.topology else ()) for reader in side}
    return frozenset(policy.applies_to) | roles | named


def relations(
    policies: Iterable[PublishedPolicy], tags_of: Mapping[PeerId, Collection[Tag]]
) -> dict[Audience, frozenset[PeerId]]:
    """The peers whose records each reader needs: those that a policy relates it to, and each peer its own.

    `tags_of` maps to the tags of every peer that is not withdrawn. The work grows with the members of each side of a
    topology, never with their product.
    """
    members = Members(tags_of)
    seen: defaultdict[Audience, set[PeerId]] = defaultdict(set)
    for peer in tags_of:
        seen[peer_reader(peer)].add(peer)
    for published in current(policies):
        for reader, peers in _of_policy(published.policy, members):
            seen[reader] |= peers
    return {reader: frozenset(peers) for reader, peers in seen.items() if peers}


def _of_policy(policy: Policy, members: Members) -> Iterable[tuple[Audience, frozenset[PeerId]]]:
    for tunnel in policy.tunnels:
        first, second = (end.peer for end in tunnel.ends)
        if first is not None and second is not None:
            yield peer_reader(first), members.of((peer_reader(second),))
            yield peer_reader(second), members.of((peer_reader(first),))
    if policy.topology is None:
        return
    left, right = sides(policy.topology)
    for own, others in ((left, members.of(right)), (right, members.of(left))):
        for reader in own:
            yield reader, others
    if is_transit(policy):
        for reader in right:
            yield reader, members.of(right)
