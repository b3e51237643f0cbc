"""The traffic of a peer that must not leave in clear, and what stays protected although no tunnel asks for it any more.

A tunnel that policies request is protected whether or not it could be derived, as far as the networks of its two ends are
known: a policy without a common proposal still means that the traffic is encrypted.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network

from warren_contracts.addresses import Endpoint, IPAddress, IPNetwork
from warren_contracts.guard import Held, Key
from warren_contracts.ipsec import Xfrm
from warren_contracts.names import PeerId
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy, TunnelEnd
from warren_contracts.protection import Protect, ProtectedTraffic, TrafficPair
from warren_contracts.selectors import TrafficSelector
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.fleet import Fleet
from warren_intent.links import DYNAMIC, Selectors, child_selectors, selectors_of

_TRAFFIC_FIELDS, _PAIR_FIELDS = set(ProtectedTraffic.model_fields), set(TrafficPair.model_fields)


def protected_by(tunnel: Tunnel) -> ProtectedTraffic | None:
    """What a derived tunnel protects. None: its policy turns protection off, or its selectors name no address."""
    if tunnel.protect is Protect.OFF:
        return None
    own: tuple[TrafficPair, ...] = ()
    if not is_routed(tunnel):
        remote = selectors_of(_remote_of_dynamic(tunnel.link.ike.pools, tunnel.remote_endpoints))
        pairs = ((child.local_ts, _without_dynamic(child.remote_ts, remote)) for child in tunnel.link.children)
        own = tuple(_pair(local, other) for local, other in pairs if local and other)
        if not own:
            return None
    xfrm = tunnel.link.xfrm
    return ProtectedTraffic.model_construct(
        _TRAFFIC_FIELDS, policy=tunnel.policy, tunnel=tunnel.name, peer=tunnel.peer, protect=tunnel.protect,
        after_delete=tunnel.protect_after_delete, pairs=own, mark=xfrm.mark_out, mark_mask=xfrm.mark_out_mask,
        if_id_in=xfrm.if_id_in, if_id_out=xfrm.if_id_out,
    )  # fmt: skip


def is_routed(tunnel: Tunnel) -> bool:
    """Whether an XFRM interface selects the traffic: an interface id, and selectors that are all addresses at both ends.

    What is routed into an XFRM interface leaves through an SA or not at all (net/xfrm/xfrm_interface_core.c); nothing else is
    this tunnel's traffic.
    """
    if not tunnel.link.xfrm.if_id_out:
        return False
    return all(_is_everything(side) for child in tunnel.link.children for side in (child.local_ts, child.remote_ts))


def unprotectable(tunnel: Tunnel) -> str:
    """Why a tunnel that must be protected cannot be; empty if it can. Names the field and the remedy."""
    if tunnel.protect is Protect.OFF or is_routed(tunnel):
        return ""
    known = _remote_of_dynamic(tunnel.link.ike.pools, tunnel.remote_endpoints)
    for child in tunnel.link.children:
        if not known and any(selector.addresses is None for selector in child.remote_ts):
            return (
                f"children.{child.name}: the addresses behind `dynamic` are unknown until the tunnel is up, so they cannot be"
                " protected: state `addresses`, `subnets` or `pools`, or set `protect: off`"
            )
    return ""


def protected_without_tunnel(candidate: Candidate, fleet: Fleet, me: PeerId) -> ProtectedTraffic | None:
    """What a requested tunnel protects that was not derived; None if protection is off or the networks are unknown."""
    policy = candidate.policy
    if policy.protect is Protect.OFF:
        return None
    own_first = candidate.first.peer == me
    own, other = (candidate.first, candidate.second) if own_first else (candidate.second, candidate.first)
    sides = _selectors(own, fleet), _selectors(other, fleet)
    pairs = []
    for child in candidate.children:
        local = child_selectors(child, 0 if own_first else 1, sides[0])
        remote = child_selectors(child, 1 if own_first else 0, sides[1])
        remote = tuple(selector for selector in remote if selector.addresses is not None)
        if local and remote:
            pairs.append(_pair(local, remote))
    if not pairs:
        return None
    xfrm = own.xfrm or Xfrm()
    if xfrm.if_id_out and all(_is_everything(side) for pair in pairs for side in (pair.local, pair.remote)):
        pairs = []
    return ProtectedTraffic.model_construct(
        _TRAFFIC_FIELDS, policy=policy.id, tunnel=candidate.name, peer=other.peer, protect=policy.protect,
        after_delete=policy.protect_after_delete, pairs=tuple(pairs), mark=xfrm.mark_out, mark_mask=xfrm.mark_out_mask,
        if_id_in=xfrm.if_id_in, if_id_out=xfrm.if_id_out,
    )  # fmt: skip


def retained(
    held: Iterable[Held], traffic: Iterable[ProtectedTraffic], policies: Iterable[PublishedPolicy],
    directory: Mapping[PeerId, PeerRecord], me: PeerId,
) -> tuple[Key, ...]:  # fmt: skip
    """What stays protected although it is no longer derived: its policy exists, and is disabled or has lost a peer.

    A peer that was revoked is no longer in the directory, and neither is the network that it had announced; as long as the
    policy exists, that network is not sent to in clear. The same holds for `me`.
    """
    wanted = {entry.key for entry in traffic}
    newest: dict[str, PublishedPolicy] = {}
    for published in policies:
        known = newest.get(published.policy.id)
        if known is None or published.revision > known.revision:
            newest[published.policy.id] = published
    return tuple(
        (entry.policy, entry.tunnel)
        for entry in held
        if (entry.policy, entry.tunnel) not in wanted
        and entry.policy in newest
        and _is_retained(entry, newest[entry.policy].policy, directory, me)
    )


def _is_retained(entry: Held, policy: Policy, directory: Mapping[PeerId, PeerRecord], me: PeerId) -> bool:
    if policy.protect is Protect.OFF:
        return False
    if not policy.enabled or any(spec.name == entry.tunnel for spec in policy.tunnels):
        return True
    records = [directory.get(peer) for peer in (me, entry.peer) if peer is not None]
    is_incomplete = len(records) < 2 or any(record is None or record.withdrawn for record in records)
    return policy.topology is not None and "+" in entry.tunnel and is_incomplete


def _selectors(end: TunnelEnd, fleet: Fleet) -> Selectors:
    record = fleet.records.get(end.peer) if end.peer is not None else None
    subnets = end.subnets or (record.subnets if record else ())
    return selectors_of(subnets) or (DYNAMIC if end.vips else ())


def _remote_of_dynamic(pools: tuple[IPNetwork, ...], endpoints: tuple[Endpoint, ...]) -> tuple[IPNetwork, ...]:
    """The networks that `dynamic` at the other end stands for: its virtual addresses, else its endpoints."""
    addresses: list[IPAddress] = [it.host for it in endpoints if isinstance(it.host, IPv4Address | IPv6Address)]
    return pools or tuple(ip_network(address) for address in addresses if not address.is_unspecified)


def _without_dynamic(selectors: Selectors, instead: Selectors) -> Selectors:
    return tuple(
        TrafficSelector(known.addresses, selector.protocol, selector.ports)
        for selector in selectors
        for known in ((selector,) if selector.addresses is not None else instead)
    )


def _pair(local: Selectors, remote: Selectors) -> TrafficPair:
    return TrafficPair.model_construct(_PAIR_FIELDS, local=local, remote=remote)


def _is_everything(selectors: Selectors) -> bool:
    return all(
        selector.addresses is not None
        and not selector.protocol
        and all(network.prefixlen == 0 for network in selector.networks)
        for selector in selectors
    )
