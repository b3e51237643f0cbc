"""The gateway identity of REDIRECT and REDIRECTED_FROM (RFC 5685, 6)."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from warren_ikev2.constants import IdType
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.identity import Identity
from warren_ikev2.wire.reader import ByteReader

_IPV4, _IPV6, _FQDN = 1, 2, 3


def parse_gateway(data: bytes) -> tuple[str, bytes]:
    """Parse the gateway, printable, and the nonce that follows it (empty after IKE_SA_INIT). MalformedMessageError."""
    reader = ByteReader(data)
    kind, size = reader.number(1), reader.number(1)
    name, nonce = reader.take(size), reader.rest()
    if kind == _IPV4 and size == 4:
        return str(IPv4Address(name)), nonce
    if kind == _IPV6 and size == 16:
        return str(IPv6Address(name)), nonce
    if kind == _FQDN and size:
        return str(Identity(IdType.FQDN, name)), nonce
    raise MalformedMessageError("unknown type of gateway identity")


def build_gateway(gateway: str, nonce: bytes = b"") -> bytes:
    """Build the notify's data for an IP address or a domain name."""
    try:
        address = ip_address(gateway)
    except ValueError:
        name = gateway.encode("ascii", "replace")
        return bytes([_FQDN, len(name)]) + name + nonce
    return bytes([_IPV4 if address.version == 4 else _IPV6, len(address.packed)]) + address.packed + nonce
