"""Which networks and identities a peer may announce, considering other peers, their endpoints and the policies.

Networks are first come, first served, unless the join token names them; so without `subnets` in its token a peer gets no
network that is larger than one site's. A later policy that assigns a claimed network to another end does not remove it: the
directory record omits it (`directory/reconciler.py`), and the rest of the announcement is published.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.peers import Announcement
from warren_contracts.problems import InvalidField
from warren_intent.claims import PolicyClaims
from warren_registry.directory.policies import PolicyView
from warren_registry.errors import IdentityConflictError, SubnetConflictError
from warren_registry.peers.model import Peer

# The shortest prefix of a peer whose token names no networks: what a site has (RFC 1918's smallest block; RFC 6177).
SHORTEST = {4: 16, 6: 48}


class Claim(NamedTuple):
    """A network that another peer protects, or the address of its endpoint."""

    peer: str
    subnet: IPNetwork


class AddressClaims(NamedTuple):
    """Claims that an announcement is checked against: at least those that overlap an announced network."""

    networks: tuple[Claim, ...] = ()
    endpoints: tuple[Claim, ...] = ()
    identity_holder: str | None = None  # another peer that has the announced identity, or whose id it is
    policies: PolicyClaims = PolicyClaims(())


def refused_networks(announcement: Announcement, allowed: tuple[IPNetwork, ...]) -> Iterator[InvalidField]:
    """The networks that this peer may never announce, independent of other peers."""
    for index, subnet in enumerate(announcement.subnets):
        if message := _refused_network(subnet, allowed):
            yield InvalidField(field=f"subnets/{index}", message=message)


def check_conflicts(peer: Peer, announcement: Announcement, claims: AddressClaims) -> None:
    """Raise SubnetConflictError or IdentityConflictError if the announcement conflicts with another peer or a policy."""
    held = frozenset(peer.announcement.subnets if peer.announcement is not None else ())
    for index, subnet in enumerate(announcement.subnets):
        if message := _conflict(peer, subnet, claims, new=subnet not in held):
            raise SubnetConflictError(message, (InvalidField(field=f"subnets/{index}", message=message),))
    if claims.identity_holder is not None and claims.identity_holder != peer.id:
        message = f"the identity belongs to the peer {claims.identity_holder}"
        raise IdentityConflictError(message, (InvalidField(field="identity", message=message),))
    named = announcement.identity
    if named is not None and canonical(named) not in (peer.canonical_identity, canonical(peer.id)):
        claim = claims.policies.identity(named, peer.id)
        if claim is not None:
            message = f"the policy {claim.policy} assigns this identity to {claim.owner}"
            raise IdentityConflictError(message, (InvalidField(field="identity", message=message),))


def _conflict(peer: Peer, subnet: IPNetwork, claims: AddressClaims, *, new: bool) -> str:
    for claim in claims.networks:
        if claim.peer != peer.id and overlap(subnet, claim.subnet):
            return f"{subnet} overlaps {claim.subnet} of the peer {claim.peer}"
    if not new:
        return ""
    assigned = claims.policies.network(subnet, peer.id)
    if assigned is not None:
        return f"{subnet} overlaps a network that the policy {assigned.policy} assigns to {assigned.owner}"
    if peer.allowed:
        return ""
    for claim in claims.endpoints:
        if claim.peer != peer.id and within(claim.subnet, subnet):
            return f"{subnet} contains {claim.subnet.network_address}, an endpoint of the peer {claim.peer}"
    address = claims.policies.address(subnet, peer.id)
    return f"{subnet} contains an address that the policy {address.policy} uses for {address.owner}" if address else ""


def overlap(own: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks share an address; never, when their families differ."""
    return (own.version == other.version and own.network_address in other) or other.network_address in own


def within(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether `outer` contains `inner`."""
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _refused_network(subnet: IPNetwork, allowed: tuple[IPNetwork, ...]) -> str:
    if subnet.prefixlen == 0:
        return "must not be a default route: name the networks behind this peer"
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
        return f"{subnet} must not be multicast, loopback or link-local"
    if subnet.version == 6 and subnet.network_address.ipv4_mapped is not None:
        return f"{subnet} is an IPv4-mapped IPv6 network: write the IPv4 network"
    if allowed:
        if any(within(subnet, outer) for outer in allowed):
            return ""
        return f"{subnet} is not within the networks that the join token allows: {', '.join(map(str, allowed))}"
    if subnet.prefixlen < SHORTEST[subnet.version]:
        return (
            f"{subnet} is larger than /{SHORTEST[subnet.version]}, and the join token names no networks: announce the "
            "site's own networks, or join by a token with `subnets`"
        )
    return ""


class PolicyClaimsCache:
    """The claims of the published policies, computed again when they have changed."""

    def __init__(self, view: Callable[[], PolicyView]) -> None:
        self._view = view
        self._computed_from: tuple[PolicyView, int] | None = None
        self._claims = PolicyClaims(())

    def __call__(self) -> PolicyClaims:
        view = self._view()
        if self._computed_from is None or self._computed_from[0] is not view or self._computed_from[1] != view.changes:
            self._computed_from = (view, view.changes)
            self._claims = PolicyClaims(view.policies())
        return self._claims


def withheld_from(policies: PolicyClaims, peer: Peer) -> str:
    """The networks and identity that a peer's record omits, as one text."""
    if not policies or peer.announcement is None:
        return ""
    omitted = [str(subnet) for subnet in peer.announcement.subnets if policies.network(subnet, peer.id) is not None]
    if peer.announcement.identity is not None and policies.identity(peer.announcement.identity, peer.id) is not None:
        omitted.append(peer.announcement.identity)
    return " ".join(omitted)
