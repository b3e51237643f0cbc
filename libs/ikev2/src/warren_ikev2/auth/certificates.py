"""Validation of a certificate path for an IKE identity (RFC 4945, 3; RFC 5280, 6), on x509 primitives.

Validators for the web support neither distinguished names nor mail addresses as identities. This one checks every link: signature,
validity, authority and path length, name constraints, key usage, revocation by the given lists. It refuses critical extensions that
it does not process (RFC 5280, 6.1).
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from warren_ikev2.auth.name_constraints import check_name_constraints
from warren_ikev2.constants import CertEncoding, IdType
from warren_ikev2.credentials import CertificateTrust, PublicKey
from warren_ikev2.crypto.signatures import MIN_RSA_BITS
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.identity import Identity
from warren_ikev2.wire.payloads import CertPayload

MAX_CHAIN = 8  # certificates from end entity to authority; charon stops at 7
MAX_CERTIFICATES = 16  # CERT payloads that are read
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,  # any policy is accepted, so there is nothing to check (RFC 5280, 6.1.1)
    }
)
_IKE_PURPOSES = frozenset({ExtendedKeyUsageOID.IPSEC_IKE, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_WEAK_HASHES = (hashes.SHA1, hashes.MD5)
_INVALID = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType)


def validate(
    trust: CertificateTrust, identity: Identity, payloads: Sequence[CertPayload], at: datetime
) -> x509.Certificate:
    """The end entity's certificate, the first in the payloads. AuthenticationError: the reason."""
    sent = _parse_certificates(payloads)
    if not sent:
        raise AuthenticationError("the peer sent no certificate")
    try:
        _check_end_entity(sent[0])
        if not holds_identity(sent[0], identity):
            raise AuthenticationError(f"the peer's certificate does not hold the identity {identity}")
        _check_path(trust, sent[0], (*sent[1:], *trust.intermediates), at)
    except _INVALID as error:
        raise AuthenticationError("a certificate of the peer is malformed") from error
    return sent[0]


def supported_key(certificate: x509.Certificate) -> PublicKey:
    """The certificate's key. AuthenticationError: of a kind that IKE_AUTH cannot use."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthenticationError("the certificate's key type is unknown") from error
    if isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise AuthenticationError("the certificate's key type is not supported")


def holds_identity(certificate: x509.Certificate, identity: Identity) -> bool:
    """RFC 4945, 3.1: addresses and names in subjectAltName, distinguished names in the subject."""
    if identity.type == IdType.DER_ASN1_DN:
        return Identity.from_subject(certificate).matches(identity)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    match identity.type:
        case IdType.FQDN:
            found = [Identity(IdType.FQDN, name.encode()) for name in names.get_values_for_type(x509.DNSName)]
        case IdType.RFC822_ADDR:
            found = [Identity(IdType.RFC822_ADDR, n.encode()) for n in names.get_values_for_type(x509.RFC822Name)]
        case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
            addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
            found = [Identity.parse(address) for address in addresses if "/" not in address]
        case _:
            found = []
    return any(identity.matches(candidate) for candidate in found)


def _parse_certificates(payloads: Sequence[CertPayload]) -> tuple[x509.Certificate, ...]:
    blobs = [payload.data for payload in payloads if payload.encoding == CertEncoding.X509_SIGNATURE]
    try:
        return tuple(x509.load_der_x509_certificate(blob) for blob in blobs[:MAX_CERTIFICATES])
    except _INVALID as error:
        raise AuthenticationError("a certificate of the peer is malformed") from error


def _check_path(
    trust: CertificateTrust, entity: x509.Certificate, intermediates: Sequence[x509.Certificate], at: datetime
) -> None:
    """Walk up by name and signature until a trusted authority signs; depth is the number of CAs below the issuer."""
    current = entity
    below = [entity]
    for depth in range(MAX_CHAIN):
        _check_common(current, at)
        authority = _issuer_among(trust.authorities, current)
        if authority is not None:
            _check_common(authority, at)
            _check_authority(authority, depth)
            check_name_constraints(authority, below)
            _check_revocation(trust, current, authority, at)
            return
        issuer = _issuer_among(intermediates, current)
        if issuer is None:
            raise AuthenticationError(
                f"no trusted authority issued the certificate of {Identity.from_subject(current)}"
            )
        _check_authority(issuer, depth)
        check_name_constraints(issuer, below)
        _check_revocation(trust, current, issuer, at)
        current = issuer
        below.append(issuer)
    raise AuthenticationError("the peer's certificate chain is too long")


def _issuer_among(candidates: Sequence[x509.Certificate], certificate: x509.Certificate) -> x509.Certificate | None:
    for candidate in candidates:
        if candidate.subject != certificate.issuer:
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
        except _INVALID:
            continue
        return candidate
    return None


def _check_common(certificate: x509.Certificate, at: datetime) -> None:
    name = Identity.from_subject(certificate)
    if at < certificate.not_valid_before_utc:
        raise AuthenticationError(f"the certificate of {name} is not valid before {certificate.not_valid_before_utc}")
    if at > certificate.not_valid_after_utc:
        raise AuthenticationError(f"the certificate of {name} expired at {certificate.not_valid_after_utc}")
    if isinstance(certificate.signature_hash_algorithm, _WEAK_HASHES):
        raise AuthenticationError(f"the certificate of {name} is signed with a weak hash")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise AuthenticationError(
                f"the certificate of {name} has the critical extension {extension.oid.dotted_string}"
            )
    _check_purpose(certificate)
    key = supported_key(certificate)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise AuthenticationError(f"the certificate of {name} has an RSA key of only {key.key_size} bits")


def _check_purpose(certificate: x509.Certificate) -> None:
    """RFC 4945, 5.1.3.12: extended key usage is ignored, as an implementation may, unless it is critical."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return
    if usage.critical and not _IKE_PURPOSES & set(usage.value):
        raise AuthenticationError(
            f"the certificate of {Identity.from_subject(certificate)} is not for IKE (critical EKU)"
        )


def _check_end_entity(certificate: x509.Certificate) -> None:
    """RFC 4945, 5.1.3.2: digitalSignature or nonRepudiation, if key usage is present."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not (usage.digital_signature or usage.content_commitment):
        raise AuthenticationError("the peer's certificate may not sign (key usage)")


def _check_authority(certificate: x509.Certificate, below: int) -> None:
    name = Identity.from_subject(certificate)
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise AuthenticationError(f"{name} is not a certificate authority") from None
    if not basic.ca or (basic.path_length is not None and basic.path_length < below):
        raise AuthenticationError(f"{name} is not a certificate authority for this chain")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise AuthenticationError(f"{name} may not sign certificates (key usage)")


def _check_revocation(
    trust: CertificateTrust, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime
) -> None:
    """RFC 5280, 6.3, with complete lists that the issuer itself signs.

    A certificate on a list is revoked, even if the list is old. That a certificate is not revoked is shown only by a list that is
    in force, complete, and signed by a key with cRLSign.
    """
    key = supported_key(issuer)
    name = Identity.from_subject(certificate)
    current = False
    for crl in trust.revocation_lists:
        if crl.issuer != issuer.subject or not crl.is_signature_valid(key):
            continue
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise AuthenticationError(f"the certificate of {name} is revoked")
        current = current or (_is_in_force(crl, at) and _may_sign_lists(issuer))
    if trust.require_revocation_list and not current:
        raise AuthenticationError(f"no current revocation list covers the certificate of {name}")


def _is_in_force(crl: x509.CertificateRevocationList, at: datetime) -> bool:
    """Whether the list is valid now and complete: a critical extension marks a delta or a partial list (RFC 5280, 5.2)."""
    if crl.next_update_utc is None or any(extension.critical for extension in crl.extensions):
        return False
    return crl.last_update_utc <= at <= crl.next_update_utc


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    """RFC 5280, 6.3.3 (f)."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True
