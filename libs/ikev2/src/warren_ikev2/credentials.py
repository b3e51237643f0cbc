"""The credentials of both sides. Secrets are never part of a repr."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from warren_ikev2.errors import ConfigurationError

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class PskAuth:
    """A pre-shared key (RFC 7296, 2.15). The same class serves both directions."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.secret:
            raise ConfigurationError("a pre-shared key must not be empty")


@dataclass(frozen=True, slots=True)
class RawKeyAuth:
    """We authenticate by a raw key that the peer trusts (RFC 7670, RFC 7427)."""

    private_key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class RawKeyTrust:
    """The peer must own one of these keys."""

    public_keys: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not self.public_keys:
            raise ConfigurationError("RawKeyTrust needs at least one key")


@dataclass(frozen=True, slots=True)
class CertificateAuth:
    """We authenticate by a certificate; `chain`: the end entity, then intermediates (the root is not sent)."""

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not self.chain:
            raise ConfigurationError("CertificateAuth needs at least one certificate")
        if self.chain[0].public_key() != self.private_key.public_key():
            raise ConfigurationError("the private key does not belong to the first certificate of the chain")


@dataclass(frozen=True, slots=True)
class CertificateTrust:
    """The peer needs a certificate from one of these authorities that holds its identity (RFC 4945, RFC 5280)."""

    authorities: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    """Configured intermediates; those of the peer's CERT payloads are added."""
    revocation_lists: tuple[x509.CertificateRevocationList, ...] = ()
    require_revocation_list: bool = False
    """Refuse a certificate whose issuer's current list is not among the given ones."""

    def __post_init__(self) -> None:
        if not self.authorities:
            raise ConfigurationError("CertificateTrust needs at least one authority")


@dataclass(frozen=True, slots=True)
class EapGtcAuth:
    """Our side (always the initiator) answers EAP-GTC (RFC 3748, 5.6), in a server-authenticated SA."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EapMschapv2Auth:
    """Our side (always the initiator) answers EAP-MSCHAPv2 (RFC 2759), only for gateways of others."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EapTrust:
    """The peer (always the initiator) must prove a user's password, by EAP-GTC or, where it declines that, by EAP-MSCHAPv2.

    The engine reports each attempt as a `LoginRequested` event and continues with the command `answer_login`.
    """

    mschapv2: bool = False
    """Whether MSCHAPv2 is offered to a client that declines GTC. It needs each user's NT hash."""
    server_name: str = "warren"
    """In the MSCHAPv2 challenge; clients show it at most."""


@dataclass(frozen=True, slots=True)
class Ppk:
    """A post-quantum pre-shared key (RFC 8784)."""

    id: bytes
    key: bytes = field(repr=False)
    required: bool = True
    """Refuse a peer without this key; False lets both sides continue without it."""


LocalAuth = PskAuth | RawKeyAuth | CertificateAuth | EapGtcAuth | EapMschapv2Auth
RemoteAuth = PskAuth | RawKeyTrust | CertificateTrust | EapTrust
