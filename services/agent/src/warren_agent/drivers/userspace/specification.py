"""A tunnel as the daemon takes it. Pure."""

import base64
from collections.abc import Iterable

from warren_agent.errors import ConfigRefusedError
from warren_contracts.addresses import Endpoint, IPAddress, common_port
from warren_contracts.auth import EndAuth, RawKeyAuth
from warren_contracts.identities import IdentityType, parse_identity
from warren_contracts.ipsec import ChildSettings, Fragmentation
from warren_contracts.selectors import AddressRange
from warren_contracts.selectors import TrafficSelector as Selector
from warren_contracts.tunnel import Tunnel
from warren_ikev2.daemon.messages import ChildSpecification, TunnelSpecification
from warren_ikev2.selectors import TrafficSelector

FRAGMENT_SIZE = 1280
"""Bytes of an IKE datagram (RFC 7383), as charon's default."""


def build_specification(config: Tunnel) -> TunnelSpecification:
    """The specification of a tunnel that `check` accepts."""
    link, ike = config.link, config.link.ike.resolved()
    return TunnelSpecification(
        config.name,
        _identity(link.local_auth),
        _identity(link.remote_auth),
        base64.b64decode(_raw_key(link.remote_auth).public_key),
        _hosts(config.local_endpoints),
        _hosts(config.remote_endpoints),
        common_port(config.remote_endpoints),
        tuple(proposal.names for proposal in link.ike.proposals),
        float(ike.rekey_time),
        float(ike.reauth_time) or None,
        float(ike.over_time or 0),
        float(ike.dpd_delay) or None,
        ike.mobike,
        None if ike.fragmentation is Fragmentation.NO else FRAGMENT_SIZE,
        tuple(_child(child) for child in link.children),
        link.ike.vips,
        tuple(TrafficSelector.from_network(network) for network in link.ike.pools),
    )


def _raw_key(end: EndAuth) -> RawKeyAuth:
    if not isinstance(end, RawKeyAuth):
        raise ConfigRefusedError(f"the userspace driver authenticates by raw keys only, not by {end.kind}")
    return end


def _identity(end: EndAuth) -> str:
    """In the notation of `warren_ikev2.identity`, which knows a name's type by its form."""
    kind, value = parse_identity(_raw_key(end).identity)
    return f"keyid:{value}" if kind is IdentityType.KEYID else value


def _hosts(endpoints: Iterable[Endpoint]) -> tuple[IPAddress, ...]:
    return tuple(endpoint.host for endpoint in endpoints if not isinstance(endpoint.host, str))


def _child(child: ChildSettings) -> ChildSpecification:
    limits = child.resolved()
    assert limits.rekey_time is not None
    assert limits.life_time is not None
    return ChildSpecification(
        child.name,
        _selectors(child.local_ts),
        _selectors(child.remote_ts),
        tuple(proposal.names for proposal in child.proposals),
        float(limits.rekey_time),
        float(limits.life_time),
        limits.rekey_bytes or None,
        limits.life_bytes or None,
        limits.rekey_packets or None,
        limits.life_packets or None,
    )


def _selectors(selectors: Iterable[Selector]) -> tuple[TrafficSelector, ...]:
    found = []
    for selector in selectors:
        addresses = selector.addresses
        if addresses is None:
            continue
        ends = addresses if isinstance(addresses, AddressRange) else AddressRange(addresses[0], addresses[-1])
        found.append(TrafficSelector(*ends, selector.protocol, *selector.ports))
    return tuple(found)
