"""IKE identities (RFC 7296, 3.5) in strongSwan's notation."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

from warren_ikev2.constants import IdType
from warren_ikev2.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity's type and its bytes on the wire."""

    type: IdType
    data: bytes

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Parse strongSwan's notation.

        An IP address, `user@host`, `keyid:name` or `@#hex` (opaque), a distinguished name (`C=CH, O=Warren, CN=moon`,
        in the order of the certificate), else a domain name. ConfigurationError if empty or not encodable.
        """
        text = text.strip()
        if not text:
            raise ConfigurationError("an identity must not be empty")
        if text.startswith("@#"):
            return cls(IdType.KEY_ID, _from_hex(text))
        if text.startswith("keyid:"):
            return cls(IdType.KEY_ID, text.removeprefix("keyid:").encode())
        try:
            address = ip_address(text)
        except ValueError:
            return cls._parse_name(text)
        return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)

    @classmethod
    def _parse_name(cls, text: str) -> "Identity":
        if "=" in text:
            return cls(IdType.DER_ASN1_DN, _parse_distinguished_name(text))
        kind = IdType.RFC822_ADDR if "@" in text.lstrip("@") else IdType.FQDN
        try:
            return cls(kind, text.lstrip("@").encode("ascii"))
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"identity {text!r} is not ASCII; write it as punycode") from error

    @classmethod
    def from_subject(cls, certificate: x509.Certificate) -> "Identity":
        """The certificate's subject, as it is encoded there."""
        return cls(IdType.DER_ASN1_DN, certificate.subject.public_bytes())

    @property
    def comparable(self) -> tuple[int, object]:
        """Equal for identities that match."""
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return self.type, self.data.lower()
        if self.type == IdType.DER_ASN1_DN:
            parts = _rdns(self.data)
            return self.type, self.data if parts is None else tuple(parts)
        return self.type, self.data

    def matches(self, other: "Identity") -> bool:
        """Whether both are the same identity: names are compared without case, distinguished names by their RDNs."""
        return self == other or self.comparable == other.comparable

    def __str__(self) -> str:
        """Return a printable form, whatever a peer sent."""
        match self.type:
            case IdType.IPV4_ADDR if len(self.data) == 4:
                return str(IPv4Address(self.data))
            case IdType.IPV6_ADDR if len(self.data) == 16:
                return str(IPv6Address(self.data))
            case IdType.FQDN | IdType.RFC822_ADDR:
                return self.data.decode("ascii", "backslashreplace").encode("unicode_escape").decode("ascii")
            case IdType.DER_ASN1_DN:
                return _print_distinguished_name(self.data)
            case _:
                return f"@#{self.data.hex()}"


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise ConfigurationError(f"identity {text!r} is not hexadecimal") from error


def _parse_distinguished_name(text: str) -> bytes:
    """RFC 4514 reverses the order of RDNs; strongSwan's notation, and ours, keeps the certificate's."""
    try:
        name = x509.Name.from_rfc4514_string(
            ",".join(part.strip() for part in text.split(",")),
            attr_name_overrides={"E": x509.NameOID.EMAIL_ADDRESS, "emailAddress": x509.NameOID.EMAIL_ADDRESS},
        )
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a distinguished name") from error
    return x509.Name(list(reversed(list(name.rdns)))).public_bytes()


def _rdns(data: bytes) -> list[frozenset[tuple[str, str]]] | None:
    """A name's parts for comparison: RFC 5280, 7.1 compares without case and string type."""
    try:
        name = x509.Name.from_bytes(data)
    except ValueError:
        return None
    return [frozenset((part.oid.dotted_string, str(part.value).casefold()) for part in rdn) for rdn in name.rdns]


def _print_distinguished_name(data: bytes) -> str:
    try:
        name = x509.Name.from_bytes(data)
    except ValueError:
        return f"@#{data.hex()}"
    text = ", ".join(rdn.rfc4514_string() for rdn in name.rdns)
    return text.encode("unicode_escape").decode("ascii")
