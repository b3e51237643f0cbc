"""Building and verifying AUTH payloads, except with EAP."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from warren_ikev2.auth.certificates import supported_key, validate
from warren_ikev2.auth.octets import SignedOctets
from warren_ikev2.constants import AuthMethod, CertEncoding
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    LocalAuth,
    PskAuth,
    PublicKey,
    RawKeyAuth,
    RawKeyTrust,
    RemoteAuth,
)
from warren_ikev2.crypto.signatures import sign, verify
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.identity import Identity
from warren_ikev2.wire.payloads import AuthPayload, CertPayload, CertReqPayload, Payload


@dataclass(frozen=True, slots=True)
class Proof:
    """A verified AUTH payload of the peer."""

    method: str
    """`psk` or `pubkey`."""
    certificate: x509.Certificate | None = None


def method_name(auth: LocalAuth) -> str:
    """Return the method's name in events."""
    return "psk" if isinstance(auth, PskAuth) else "pubkey"


def build_auth(auth: LocalAuth, octets: SignedOctets, peer_hashes: Collection[int]) -> AuthPayload:
    """Our AUTH payload. AuthenticationError: the peer supports no signature of our key."""
    if isinstance(auth, PskAuth):
        return AuthPayload(AuthMethod.SHARED_KEY, octets.shared_key_mac(auth.secret))
    if isinstance(auth, RawKeyAuth | CertificateAuth):
        return AuthPayload(*sign(auth.private_key, octets.data, peer_hashes))
    raise AuthenticationError("with EAP, AUTH is derived from the method's key")


def check_auth(
    trust: RemoteAuth,
    identity: Identity,
    auth: AuthPayload,
    octets: SignedOctets,
    certificates: Sequence[CertPayload],
    at: datetime,
) -> Proof:
    """Verify that the peer is `identity`. AuthenticationError: the reason."""
    if isinstance(trust, PskAuth):
        if auth.method != AuthMethod.SHARED_KEY:
            raise AuthenticationError(f"a pre-shared key is configured, but the peer uses method {auth.method}")
        if not bytes_eq(octets.shared_key_mac(trust.secret), auth.data):
            raise AuthenticationError("the pre-shared keys differ")
        return Proof("psk")
    if isinstance(trust, RawKeyTrust):
        _check_raw_key(trust, auth, octets, certificates)
        return Proof("pubkey")
    if isinstance(trust, CertificateTrust):
        certificate = validate(trust, identity, certificates, at)
        verify(supported_key(certificate), auth.method, auth.data, octets.data)
        return Proof("pubkey", certificate)
    raise AuthenticationError("EAP is configured, but the peer uses another method")


def build_certificates(auth: LocalAuth) -> list[Payload]:
    """Build the CERT payloads that belong to our AUTH."""
    if isinstance(auth, CertificateAuth):
        return [CertPayload(CertEncoding.X509_SIGNATURE, cert.public_bytes(Encoding.DER)) for cert in auth.chain]
    if isinstance(auth, RawKeyAuth):
        spki = auth.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return [CertPayload(CertEncoding.RAW_PUBLIC_KEY, spki)]
    return []


def build_certificate_requests(trust: RemoteAuth) -> list[Payload]:
    """CERTREQ: SHA-1 hashes of the authorities' public keys (RFC 7296, 3.7); here SHA-1 only names a key."""
    if not isinstance(trust, CertificateTrust):
        return []
    hashes = [x509.SubjectKeyIdentifier.from_public_key(ca.public_key()).digest for ca in trust.authorities]
    return [CertReqPayload(CertEncoding.X509_SIGNATURE, b"".join(hashes))]


def _check_raw_key(
    trust: RawKeyTrust, auth: AuthPayload, octets: SignedOctets, certificates: Sequence[CertPayload]
) -> None:
    """Verify by a configured key; keys in CERT payloads only select which one to try first."""
    sent = [key for key in (_parse_raw_key(cert) for cert in certificates) if key is not None]
    if sent and not any(key in trust.public_keys for key in sent):
        raise AuthenticationError("the peer's raw public key is not among the trusted ones")
    for key in trust.public_keys:
        try:
            verify(key, auth.method, auth.data, octets.data)
        except AuthenticationError:
            continue
        return
    raise AuthenticationError("the signature matches none of the trusted raw public keys")


def _parse_raw_key(payload: CertPayload) -> PublicKey | None:
    if payload.encoding != CertEncoding.RAW_PUBLIC_KEY:
        return None
    try:
        key = load_der_public_key(payload.data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey) else None
