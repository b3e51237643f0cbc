"""Which networks and identities a peer may announce, considering other peers, their endpoints and the policies.

Networks are first come, first served, unless the join token names them; so without `subnets` in its token a peer gets no
network that is larger than one site's, all of its networks together are no larger, and none is public address space. Two peers may
protect the same network, or one within the other's, only if an operator gave it to both (by their join tokens or by a policy) and
set different priorities. A network that conflicts is omitted and the rest of the announcement is accepted, so that a peer does not
lose its key and endpoints.

A later policy that assigns a claimed network to another end does not remove it: the directory record omits it
(`directory/reconciler.py`), and the rest of the announcement is published.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.networks import contains, overlap
from warren_contracts.peers import Announcement
from warren_contracts.problems import InvalidField
from warren_intent.claims import PolicyClaims
from warren_registry.errors import IdentityConflictError, SubnetConflictError
from warren_registry.peers.model import Peer
from warren_service.policy_view import PolicyView

# The shortest prefix of a peer whose token names no networks: what a site has (RFC 1918's smallest block; RFC 6177).
SHORTEST = {4: 16, 6: 48}


class AddressClaim(NamedTuple):
    """A network that another peer protects, or the address of its endpoint."""

    peer: str
    subnet: IPNetwork
    allowed: tuple[IPNetwork, ...] = ()  # the networks that the join token of that peer names
    priority: int | None = None  # of that peer


class AddressClaims(NamedTuple):
    """Claims that an announcement is checked against: at least those that overlap an announced network."""

    networks: tuple[AddressClaim, ...] = ()
    endpoints: tuple[AddressClaim, ...] = ()
    identity_holder: str | None = None  # another peer that has the announced identity, or whose id it is
    policies: PolicyClaims = PolicyClaims(())


def refused_networks(announcement: Announcement, allowed: tuple[IPNetwork, ...]) -> Iterator[InvalidField]:
    """The networks that this peer may never announce, independent of other peers."""
    left = {version: ipaddress_count(version) for version in SHORTEST}
    for index, subnet in enumerate(announcement.subnets):
        message = _refused_network(subnet, allowed)
        if not message and not allowed:
            left[subnet.version] -= subnet.num_addresses
            if left[subnet.version] < 0:
                message = (
                    f"{subnet} and the networks before it are more than a /{SHORTEST[subnet.version]} together, and the join token "
                    "names no networks: join by a token with `subnets`"
                )
        if message:
            yield InvalidField(field=f"subnets/{index}", message=message)


def ipaddress_count(version: int) -> int:
    """The addresses of the largest network that a peer may announce without a token that names it; of all of them together."""
    return 1 << ((32 if version == 4 else 128) - SHORTEST[version])


def conflicting_networks(peer: Peer, announcement: Announcement, claims: AddressClaims) -> tuple[InvalidField, ...]:
    """The announced networks that conflict with another peer or a policy, each with its reason and remedy."""
    held = frozenset(peer.announcement.subnets if peer.announcement is not None else ())
    return tuple(
        InvalidField(field=f"subnets/{index}", message=message)
        for index, subnet in enumerate(announcement.subnets)
        if (message := _conflict(peer, subnet, claims, new=subnet not in held))
    )


def without_networks(announcement: Announcement, conflicts: Sequence[InvalidField]) -> Announcement:
    """The announcement without its conflicting networks."""
    omitted = {conflict.field for conflict in conflicts}
    kept = tuple(subnet for index, subnet in enumerate(announcement.subnets) if f"subnets/{index}" not in omitted)
    return announcement.model_copy(update={"subnets": kept}) if omitted else announcement


def check_networks_at_enrolment(peer: Peer, announcement: Announcement, claims: AddressClaims) -> None:
    """Refuse an enrolment if a network conflicts and its join token does not name it: nobody would notice the omission.

    Raises:
        SubnetConflictError: names the network. Before a use of the token is counted.
    """
    for conflict in conflicting_networks(peer, announcement, claims):
        subnet = announcement.subnets[int(conflict.field.rpartition("/")[2])]
        if not _is_allowed(subnet, peer.allowed):  # else only the priorities are missing, which need an enrolled peer
            raise SubnetConflictError(conflict.message, (conflict,))


def check_priority(peer: Peer, priority: int | None, claims: Sequence[AddressClaim]) -> None:
    """Refuse a priority that would not decide between redundant gateways; `claims` are other peers' overlapping networks.

    Raises:
        SubnetConflictError: another gateway of the same networks has the same priority, or none of its own would remain.
    """
    for claim in claims:
        if priority is None:
            message = f"{claim.peer} protects {claim.subnet} as well: two gateways of one network require different priorities"
        elif priority == claim.priority:
            message = (
                f"{claim.peer} protects {claim.subnet} as well and has the same priority {priority}: use another number"
            )
        else:
            continue
        raise SubnetConflictError(message, (InvalidField(field="priority", message=message),))


def check_identity(peer: Peer, announcement: Announcement, claims: AddressClaims) -> None:
    """Raise IdentityConflictError if the announced identity belongs to another peer or a policy assigns it to another end."""
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
        if (
            claim.peer != peer.id
            and overlap(subnet, claim.subnet)
            and (message := _shared(peer, subnet, claim, claims))
        ):
            return message
    if not new:
        return ""
    assigned = claims.policies.network(subnet, peer.id)
    if assigned is not None:
        return f"{subnet} overlaps a network that the policy {assigned.policy} assigns to {assigned.owner}"
    if peer.allowed:
        return ""
    if (server := claims.policies.bus_server(subnet)) is not None:
        return (
            f"{subnet} contains {server}, the address of a server of the bus, and the join token names no networks: join by a token "
            "with `subnets`"
        )
    for claim in claims.endpoints:
        if claim.peer != peer.id and contains(subnet, claim.subnet):
            return f"{subnet} contains {claim.subnet.network_address}, an endpoint of the peer {claim.peer}"
    address = claims.policies.address(subnet, peer.id)
    return f"{subnet} contains an address that the policy {address.policy} uses for {address.owner}" if address else ""


def _shared(peer: Peer, subnet: IPNetwork, claim: AddressClaim, claims: AddressClaims) -> str:
    """Why two peers may not both protect these overlapping networks; empty if they may."""
    given = _is_allowed(subnet, peer.allowed) or claims.policies.assigns(subnet, peer.id)
    given_other = _is_allowed(claim.subnet, claim.allowed) or claims.policies.assigns(claim.subnet, claim.peer)
    overlaps = f"{subnet} overlaps {claim.subnet} of the peer {claim.peer}"
    if not (given and given_other):
        return (
            f"{overlaps}; redundant gateways require it in the join tokens of both, or a policy that assigns it to both"
        )
    if peer.priority is None or claim.priority is None or peer.priority == claim.priority:
        return (
            f"{overlaps}: redundant gateways require different priorities; set them with `warren peers priority {peer.id} NUMBER` "
            f"and `warren peers priority {claim.peer} NUMBER`"
        )
    return ""


def _is_allowed(subnet: IPNetwork, allowed: tuple[IPNetwork, ...]) -> bool:
    return any(contains(outer, subnet) for outer in allowed)


def _refused_network(subnet: IPNetwork, allowed: tuple[IPNetwork, ...]) -> str:
    if subnet.prefixlen == 0:
        return "must not be a default route: name the networks behind this peer"
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
        return f"{subnet} must not be multicast, loopback or link-local"
    if subnet.version == 6 and subnet.network_address.ipv4_mapped is not None:
        return f"{subnet} is an IPv4-mapped IPv6 network: write the IPv4 network"
    if allowed:
        if _is_allowed(subnet, allowed):
            return ""
        return f"{subnet} is not within the networks that the join token allows: {', '.join(map(str, allowed))}"
    return _beyond_a_site(subnet)


def _beyond_a_site(subnet: IPNetwork) -> str:
    """Why a network requires a join token that names it; empty if it does not."""
    if subnet.prefixlen < SHORTEST[subnet.version]:
        return (
            f"{subnet} is larger than /{SHORTEST[subnet.version]}, and the join token names no networks: announce the "
            "site's own networks, or join by a token with `subnets`"
        )
    if subnet.is_global:
        return f"{subnet} is public address space, and the join token names no networks: join by a token with `subnets`"
    return ""


class PolicyClaimsCache:
    """The claims of the published policies, computed again when they have changed."""

    def __init__(self, view: Callable[[], PolicyView], bus_servers: tuple[IPAddress, ...] = ()) -> None:
        self._view = view
        self._bus_servers = bus_servers
        self._computed_from: tuple[PolicyView, int] | None = None
        self._claims = PolicyClaims((), bus_servers)

    def __call__(self) -> PolicyClaims:
        view = self._view()
        if self._computed_from is None or self._computed_from[0] is not view or self._computed_from[1] != view.changes:
            self._computed_from = (view, view.changes)
            self._claims = PolicyClaims(view.policies(), self._bus_servers)
        return self._claims


def withheld_from(policies: PolicyClaims, peer: Peer) -> str:
    """The networks and identity that a peer's record omits, as one text."""
    if not policies or peer.announcement is None:
        return ""
    omitted = [str(subnet) for subnet in peer.announcement.subnets if policies.network(subnet, peer.id) is not None]
    if peer.announcement.identity is not None and policies.identity(peer.announcement.identity, peer.id) is not None:
        omitted.append(peer.announcement.identity)
    return " ".join(omitted)
