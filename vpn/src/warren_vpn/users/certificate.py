"""Certificates for users, for the clients of Apple and Windows: ECDSA P-256, which all of them take. Pure but for its new key."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from warren_trust.certificates import Authority, certificate_pem, issue_leaf, private_key_pem
from warren_vpn.users.errors import UserError

LIFETIME = timedelta(days=825)  # the longest that Apple's clients accept


@dataclass(frozen=True, slots=True)
class UserCertificate:
    """A certificate, its key, and the CA that signed it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    authority: x509.Certificate

    @property
    def chain_pem(self) -> str:
        """The certificate; servers have the CA."""
        return certificate_pem(self.certificate).decode()

    @property
    def key_pem(self) -> str:
        """PKCS #8, unencrypted."""
        return private_key_pem(self.key).decode()


def identities_of(user: str) -> tuple[str, str]:
    """The IKE identities of the user's certificate: its subjectAltName, and its subject."""
    return user, f"CN={user}"


def issue_certificate(
    user: str, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, now: datetime
) -> UserCertificate:
    """Issue a certificate that proves both identities of a user, and nothing as a server (EKU clientAuth only)."""
    name: x509.GeneralName = x509.RFC822Name(user) if "@" in user else x509.DNSName(user)
    signer = Authority(authority, authority_key)
    certificate, key = issue_leaf(signer, user, [name], [ExtendedKeyUsageOID.CLIENT_AUTH], now, LIFETIME)
    return UserCertificate(certificate, key, authority)


def read_certificate(certificate: bytes, key: bytes, authority: x509.Certificate) -> UserCertificate:
    """Parse what `issue_certificate` made, from PEM. UserError: they do not belong together, or are of another kind."""
    from warren_vpn.profiles.credentials import parse_private_key

    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise UserError("--certificate: no certificate in PEM") from None
    private = parse_private_key(key, "--key")
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != parsed.public_key():
        raise UserError("--key: must be the ECDSA key of --certificate")
    return UserCertificate(parsed, private, authority)


def build_pkcs12(own: UserCertificate, name: str, passphrase: str) -> bytes:
    """Build a PKCS #12 of certificate and key. Apple's clients read only 3DES with SHA-1 (RFC 7292's first algorithms).

    That is weak against anybody who has the file and guesses: it is as secret as the key.
    """
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(50_000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(SHA1())  # noqa: S303 - see above
        .build(passphrase.encode())
    )
    return pkcs12.serialize_key_and_certificates(name.encode(), own.key, own.certificate, None, encryption)
