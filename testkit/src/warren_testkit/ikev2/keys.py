"""Keys and certificates for tests, examples and benchmarks: generated on demand and valid for a day."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from warren_ikev2.credentials import PrivateKey

_DAY = datetime.timedelta(days=1)
_CLOCK_SKEW = datetime.timedelta(minutes=5)
"""Certificates start a little in the past, for clocks that differ."""


def make_key(kind: str) -> PrivateKey:
    """A new private key: `ed25519`, `ecdsa-p256`, `ecdsa-p384`, `rsa-2048` or `rsa-3072`."""
    match kind:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ecdsa-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecdsa-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa-2048" | "rsa-3072":
            return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))
    raise ValueError(f"unknown kind of key: {kind}")


def private_pem(key: PrivateKey) -> bytes:
    """PKCS #8, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(Encoding.PEM)


@dataclass(slots=True)
class Authority:
    """A certificate authority. `make` builds a root; `subordinate` one below; `issue` certificates of end entities."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    @classmethod
    def make(cls, name: str = "Warren Test Root", kind: str = "ecdsa-p256") -> "Authority":
        """A self-signed root."""
        key = make_key(kind)
        subject = _name(name)
        return cls(_sign(_builder(subject, subject, key, authority=True), key), key)

    def subordinate(self, name: str, kind: str = "ecdsa-p256") -> "Authority":
        """An intermediate authority."""
        key = make_key(kind)
        builder = _builder(_name(name), self.certificate.subject, key, authority=True)
        return Authority(_sign(builder, self.key), key)

    def issue(
        self, name: str, key: PrivateKey, *, expired: bool = False, ahead: datetime.timedelta = datetime.timedelta()
    ) -> x509.Certificate:
        """A certificate whose subjectAltName holds `name`: an address, `user@host` or a domain name (RFC 4945, 5.1).

        `ahead`: by so much the clock of the authority is wrong.
        """
        builder = _builder(_name(name), self.certificate.subject, key, authority=False, expired=expired, ahead=ahead)
        return _sign(
            builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False), self.key
        )

    def revocation_list(self, revoked: Sequence[x509.Certificate]) -> x509.CertificateRevocationList:
        """A list that is valid for a day."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(now + _DAY)
            # charon looks for a list by the identifier of the authority's key
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, _hash_for(self.key))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Warren"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _general_name(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, *, authority: bool, expired: bool = False,
    ahead: datetime.timedelta = datetime.timedelta(),
) -> x509.CertificateBuilder:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC) + ahead
    usage = x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - (2 * _DAY if expired else _CLOCK_SKEW))
        .not_valid_after(now - _DAY if expired else now + _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    return builder.sign(key, _hash_for(key))


def _hash_for(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
