"""The profile of a client: all that it needs to connect but its secrets. One model for the server, which writes it, and the client.

A profile is a file, so it is untrusted until validated: unknown fields, other versions, host bits in networks and keys that are
no keys are refused with the name of the field. It holds a private key only if it was made `--with-key`.
"""

import base64
import binascii
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    field_serializer,
    field_validator,
    model_validator,
)

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import Input
from warren_contracts.identities import Identity as IdentityText
from warren_contracts.names import NAME_PATTERN, PublicKey
from warren_contracts.proposals import Algorithms, parse_proposal
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity as IkeIdentity

IKE_PORT = 500
NATT_PORT = 4500
DEFAULT_KEEPALIVE_S = 20
DEFAULT_INACTIVITY_S = 60
EVERYTHING: tuple[IPNetwork, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
MAX_PEM = 65_536  # characters: a chain of ten certificates with RSA keys

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Seconds = Annotated[int, Field(strict=True)]


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError(
            "must be 1 to 64 of the characters A-Z, a-z, 0-9, ., _, @ and -, the first a letter or a digit"
        )
    return text


def _domain(text: str) -> str:
    if len(text) > 253 or not _DOMAIN_NAME.fullmatch(text):
        raise ValueError("must be a domain name such as example.com")
    return text


def _host(text: str) -> str:
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise ValueError("must be a domain name or an address")
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text} is not the address of a server")
    return str(address)


def _identity(text: str) -> str:
    try:
        IkeIdentity.parse(text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return text


def _ed25519(text: str) -> str:
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("must be the Base64 of an Ed25519 public key of 32 bytes") from None
    return text


def _certificates(text: str) -> str:
    if "PRIVATE KEY" in text:
        raise ValueError("holds a private key; only certificates belong here")
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("must be one or more certificates in PEM") from None
    return text


def _proposal(text: str) -> str:
    parse_proposal(text)
    return text


UserName = Annotated[str, AfterValidator(_user)]
"""A user's name: it is also an IKE identity, a field of the audit, and part of file names."""
DomainName = Annotated[str, AfterValidator(_domain)]
Host = Annotated[str, AfterValidator(_host)]
Identity = Annotated[IdentityText, AfterValidator(_identity)]
Ed25519Key = Annotated[PublicKey, AfterValidator(_ed25519)]
Certificates = Annotated[str, StringConstraints(max_length=MAX_PEM), AfterValidator(_certificates)]
Proposal = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_proposal)]
KeyFile = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class ProfileServer(Input):
    """A server's name or address, and its ports. Equal ports: the first message goes to the port of NAT traversal."""

    host: Host
    port: Port = NATT_PORT
    """For NAT traversal: IKE after its first exchange, and ESP in UDP."""
    ike_port: Port = IKE_PORT
    """For IKE_SA_INIT."""


class KeyTrust(Input):
    """The server proves that it owns this raw Ed25519 key (RFC 7427, RFC 8420)."""

    kind: Literal["raw-key"] = "raw-key"
    public_key: Ed25519Key


class CaTrust(Input):
    """The server has a certificate from one of these authorities that holds its identity."""

    kind: Literal["certificate"] = "certificate"
    authorities: Certificates


ServerTrust = Annotated[KeyTrust | CaTrust, Field(discriminator="kind")]


class PasswordLogin(Input):
    """A name and a password, by EAP inside an IKE_SA whose server has authenticated. The password is never part of a profile."""

    kind: Literal["password"] = "password"
    user: UserName


class _WithKey(Input):
    """A private key in PEM (PKCS#8): in a file, or in the profile itself."""

    key_file: KeyFile | None = None
    """Relative to the profile's folder."""
    private_key: SecretStr | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.key_file is None) == (self.private_key is None):
            raise ValueError("needs exactly one of key_file and private_key")
        return self

    @field_serializer("private_key", when_used="json-unless-none")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()  # JSON is the profile's file, and only that


class KeyLogin(_WithKey):
    """The client owns the raw Ed25519 key that the server has on file for its identity."""

    kind: Literal["raw-key"] = "raw-key"


class CertificateLogin(_WithKey):
    """The client has a certificate that the server's authority issued for its identity."""

    kind: Literal["certificate"] = "certificate"
    certificate: Certificates
    """The client's own, then intermediates."""


Login = Annotated[PasswordLogin | KeyLogin | CertificateLogin, Field(discriminator="kind")]


class ClientProfile(Input):
    """See the module. Times are in seconds, sizes in bytes."""

    version: Literal[1] = 1
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    servers: Annotated[tuple[ProfileServer, ...], Field(min_length=1, max_length=16)]
    """In order of preference."""
    server_identity: Identity
    server_trust: ServerTrust
    identity: Identity
    """The client's own IKE identity (IDi)."""
    login: Login
    routes: Annotated[tuple[IPNetwork, ...], Field(min_length=1, max_length=256)] = EVERYTHING
    """What goes through the tunnel; 0.0.0.0/0 and ::/0 are the full tunnel."""
    dns_servers: Annotated[tuple[IPAddress, ...], Field(max_length=16)] = ()
    search_domains: Annotated[tuple[DomainName, ...], Field(max_length=32)] = ()
    kill_switch: Annotated[bool, Field(strict=True)] = False
    """Whether traffic of `routes` is blocked while the tunnel is down."""
    mtu: Annotated[int, Field(ge=1280, le=9000, strict=True)] | None = None
    """Of the tunnel's interface; None: derived from the path."""
    keepalive_s: Annotated[Seconds, Field(ge=5, le=3600)] = DEFAULT_KEEPALIVE_S
    """Between keepalives of the NAT mapping."""
    inactivity_s: Annotated[Seconds, Field(ge=10, le=86400)] = DEFAULT_INACTIVITY_S
    """Silence of the server after which the client reconnects."""
    ike_proposals: Annotated[tuple[Proposal, ...], Field(max_length=16)] = ()
    """strongSwan's keywords, `aes256gcm16-prfsha384-x25519`; empty: the engine's default."""
    esp_proposals: Annotated[tuple[Proposal, ...], Field(max_length=16)] = ()

    @model_validator(mode="before")
    @classmethod
    def _without_compression(cls, values: object) -> object:
        if isinstance(values, dict) and "compression" in values:
            raise ValueError(
                "compression is not offered: the lengths of compressed packets depend on their content (CRIME)"
            )
        return values

    @field_validator("routes")
    @classmethod
    def _distinct(cls, routes: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
        if len(set(routes)) != len(routes):
            raise ValueError("the same network twice")
        return routes

    @property
    def is_full_tunnel(self) -> bool:
        """Whether all traffic of one IP version goes through the tunnel."""
        return any(network.prefixlen == 0 for network in self.routes)

    @property
    def has_secret(self) -> bool:
        """Whether the profile holds a private key."""
        return not isinstance(self.login, PasswordLogin) and self.login.private_key is not None

    @property
    def ike_algorithms(self) -> tuple[tuple[str, ...], ...]:
        """The IKE proposals as `warren_ikev2.suites.ike_proposals` takes them."""
        return _algorithms(self.ike_proposals)

    @property
    def esp_algorithms(self) -> tuple[tuple[str, ...], ...]:
        """The ESP proposals as `warren_ikev2.suites.esp_proposals` takes them."""
        return _algorithms(self.esp_proposals)


def _algorithms(proposals: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    parsed: list[Algorithms] = [parse_proposal(text) for text in proposals]
    return tuple(algorithms.names for algorithms in parsed)
