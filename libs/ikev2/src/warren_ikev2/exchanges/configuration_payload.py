"""The configuration payload (RFC 7296, 2.19 and 3.15): requesting and assigning virtual addresses."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from warren_ikev2.addresses import IPAddress
from warren_ikev2.constants import ConfigAttribute as Attribute
from warren_ikev2.constants import ConfigType
from warren_ikev2.errors import FailedCpRequiredError, InternalAddressFailureError
from warren_ikev2.events import NetworkAttributes
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import CpPayload, Payload

T = TypeVar("T")
MAX_ATTRIBUTES = 64  # of one payload that are read
_ADDRESS = {4: Attribute.INTERNAL_IP4_ADDRESS, 6: Attribute.INTERNAL_IP6_ADDRESS}
_DNS = {4: Attribute.INTERNAL_IP4_DNS, 6: Attribute.INTERNAL_IP6_DNS}
_SUBNET = {4: Attribute.INTERNAL_IP4_SUBNET, 6: Attribute.INTERNAL_IP6_SUBNET}


def build_request(versions: tuple[int, ...], preferred: tuple[IPAddress, ...] = ()) -> list[Payload]:
    """Build a CFG_REQUEST for addresses, DNS servers and subnets of some IP versions; empty for none."""
    wanted: dict[int, bytes] = {address.version: _build_address(address) for address in preferred}
    attributes = [
        (kind, wanted.get(version, b"") if kind == _ADDRESS[version] else b"")
        for version in versions
        for kind in (_ADDRESS[version], _DNS[version], _SUBNET[version])
    ]
    return [CpPayload(ConfigType.REQUEST, tuple(attributes))] if attributes else []


def parse_reply(payloads: Payloads) -> NetworkAttributes:
    """Parse CFG_REPLY; malformed attributes are ignored, as unknown ones are."""
    reply = payloads.first(CpPayload)
    if reply is None or reply.cp_type != ConfigType.REPLY:
        return NetworkAttributes()
    addresses: list[IPAddress] = []
    dns: list[IPAddress] = []
    subnets: list[IPv4Network | IPv6Network] = []
    for kind, value in reply.attributes[:MAX_ATTRIBUTES]:
        if kind in _ADDRESS.values():
            _append(addresses, _parse_address, value)
        elif kind in _DNS.values():
            _append(dns, _parse_address, value)
        elif kind in _SUBNET.values():
            _append(subnets, _parse_subnet, value)
    return NetworkAttributes(tuple(addresses), tuple(dns), tuple(subnets))


def answer_request(sa: IkeSa, payloads: Payloads) -> list[Payload]:
    """CFG_REPLY from the connection's pool; the session's network attributes are set.

    FailedCpRequiredError: the peer does not send the required request. InternalAddressFailureError: the pool is exhausted.
    """
    pool = sa.session.connection.address_pool
    request = payloads.first(CpPayload)
    asked = request.attributes[:MAX_ATTRIBUTES] if request is not None and request.cp_type == ConfigType.REQUEST else ()
    requested = {
        version: _requested_address(asked, version)
        for version in _ADDRESS
        if any(k == _ADDRESS[version] for k, _ in asked)
    }
    if pool is None or not requested:
        if pool is not None and pool.required:
            raise FailedCpRequiredError
        return []
    leases = sa.host.leases
    known = sa.session.connection.remote_identity
    owner = known.comparable if pool.keep and known is not None and sa.session.bound else None
    found = [leases.allocate(pool, version, sa.session.id, address, owner) for version, address in requested.items()]
    addresses = tuple(address for address in found if address is not None)
    if not addresses:
        raise InternalAddressFailureError
    versions = {address.version for address in addresses}
    dns = tuple(server for server in pool.dns if server.version in versions)
    subnets = tuple(subnet for subnet in pool.subnets if subnet.version in versions)
    sa.session.network = NetworkAttributes(addresses, dns, subnets)
    return [_build_reply(sa.session.network)]


def _build_reply(network: NetworkAttributes) -> CpPayload:
    attributes = [(_ADDRESS[address.version], _build_address(address)) for address in network.addresses]
    attributes += [(_DNS[server.version], server.packed) for server in network.dns]
    attributes += [(_SUBNET[subnet.version], _build_subnet(subnet)) for subnet in network.subnets]
    return CpPayload(ConfigType.REPLY, tuple((int(kind), value) for kind, value in attributes))


def _build_address(address: IPAddress) -> bytes:
    return address.packed + (b"\x80" if address.version == 6 else b"")  # IPv6 with its prefix length, 128


def _build_subnet(subnet: IPv4Network | IPv6Network) -> bytes:
    if isinstance(subnet, IPv4Network):
        return subnet.network_address.packed + subnet.netmask.packed
    return subnet.network_address.packed + bytes([subnet.prefixlen])


def _requested_address(attributes: tuple[tuple[int, bytes], ...], version: int) -> IPAddress | None:
    value = next(value for kind, value in attributes if kind == _ADDRESS[version])
    try:
        address = _parse_address(value)
    except ValueError:
        return None
    return None if int(address) == 0 else address


def _append(target: list[T], parse: Callable[[bytes], T], value: bytes) -> None:
    try:
        target.append(parse(value))
    except ValueError:
        return


def _parse_address(value: bytes) -> IPAddress:
    if len(value) in (16, 17):  # IPv6, with or without prefix length
        return IPv6Address(value[:16])
    return IPv4Address(value)


def _parse_subnet(value: bytes) -> IPv4Network | IPv6Network:
    if len(value) == 17:
        return IPv6Network((value[:16], value[16]), strict=False)
    if len(value) != 8:
        raise ValueError("not a subnet")
    return IPv4Network((value[:4], str(IPv4Address(value[4:]))), strict=False)
