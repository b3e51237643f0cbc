"""IKE identities: parse their text as charon does, and compare two of them.

`parse_identity` follows strongSwan's `identification_create_from_string` (src/libstrongswan/utils/identification.c): a text
without prefix has the type that its form suggests. `canonical` gives equal text for identities that any daemon could treat as
equal, so it is coarser than charon, which distinguishes `gw` from `gw.` and an address from its name.
"""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, StringConstraints

# No control or format characters, since the text is written to configuration and logs, and no backslash: charon escapes nothing.
# Any other letter or sign may stand in a distinguished name: `C=DE, O=Müller & Söhne (Ost)`.
IDENTITY_PATTERN = r"^[^\u0000-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\\]{1,255}$"
Identity = Annotated[str, StringConstraints(pattern=IDENTITY_PATTERN)]


def _of_one_peer(text: str) -> str:
    identity = parse_identity(text)
    if identity.type is IdentityType.OTHER or identity.has_wildcards or not identity.value.strip():
        raise ValueError("must be the identity of one gateway, such as gw.example.org, 192.0.2.1 or C=DE, CN=gw")
    return text


# Of an end of a tunnel. Raises ValueError for `*`, `fqdn:`, networks, ranges: no peer, or more than one, would have it.
ExactIdentity = Annotated[Identity, AfterValidator(_of_one_peer)]

_PLAIN = re.compile(r"[a-z0-9_-]{1,63}")  # a peer id, by far the most frequent
_DN = re.compile(r"/? *[A-Za-z]+ *=")


class IdentityType(StrEnum):
    """The types of RFC 7296, 3.5 that Warren uses; the value is strongSwan's prefix."""

    FQDN = "fqdn"
    EMAIL = "email"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    KEYID = "keyid"
    DN = "asn1dn"
    ANY = "any"  # matches any identity
    OTHER = "other"  # subnets, ranges, URIs, general names: not an identity of one peer


class IkeIdentity(NamedTuple):
    """An identity with its type; the value of an IP address is its shortest form."""

    type: IdentityType
    value: str

    @property
    def has_wildcards(self) -> bool:
        """Whether it matches more than itself. charon looks for `*` in names and in whole parts of a DN."""
        return self.type is IdentityType.ANY or "*" in self.value


_PREFIXES = {
    "fqdn": IdentityType.FQDN, "dns": IdentityType.FQDN, "email": IdentityType.EMAIL, "rfc822": IdentityType.EMAIL,
    "userfqdn": IdentityType.EMAIL, "keyid": IdentityType.KEYID, "asn1dn": IdentityType.DN, "ipv4": IdentityType.IPV4,
    "ipv6": IdentityType.IPV6, "ipv4net": IdentityType.OTHER, "ipv6net": IdentityType.OTHER,
    "ipv4range": IdentityType.OTHER, "ipv6range": IdentityType.OTHER, "asn1gn": IdentityType.OTHER,
    "xmppaddr": IdentityType.OTHER, "uri": IdentityType.OTHER,
}  # fmt: skip
_ANY = frozenset({"", "*", "0.0.0.0", "::", "0::0", "%any", "%any6"})  # noqa: S104 - texts, no addresses to bind


def parse_identity(text: str) -> IkeIdentity:
    """Parse an identity as charon does."""
    prefix, separator, rest = text.partition(":")
    kind = _PREFIXES.get(prefix.lower()) if separator else None
    if kind in (IdentityType.IPV4, IdentityType.IPV6):
        return _address(rest) or IkeIdentity(IdentityType.OTHER, text)
    if kind is IdentityType.OTHER:
        return IkeIdentity(kind, text)
    if kind is not None:
        return IkeIdentity(kind, rest)
    if "=" in text:
        return IkeIdentity(IdentityType.DN if _DN.match(text) else IdentityType.KEYID, text)
    if "@" in text:
        return _with_at(text)
    if text in _ANY:
        return IkeIdentity(IdentityType.ANY, "")
    return _address(text) or _by_form(text)


def canonical(text: str) -> str:
    """The canonical form of an identity, such as `fqdn:gw.example`: equal for all its spellings."""
    if _PLAIN.fullmatch(text):
        return f"fqdn:{text}"
    kind, value = parse_identity(text.strip(" "))
    value = value.strip(" ").casefold()
    if kind is IdentityType.FQDN:
        named = _address(value)  # a name that looks like an address: some daemons parse it as one
        kind, value = named if named is not None else (kind, value.rstrip("."))
    elif kind is IdentityType.EMAIL:
        value = value.rstrip(".")
    elif kind is IdentityType.DN:
        value = _canonical_dn(value)
    if kind is IdentityType.IPV6 and (mapped := IPv6Address(value).ipv4_mapped) is not None:
        kind, value = IdentityType.IPV4, str(mapped)
    if not value:
        kind = IdentityType.ANY
    return f"{kind.value}:{value}"


def explicit(text: str) -> str:
    """The same identity for swanctl.conf, with an explicit type prefix, so that charon does not guess.

    After a prefix charon takes the text as it is, so addresses are given in hexadecimal; a DN is parsed only without prefix.
    """
    kind, value = parse_identity(text)
    if kind in (IdentityType.IPV4, IdentityType.IPV6):
        return f"{kind.value}:#{ip_address(value).packed.hex()}"
    if kind in (IdentityType.FQDN, IdentityType.EMAIL, IdentityType.KEYID):
        return f"{kind.value}:{value}"
    return value if kind is IdentityType.DN and _DN.match(value) else text


def _with_at(text: str) -> IkeIdentity:
    if text.startswith("@@"):
        return IkeIdentity(IdentityType.EMAIL, text[2:])
    if text.startswith("@"):
        return IkeIdentity(IdentityType.FQDN, text[1:])
    return IkeIdentity(IdentityType.EMAIL, text)


def _address(text: str) -> IkeIdentity | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if address.is_unspecified:
        return IkeIdentity(IdentityType.ANY, "")
    return IkeIdentity(IdentityType.IPV4 if address.version == 4 else IdentityType.IPV6, str(address))


def _by_form(text: str) -> IkeIdentity:
    """Text without prefix that is not an address: a subnet, a range, else a name, or with a colon a key id."""
    for separator in ("/", "-"):
        first, found, _ = text.partition(separator)
        if found and _address(first) is not None:
            return IkeIdentity(IdentityType.OTHER, text)
    return IkeIdentity(IdentityType.KEYID if ":" in text else IdentityType.FQDN, text)


def _canonical_dn(text: str) -> str:
    separator = "/" if text.startswith("/") else ","
    parts = (part.partition("=") for part in text.removeprefix("/").split(separator))
    return ",".join(f"{name.strip()}={value.strip()}" for name, _, value in parts)
