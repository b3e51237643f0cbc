"""Which tunnel a destination takes from a peer, and why none. Pure: what policies and announcements say, not what is up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_contracts.selectors import networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.claims import PolicyClaims, apply_claims
from warren_intent.derivation import SkipCode, Skipped
from warren_intent.expand import Expansion, explain


class RouteVerdict(StrEnum):
    """What happens to packets to a destination."""

    TUNNEL = "tunnel"
    LOCAL = "local"  # the peer protects the destination itself
    NONE = "none"  # no tunnel carries them


@dataclass(frozen=True, slots=True)
class Route:
    """The tunnel from one peer to one address. `standbys` are the tunnels that carry it while `tunnel` does not work."""

    peer: PeerId
    address: IPAddress
    verdict: RouteVerdict
    detail: str
    tunnel: TunnelName | None = None
    to: str = ""  # the other end: a peer, or the identity of a foreign gateway
    sources: tuple[IPNetwork, ...] = ()  # packets from these addresses take the tunnel
    standbys: tuple[TunnelName, ...] = ()


@dataclass(frozen=True, slots=True)
class _Match:
    """A tunnel whose selectors contain the destination, the longest prefix, and the sources that go with it."""

    tunnel: Tunnel
    prefix: IPNetwork
    sources: tuple[IPNetwork, ...]


def route(
    policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord], me: PeerId, address: IPAddress
) -> Route:
    """The tunnel that packets from the networks of `me` to an address take."""
    stated = list(policies)
    records = apply_claims(PolicyClaims(stated), directory)[0]
    record = records.get(me)
    if record is None:
        return Route(me, address, RouteVerdict.NONE, f"{me} has not announced itself")
    if own := _containing(record.subnets, address):
        return Route(me, address, RouteVerdict.LOCAL, f"{own} is behind {me}")
    expansion = explain(stated, records, me)
    matches = [match for tunnel in expansion.tunnels if (match := _match(tunnel, address))]
    if matches:
        return _chosen(me, address, matches)
    return Route(me, address, RouteVerdict.NONE, _why_none(me, address, expansion, records))


def _chosen(me: PeerId, address: IPAddress, matches: list[_Match]) -> Route:
    """The longest prefix, and of equal ones the tunnel that stands by for none of the others."""
    names = {match.tunnel.name for match in matches}
    ranked = sorted(
        matches, key=lambda it: (len(names.intersection(it.tunnel.standby_of)), -it.prefix.prefixlen, it.tunnel.name)
    )
    first = ranked[0]
    standbys = tuple(it.tunnel.name for it in ranked[1:] if first.tunnel.name in it.tunnel.standby_of)
    to = first.tunnel.peer or str(first.tunnel.link.remote_auth.identity)
    return Route(
        me, address, RouteVerdict.TUNNEL, f"{first.prefix} is behind {to}, by policy {first.tunnel.policy}", first.tunnel.name, to,
        first.sources, standbys,
    )  # fmt: skip


def _match(tunnel: Tunnel, address: IPAddress) -> _Match | None:
    found: _Match | None = None
    for child in tunnel.link.children:
        prefix = _containing(networks_of(child.remote_ts), address)
        if prefix is not None and (found is None or prefix.prefixlen > found.prefix.prefixlen):
            sources = tuple(net for net in networks_of(child.local_ts) if net.version == address.version)
            found = _Match(tunnel, prefix, sources)
    return found


def _why_none(me: PeerId, address: IPAddress, expansion: Expansion, records: Mapping[PeerId, PeerRecord]) -> str:
    """Why no tunnel carries packets to an address."""
    holders = {
        peer: network
        for peer, record in records.items()
        if not record.withdrawn and (network := _containing(record.subnets, address)) is not None
    }
    if not holders:
        return f"no peer protects a network that contains {address}, and no policy states one for an end"
    skipped = [it for it in expansion.skipped if it.code is not SkipCode.OVERRIDDEN and holders.keys() & set(it.peers)]
    if skipped:
        return "; ".join(_refusal(it) for it in skipped)
    named = ", ".join(f"{peer} ({network})" for peer, network in sorted(holders.items()))
    joined = sorted(tunnel.name for tunnel in expansion.tunnels if tunnel.peer in holders)
    if joined:
        return f"{', '.join(joined)} leads to {named}, but its selectors do not contain {address}"
    return f"no policy joins {me} with {named}"


def _refusal(skipped: Skipped) -> str:
    return f"policy {skipped.policy} requests {skipped.name}, but {skipped.message} ({skipped.code.value})"


def _containing(networks: Iterable[IPNetwork], address: IPAddress) -> IPNetwork | None:
    """The longest of the networks that contain an address."""
    around = [network for network in networks if network.version == address.version and address in network]
    return max(around, key=lambda it: it.prefixlen, default=None)
