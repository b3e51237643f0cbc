"""Derive a tunnel from a candidate: resolve both ends, select the initiator, filter the proposals.

Rules 3 to 5 and 7 of `expand`. The result is a tunnel, or the reason why there is none.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address

from warren_contracts.addresses import Endpoint, IPAddress, IPNetwork
from warren_contracts.auth import RawKeyAuth
from warren_contracts.base import assembled
from warren_contracts.identities import Identity
from warren_contracts.ipsec import MAX_SELECTORS, ChildSettings, IpsecLink, Xfrm
from warren_contracts.names import PeerId, PolicyId, PublicKey, TunnelName
from warren_contracts.peers import KeyUse
from warren_contracts.policy import HubSpoke, TunnelEnd
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.conflicts import NO_XFRM, Claimant
from warren_intent.errors import UnknownProfileError
from warren_intent.fleet import Fleet, is_transit
from warren_intent.links import DYNAMIC, LinkSettings, Proposals, Selectors, child_selectors, selectors_of
from warren_intent.overlaps import overlap
from warren_intent.profiles import proposals_of
from warren_intent.proposal_filter import ProposalFilter, refused_auth
from warren_intent.transit import Transit, too_many

IPSEC = "ipsec"  # the kind of link that policies describe


class SkipCode(StrEnum):
    """Why a requested tunnel is not derived."""

    OVERRIDDEN = "overridden"
    NO_RECORD = "no-record"
    NO_PUBLIC_KEY = "no-public-key"
    NO_SUBNETS = "no-subnets"
    NO_ADDRESS = "no-address"
    TOO_MANY_SELECTORS = "too-many-selectors"
    UNKNOWN_PROFILE = "unknown-profile"
    NO_COMMON_PROPOSAL = "no-common-proposal"
    UNSUPPORTED_AUTH = "unsupported-auth"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A requested tunnel that is not derived, with the reason."""

    name: TunnelName
    policy: PolicyId
    path: str  # within the policy: `topology`, `tunnels/3/ends/1`
    code: SkipCode
    message: str
    peers: tuple[PeerId, ...]  # the ends that are managed peers
    peer: PeerId | None = None  # the incomplete one, if any


@dataclass(frozen=True, slots=True)
class ResolvedEnd:
    """One resolved end: the peer's record, overridden by the policy."""

    peer: PeerId | None
    endpoints: tuple[Endpoint, ...]
    auth: RawKeyAuth
    subnets: tuple[IPNetwork, ...]
    selectors: Selectors  # of `subnets`; dynamic for an end with a virtual address
    xfrm: Xfrm
    vips: tuple[IPAddress, ...] = ()
    pools: tuple[IPNetwork, ...] = ()
    priority: int | None = None  # of the peer among redundant gateways


_TUNNEL_FIELDS, _LINK_FIELDS = set(Tunnel.model_fields), set(IpsecLink.model_fields)  # shared, as in `links`
_AUTH_FIELDS = set(RawKeyAuth.model_fields)
_ANY_ADDRESS = {4: ip_address(0), 6: ip_address("::")}  # request any (RFC 7296, 3.15.1)


class Derivation:
    """Derive tunnels from candidates, for one directory."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._transit = Transit(fleet)
        self._proposal_filter = ProposalFilter()
        self._settings = LinkSettings()
        self._bare: dict[PeerId, ResolvedEnd] = {}  # ends that policies name by id only

    def claimant(self, candidate: Candidate, tunnel: Tunnel, me: PeerId) -> Claimant:
        """What the derived tunnel claims: the networks of its two ends.

        Networks beyond a transit hub are not claimed: the hub may not read the policy by which a spoke has another tunnel
        to them, so the two ends would decide differently. `check` reports both tunnels.
        """
        if candidate.path == "topology" and is_transit(candidate.policy):
            own = self.derive(candidate, me, transit=False)
            tunnel = own if isinstance(own, Tunnel) else tunnel
        return self.with_priorities(candidate, tunnel, me)

    def with_priorities(self, candidate: Candidate, tunnel: Tunnel, me: PeerId) -> Claimant:
        """What the derived tunnel carries, with the priorities of its ends."""
        return Claimant(candidate, tunnel, self._priority(me), self._priority(tunnel.peer))

    def _priority(self, peer: PeerId | None) -> int | None:
        record = self.fleet.records.get(peer) if peer is not None else None
        return record.priority if record is not None else None

    def forget(self, peer: PeerId) -> None:
        """Take no notice of what was resolved of a peer, whose record has changed. Sums of transit hubs are not forgotten."""
        self._bare.pop(peer, None)

    def derive(self, candidate: Candidate, me: PeerId, *, transit: bool = True) -> Tunnel | Skipped:
        """The tunnel of a candidate at `me`, or why there is none; `transit=False` omits the networks beyond a hub."""
        if refusal := refused_auth(candidate.policy.auth):
            return skip(candidate, "", SkipCode.UNSUPPORTED_AUTH, refusal)
        ends = self._resolve(candidate, transit)
        if isinstance(ends, Skipped):
            return ends
        first, second = ends
        initiating = initiator(first, second, candidate.spoke)
        if initiating is None:
            return skip(candidate, "", SkipCode.NO_ADDRESS, _cannot_initiate(first, second))
        try:
            proposals = self.proposals(candidate)
        except UnknownProfileError as error:
            return skip(candidate, "", SkipCode.UNKNOWN_PROFILE, error.detail)
        if not all(proposals):
            kind = "ESP" if proposals[0] else "IKE"
            return skip(candidate, "", SkipCode.NO_COMMON_PROPOSAL, f"the two ends have no common {kind} proposal")
        own, other = (first, second) if first.peer == me else (second, first)
        children = self._children(candidate, first, second, proposals[1:], own is first)
        if any(len(side) > MAX_SELECTORS for child in children for side in (child.local_ts, child.remote_ts)):
            return skip(candidate, "", SkipCode.TOO_MANY_SELECTORS, too_many(MAX_SELECTORS))
        # All values come from validated models and the limits were checked above; validating again would take one second
        # for a hub with 10,000 spokes.
        policy = candidate.policy
        link = {
            "kind": "ipsec", "local_auth": own.auth, "remote_auth": other.auth, "children": children, "xfrm": own.xfrm,
            "ike": self._settings.ike(candidate.options.ike, proposals[0], own.vips, own.pools),
        }  # fmt: skip
        return assembled(Tunnel, _TUNNEL_FIELDS, {
            "name": candidate.name, "policy": policy.id, "priority": policy.priority, "peer": other.peer,
            "initiator": initiating is own, "auto_start": candidate.auto_start and _deciding(first, second) in (None, own),
            "standby_of": (), "local_endpoints": own.endpoints, "remote_endpoints": other.endpoints,
            "protect": policy.protect, "protect_after_delete": policy.protect_after_delete, "bypass": policy.bypass,
            "link": assembled(IpsecLink, _LINK_FIELDS, link),
        })  # fmt: skip

    def proposals(self, candidate: Candidate) -> tuple[Proposals, ...]:
        """The IKE proposals, and the ESP proposals of each child, that the drivers of both ends support.

        Raises:
            UnknownProfileError: the profile does not exist.
        """
        drivers = [self.fleet.records[peer].driver(IPSEC) for peer in candidate.peers]
        ike, esp = proposals_of(candidate.crypto)
        common_ike, common_esp = self._proposal_filter.common(ike, esp, drivers)
        of_children = (
            self._proposal_filter.common((), child.esp, drivers)[1] if child.esp else common_esp
            for child in candidate.children
        )
        return common_ike, *of_children

    def _children(
        self, candidate: Candidate, first: ResolvedEnd, second: ResolvedEnd, esp: tuple[Proposals, ...], is_first: bool
    ) -> tuple[ChildSettings, ...]:
        """The CHILD_SAs as the first end sees them, or mirrored."""
        settings = []
        for child, proposals in zip(candidate.children, esp, strict=True):
            sides = child_selectors(child, 0, first.selectors), child_selectors(child, 1, second.selectors)
            local, remote = sides if is_first else sides[::-1]
            options = child.options or candidate.options.child
            settings.append(self._settings.child(child.name, options, proposals, local, remote))
        return tuple(settings)

    def _resolve(self, candidate: Candidate, transit: bool) -> tuple[ResolvedEnd, ResolvedEnd] | Skipped:
        """Resolve both ends of a candidate, or return what is missing."""
        first = self._end(candidate, 0, candidate.first)
        if isinstance(first, Skipped):
            return first
        second = self._end(candidate, 1, candidate.second)
        if isinstance(second, Skipped):
            return second
        if first.priority and second.priority and overlap(first.subnets, second.subnets):
            message = f"{first.peer} and {second.peer} are redundant gateways of the same networks"
            return skip(candidate, "", SkipCode.CONFLICT, message)
        first, second = _with_virtual_addresses(candidate, first, second)
        for position, end in enumerate((first, second)):
            if not end.selectors and not all(child.ts[position] for child in candidate.children):
                where = f"/ends/{position}" if candidate.path != "topology" else ""
                name = end.peer or end.auth.identity
                message = f"{name} has announced no protected subnets"
                return skip(candidate, where, SkipCode.NO_SUBNETS, message, end.peer)
        return self._with_transit(candidate, first, second) if transit else (first, second)

    def _with_transit(
        self, candidate: Candidate, first: ResolvedEnd, second: ResolvedEnd
    ) -> tuple[ResolvedEnd, ResolvedEnd] | Skipped:
        """Add the networks beyond a transit hub to the first end."""
        subnets = self._transit.hub_subnets(candidate, first.subnets, second.subnets)
        if len(subnets) > MAX_SELECTORS or len(second.subnets) > MAX_SELECTORS:
            return skip(candidate, "", SkipCode.TOO_MANY_SELECTORS, too_many(MAX_SELECTORS))
        if subnets is first.subnets:
            return first, second
        return replace(first, subnets=subnets, selectors=selectors_of(subnets)), second

    def _end(self, candidate: Candidate, position: int, end: TunnelEnd) -> ResolvedEnd | Skipped:
        if candidate.path != "topology" or end.peer is None:
            return _resolve_end(candidate, position, end, self.fleet)
        if end.peer in self._bare:
            return self._bare[end.peer]
        resolved = _resolve_end(candidate, position, end, self.fleet)
        if isinstance(resolved, ResolvedEnd):
            self._bare[end.peer] = resolved
        return resolved


def _resolve_end(candidate: Candidate, position: int, end: TunnelEnd, fleet: Fleet) -> ResolvedEnd | Skipped:
    record = fleet.records.get(end.peer) if end.peer is not None else None
    where = f"/ends/{position}" if candidate.path != "topology" else ""
    if end.peer is not None and record is None:
        return skip(candidate, where, SkipCode.NO_RECORD, f"peer {end.peer} is not in the directory", end.peer)
    identity = end.identity or (record.identity if record else None)
    public_key = end.public_key or (record.key(KeyUse.IKE) if record else None)
    subnets = end.subnets or (record.subnets if record else ())
    name = end.peer or str(identity)
    if identity is None or public_key is None:
        return skip(candidate, where, SkipCode.NO_PUBLIC_KEY, f"{name} has announced no IKE public key", end.peer)
    endpoints = end.addresses or (record.endpoints if record else ())
    subnets = tuple(sorted(set(subnets), key=_network_order))
    return ResolvedEnd(
        end.peer, endpoints, _auth(identity, public_key), subnets, selectors_of(subnets), end.xfrm or NO_XFRM,
        end.vips, end.pools, record.priority if record else None,
    )  # fmt: skip


def _with_virtual_addresses(
    candidate: Candidate, first: ResolvedEnd, second: ResolvedEnd
) -> tuple[ResolvedEnd, ResolvedEnd]:
    """Give an end without subnets a virtual address where the other end, or the topology's hub, assigns one."""
    topology = candidate.policy.topology
    if (
        candidate.path == "topology"
        and isinstance(topology, HubSpoke)
        and topology.pools
        and candidate.spoke
        and not second.subnets
    ):
        wanted = tuple(_ANY_ADDRESS[version] for version in sorted({pool.version for pool in topology.pools}))
        return replace(first, pools=topology.pools), replace(second, vips=wanted, selectors=DYNAMIC)
    if first.vips and not first.subnets:
        first = replace(first, selectors=DYNAMIC)
    if second.vips and not second.subnets:
        second = replace(second, selectors=DYNAMIC)
    return first, second


def _deciding(first: ResolvedEnd, second: ResolvedEnd) -> ResolvedEnd | None:
    """The end that decides whether the tunnel is used, where the other end is a redundant gateway. None: neither does."""
    if first.peer is None or second.peer is None or (first.priority is None) == (second.priority is None):
        return None
    return first if first.priority is None else second


def _cannot_initiate(first: ResolvedEnd, second: ResolvedEnd) -> str:
    deciding = _deciding(first, second)
    if deciding is None:
        return "neither end has a fixed address, so none can initiate"
    gateway = second if deciding is first else first
    return (
        f"{gateway.peer} has a priority among redundant gateways and no fixed address, so {deciding.peer} cannot choose it: "
        "set its endpoints, or remove its priority"
    )


def initiator(first: ResolvedEnd, second: ResolvedEnd, spoke: PeerId | None) -> ResolvedEnd | None:
    """The end that initiates; it must know an address of the other end. None if neither does."""
    if (deciding := _deciding(first, second)) is not None:
        return deciding if (second if deciding is first else first).endpoints else None
    if first.peer is None or second.peer is None:
        ours, foreign = (second, first) if first.peer is None else (first, second)
        return ours if foreign.endpoints else (foreign if ours.endpoints else None)
    if requesting := [end for end in (first, second) if end.vips]:  # only the initiator can request an address
        return requesting[0] if (second if requesting[0] is first else first).endpoints else None
    able = [end for end, other in ((first, second), (second, first)) if other.endpoints]
    if len(able) < 2:
        return able[0] if able else None
    by_role = [end for end in able if end.peer == spoke]
    return by_role[0] if by_role else (first if first.peer < second.peer else second)


def _auth(identity: Identity, public_key: PublicKey) -> RawKeyAuth:
    values = {"kind": "raw-key", "identity": identity, "public_key": public_key}
    return assembled(RawKeyAuth, _AUTH_FIELDS, values)


def _network_order(network: IPNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def skip(candidate: Candidate, where: str, code: SkipCode, message: str, peer: PeerId | None = None) -> Skipped:
    """Report why a candidate has no tunnel; `where` is a path below the candidate's own."""
    return Skipped(
        candidate.name, candidate.policy.id, candidate.path + where, code, message, candidate.peers, peer
    )  # fmt: skip
