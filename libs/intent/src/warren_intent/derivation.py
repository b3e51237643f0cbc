"""Derive a tunnel from a candidate: resolve both ends, select the initiator, filter the proposals.

Rules 3 to 5 and 7 of `expand`. The result is a tunnel, or the reason why there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from warren_contracts.addresses import Endpoint, IPNetwork
from warren_contracts.names import PeerId, PolicyId, PublicKey, TunnelName
from warren_contracts.policy import TunnelEnd
from warren_contracts.tunnel import AuthEnd, AuthMethod, Identity, TunnelConfig, TunnelOptions, Xfrm
from warren_intent.candidates import Candidate
from warren_intent.conflicts import Claimant
from warren_intent.errors import UnknownProfileError
from warren_intent.fleet import Fleet, is_transit
from warren_intent.profiles import proposals_of
from warren_intent.proposal_filter import ProposalFilter
from warren_intent.transit import Transit, too_many

MAX_SELECTORS = 64  # of one side of one tunnel; contracts.TunnelConfig refuses more


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
class End:
    """One resolved end: the peer's record, overridden by the policy."""

    peer: PeerId | None
    addresses: tuple[Endpoint, ...]
    auth: AuthEnd
    subnets: tuple[IPNetwork, ...]
    xfrm: Mapping[str, Any]  # fields of TunnelConfig


_NO_XFRM: Mapping[str, Any] = Xfrm().model_dump()


class Derivation:
    """Derive tunnels from candidates, for one directory."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._transit = Transit(fleet)
        self._proposal_filter = ProposalFilter()
        self._bare: dict[PeerId, End] = {}  # ends that policies name by id only

    def claimant(self, candidate: Candidate, tunnel: TunnelConfig, me: PeerId) -> Claimant:
        """What the derived tunnel claims: the networks of its two ends.

        Networks beyond a transit hub are not claimed: the hub may not read the policy by which a spoke has another tunnel
        to them, so the two ends would decide differently. `check` reports both tunnels.
        """
        if candidate.path != "topology" or not is_transit(candidate.policy):
            return Claimant(candidate, tunnel)
        own = self.derive(candidate, me, transit=False)
        return Claimant(candidate, own if isinstance(own, TunnelConfig) else tunnel)

    def derive(self, candidate: Candidate, me: PeerId, *, transit: bool = True) -> TunnelConfig | Skipped:
        """The tunnel of a candidate at `me`, or why there is none; `transit=False` omits the networks beyond a hub."""
        ends = self._resolve(candidate, transit)
        if isinstance(ends, Skipped):
            return ends
        first, second = ends
        initiating = initiator(first, second, candidate.spoke)
        if initiating is None:
            return skip(candidate, "", SkipCode.NO_ADDRESS, "neither end has a fixed address, so none can initiate")
        try:
            ike, esp = proposals_of(candidate.crypto)
        except UnknownProfileError as error:
            return skip(candidate, "", SkipCode.UNKNOWN_PROFILE, error.detail)
        ike, esp = self._proposal_filter.common(
            ike, esp, (self._fleet.records[peer].capabilities for peer in candidate.peers)
        )
        if not ike or not esp:
            kind = "ESP" if ike else "IKE"
            return skip(candidate, "", SkipCode.NO_COMMON_PROPOSAL, f"the two ends have no common {kind} proposal")
        is_first = first.peer == me
        own, other = (first, second) if is_first else (second, first)
        # All values come from validated models and the limits were checked above; validating again would take one second
        # for a hub with 10,000 spokes.
        return TunnelConfig.model_construct(
            name=candidate.name, policy=candidate.policy.id, priority=candidate.policy.priority, peer=other.peer,
            initiator=initiating is own, auto_start=candidate.auto_start,
            local_addrs=own.addresses, remote_addrs=other.addresses,
            local_auth=own.auth, remote_auth=other.auth, local_ts=own.subnets, remote_ts=other.subnets,
            ike_proposals=ike, esp_proposals=esp,
            options=candidate.options if is_first else mirrored_options(candidate.options),
            vips=(), pools=(), ppk_id=None, **own.xfrm,
        )  # fmt: skip

    def _resolve(self, candidate: Candidate, transit: bool) -> tuple[End, End] | Skipped:
        """Resolve both ends of a candidate, or return what is missing."""
        first = self._end(candidate, 0, candidate.first)
        if isinstance(first, Skipped):
            return first
        second = self._end(candidate, 1, candidate.second)
        if isinstance(second, Skipped):
            return second
        if not transit:
            return first, second
        subnets = self._transit.hub_subnets(candidate, first.subnets, second.subnets)
        if len(subnets) > MAX_SELECTORS or len(second.subnets) > MAX_SELECTORS:
            return skip(candidate, "", SkipCode.TOO_MANY_SELECTORS, too_many(MAX_SELECTORS))
        return replace(first, subnets=subnets) if subnets is not first.subnets else first, second

    def _end(self, candidate: Candidate, position: int, end: TunnelEnd) -> End | Skipped:
        if candidate.path != "topology" or end.peer is None:
            return _resolve_end(candidate, position, end, self._fleet)
        if end.peer in self._bare:
            return self._bare[end.peer]
        resolved = _resolve_end(candidate, position, end, self._fleet)
        if isinstance(resolved, End):
            self._bare[end.peer] = resolved
        return resolved


def _resolve_end(candidate: Candidate, position: int, end: TunnelEnd, fleet: Fleet) -> End | Skipped:
    record = fleet.records.get(end.peer) if end.peer is not None else None
    where = f"/ends/{position}" if candidate.path != "topology" else ""
    if end.peer is not None and record is None:
        return skip(candidate, where, SkipCode.NO_RECORD, f"peer {end.peer} is not in the directory", end.peer)
    identity = end.identity or (record.identity if record else None)
    public_key = end.public_key or (record.public_key if record else None)
    subnets = end.subnets or (record.subnets if record else ())
    name = end.peer or str(identity)
    if identity is None or public_key is None:
        return skip(candidate, where, SkipCode.NO_PUBLIC_KEY, f"{name} has announced no IKE public key", end.peer)
    if not subnets:
        return skip(candidate, where, SkipCode.NO_SUBNETS, f"{name} has announced no protected subnets", end.peer)
    addresses = end.addresses or (record.endpoints if record else ())
    xfrm = end.xfrm.model_dump() if end.xfrm is not None else _NO_XFRM
    return End(end.peer, addresses, _auth(identity, public_key), tuple(sorted(set(subnets), key=_network_order)), xfrm)


def initiator(first: End, second: End, spoke: PeerId | None) -> End | None:
    """The end that initiates; it must know an address of the other end. None if neither does."""
    if first.peer is None or second.peer is None:
        ours, foreign = (second, first) if first.peer is None else (first, second)
        return ours if foreign.addresses else (foreign if ours.addresses else None)
    able = [end for end, other in ((first, second), (second, first)) if other.addresses]
    if len(able) < 2:
        return able[0] if able else None
    by_role = [end for end in able if end.peer == spoke]
    return by_role[0] if by_role else (first if first.peer < second.peer else second)


def mirrored_options(options: TunnelOptions) -> TunnelOptions:
    """The same options seen from the other end."""
    if options.local_port == options.remote_port:
        return options
    return options.model_copy(update={"local_port": options.remote_port, "remote_port": options.local_port})


def _auth(identity: Identity, public_key: PublicKey) -> AuthEnd:
    return AuthEnd.model_construct(
        method=AuthMethod.PUBKEY, identity=identity, public_key=public_key, ca=None, secret_name=None, eap_identity=None
    )


def _network_order(network: IPNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def skip(candidate: Candidate, where: str, code: SkipCode, message: str, peer: PeerId | None = None) -> Skipped:
    """Report why a candidate has no tunnel; `where` is a path below the candidate's own."""
    return Skipped(
        candidate.name, candidate.policy.id, candidate.path + where, code, message, candidate.peers, peer
    )  # fmt: skip
