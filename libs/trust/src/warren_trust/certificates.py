"""Make a CA and the certificates that it signs: ECDSA P-256, X.509 (RFC 5280). No file and no clock.

The CA's subject carries a random number, so that the two CAs of a rotation have different names. Certificates of listeners name the
addresses and host names by which clients reach them (subjectAltName, RFC 6125 6.4.4: the common name is not compared).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=90)
RENEWAL_PART = 2 / 3  # of a lifetime: a month is left to notice that the renewal fails
BACKDATED = timedelta(days=1)  # hosts whose clock is slow accept a new certificate
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate and, on the machine that signs, its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        return certificate_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return private_key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a listener is served with. `chain_pem`: its certificate, then its CA's, by which a joining host finds the pinned one."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


def make_authority(now: datetime, lifetime: timedelta = CA_LIFETIME) -> Authority:
    """A new CA, which signs certificates of servers only directly (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Warren CA {x509.random_serial_number():032x}"[:48])])
    builder = _builder(name, name, key.public_key(), now, lifetime)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )
    return Authority(certificate, key)


def issue(
    authority: Authority,
    common_name: str,
    names: Iterable[str],
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
    *,
    for_clients: bool = False,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Issued:
    """A certificate of a server for these addresses and host names; ValueError for no name at all.

    It ends before its CA does. `for_clients`: a server may show it to another one that it connects to, as routes of a cluster do.
    `key`: the server's, for a renewal; None: a new one.
    """
    alternatives = [general_name(name) for name in dict.fromkeys(names)]
    if not alternatives:
        raise ValueError("a certificate must name at least one address or host")
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if for_clients else [])]
    certificate, own = issue_leaf(authority, common_name, alternatives, usages, now, lifetime, key)
    return Issued(certificate_pem(certificate) + authority.pem, private_key_pem(own))


def issue_leaf(
    authority: Authority,
    common_name: str,
    alternatives: Iterable[x509.GeneralName],
    usages: Iterable[x509.ObjectIdentifier],
    now: datetime,
    lifetime: timedelta,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate of an end entity for its key (None: a new one), and the key. It ends before its CA does."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    lifetime = min(lifetime, authority.certificate.not_valid_after_utc - now)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_key_id_of(authority), critical=False)
        .sign(authority.key, SHA256())
    )
    return certificate, key


def _key_id_of(authority: Authority) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # of a CA that is not ours
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def read_authority(certificate: bytes, key: bytes) -> Authority:
    """A CA of its two PEM texts; ValueError where one is unusable or they do not belong together."""
    loaded, parsed = load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != parsed.public_key():
        raise ValueError("the key does not belong to the certificate")
    return Authority(parsed, loaded)


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the DER form, 32 bytes, as `openssl x509 -fingerprint -sha256` shows it."""
    return certificate.fingerprint(SHA256())


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The addresses and host names that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return frozenset((*addresses, *(name.lower() for name in found.get_values_for_type(x509.DNSName))))


def normal_name(name: str) -> str:
    """An address or host name as `names_of` has it."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower()


def general_name(name: str) -> x509.GeneralName:
    """The subjectAltName of an address or host name; ValueError for a name that is no ASCII (RFC 5280 4.2.1.6)."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name.lower())


def renewal_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of the lifetime are over."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * RENEWAL_PART


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(Encoding.PEM)


def private_key_pem(key: PrivateKeyTypes) -> bytes:
    """PKCS #8 in PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
