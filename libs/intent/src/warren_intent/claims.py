"""Networks and identities that policies assign to tunnel ends, and announcements that they override.

A policy is authoritative over an announcement. A network or an identity that a policy assigns to one end must not be announced
by another peer: the registry refuses it, and publishes the directory without it if the policy came later. The peer at the
other end of the same tunnel is excepted, since a hub may protect the network that it reaches there, and so is a peer to which
a policy assigns it as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.identities import Identity, canonical
from warren_contracts.names import PeerId, PolicyId
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy, TunnelSpec
from warren_contracts.selectors import networks_of
from warren_contracts.subjects import named_peer
from warren_intent.fleet import current
from warren_intent.relations import readers


@dataclass(frozen=True, slots=True)
class Claim:
    """A network or identity that a policy assigns to an end, and the peers that may announce it too."""

    policy: PolicyId
    path: str  # `tunnels/3/ends/1`
    owner: str  # the peer, or the identity of a foreign gateway
    ends: frozenset[PeerId]


class Networks:
    """Claims by network, found by overlap with one look-up per prefix length.

    Two networks overlap only if one contains the other.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], dict[int, list[Claim]]] = {}
        self._above: dict[tuple[int, int], dict[int, list[Claim]]] = {}

    def add(self, network: IPNetwork, claim: Claim) -> None:
        level = self._held.setdefault((network.version, network.prefixlen), {})
        level.setdefault(_prefix(network, network.prefixlen), []).append(claim)
        self._above.clear()

    def overlapping(self, network: IPNetwork) -> Iterable[Claim]:
        """The claims to networks that contain this one or lie within it."""
        yield from self.containing(network)
        yield from self._within(network)

    def containing(self, network: IPNetwork) -> Iterable[Claim]:
        """The claims to networks that contain this one."""
        for (version, length), level in self._held.items():
            if version == network.version and length <= network.prefixlen:
                yield from level.get(_prefix(network, length), ())

    def _within(self, network: IPNetwork) -> Iterable[Claim]:
        key = (network.version, network.prefixlen)
        if key not in self._above:
            above: dict[int, list[Claim]] = defaultdict(list)
            for (version, length), level in self._held.items():
                if version == network.version and length > network.prefixlen:
                    for prefix, claims in level.items():
                        above[prefix >> (length - network.prefixlen)] += claims
            self._above[key] = above
        return self._above[key].get(_prefix(network, network.prefixlen), ())

    def __bool__(self) -> bool:
        return bool(self._held)


def _prefix(network: IPNetwork, length: int) -> int:
    return int(network.network_address) >> (network.max_prefixlen - length)


class PolicyClaims:
    """All claims of the enabled policies, the peers that any policy names, and the addresses of the bus's servers.

    A default route is not a claim.
    """

    def __init__(self, policies: Iterable[PublishedPolicy], bus_servers: Iterable[IPAddress] = ()) -> None:
        policies = tuple(policies)
        self._bus_servers = tuple(bus_servers)
        self._names: dict[PeerId, PolicyId] = {}
        for published in sorted(policies, key=lambda it: it.policy.id, reverse=True):
            for reader in readers(published.policy):
                if (name := named_peer(reader)) is not None:
                    self._names[name] = published.policy.id
        self._networks = Networks()
        self._addresses = Networks()
        self._identities: defaultdict[str, list[Claim]] = defaultdict(list)
        for published in current(policies):
            for index, spec in enumerate(published.policy.tunnels):
                self._add(published.policy, index, spec)

    def _add(self, policy: Policy, index: int, spec: TunnelSpec) -> None:
        ours = frozenset(end.peer for end in spec.ends if end.peer is not None)
        for number, end in enumerate(spec.ends):
            claim = Claim(policy.id, f"tunnels/{index}/ends/{number}", end.peer or str(end.identity), ours)
            children = spec.children or policy.children
            stated = (network for child in children for network in networks_of(child.ts[number]))
            for network in (*end.subnets, *stated):
                if network.prefixlen:
                    self._networks.add(network, claim)
            for address in end.addresses:
                if not isinstance(address.host, str):
                    self._addresses.add(ip_network(address.host), claim)
            if end.identity is not None:
                own = frozenset({end.peer} if end.peer else ())  # an identity is never shared
                self._identities[canonical(end.identity)].append(Claim(policy.id, claim.path, claim.owner, own))

    def naming(self, peer: PeerId) -> PolicyId | None:
        """The first policy that names `peer`, enabled or not."""
        return self._names.get(peer)

    def bus_server(self, network: IPNetwork) -> IPAddress | None:
        """An address of the bus's servers within a network."""
        return next((it for it in self._bus_servers if it.version == network.version and it in network), None)

    def network(self, network: IPNetwork, peer: PeerId) -> Claim | None:
        """The claim of another end to a network that `peer` announces, unless a policy assigns the network to `peer`, too."""
        if self.assigns(network, peer):
            return None
        claims = self._networks.overlapping(network)
        return min((it for it in claims if peer not in it.ends), key=_order, default=None)

    def assigns(self, network: IPNetwork, peer: PeerId) -> bool:
        """Whether a policy assigns a network, or one that contains it, to a peer."""
        return any(claim.owner == peer for claim in self._networks.containing(network))

    def address(self, network: IPNetwork, peer: PeerId) -> Claim | None:
        """The claim of another end to an address within a network that `peer` announces."""
        claims = self._addresses.overlapping(network)
        return min((it for it in claims if it.owner != peer), key=_order, default=None)

    def identity(self, identity: Identity, peer: PeerId) -> Claim | None:
        """The claim of another end to an identity that `peer` announces."""
        if not self._identities:
            return None
        return min(
            (it for it in self._identities.get(canonical(identity), ()) if peer not in it.ends),
            key=_order,
            default=None,
        )

    def __bool__(self) -> bool:
        return bool(self._networks) or bool(self._identities)


def _order(claim: Claim) -> tuple[str, str]:
    return claim.policy, claim.path


@dataclass(frozen=True, slots=True)
class RejectedClaim:
    """A network or identity of a peer's record that a claim overrides."""

    peer: PeerId
    what: str  # a network, or an identity
    claim: Claim


def apply_claims(
    given: PolicyClaims, directory: Mapping[PeerId, PeerRecord]
) -> tuple[Mapping[PeerId, PeerRecord], list[RejectedClaim]]:
    """Remove from the directory what policies assign to others; returns it and the rejected claims."""
    if not given:
        return directory, []
    found: list[RejectedClaim] = []
    records = dict(directory)
    for peer, record in directory.items():
        taken = {net: claim for net in record.subnets if (claim := given.network(net, peer)) is not None}
        identity = given.identity(record.identity, peer) if canonical(record.identity) != canonical(peer) else None
        if not taken and identity is None:
            continue
        found += [RejectedClaim(peer, str(network), claim) for network, claim in taken.items()]
        changes: dict[str, object] = {"subnets": tuple(net for net in record.subnets if net not in taken)}
        if identity is not None:
            found.append(RejectedClaim(peer, record.identity, identity))
            changes["identity"] = peer
        records[peer] = record.model_copy(update=changes)
    return records, found
