"""The engine's credentials of a profile. Keys are read when the client connects, and checked before they are used."""

import base64
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from warren_cli.errors import CliError
from warren_cli.files import read_small
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    EapGtcAuth,
    LocalAuth,
    PrivateKey,
    RawKeyAuth,
    RawKeyTrust,
    RemoteAuth,
)
from warren_ikev2.errors import ConfigurationError
from warren_vpn.profiles.profile import CertificateLogin, ClientProfile, KeyLogin, KeyTrust, PasswordLogin


class CredentialError(CliError):
    """The key of the profile cannot be used."""


def remote_auth(profile: ClientProfile) -> RemoteAuth:
    """What the server must prove."""
    trust = profile.server_trust
    if isinstance(trust, KeyTrust):
        return RawKeyTrust((ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(trust.public_key)),))
    return CertificateTrust(tuple(x509.load_pem_x509_certificates(trust.authorities.encode())))


def local_auth(profile: ClientProfile, folder: Path, password: str | None = None) -> LocalAuth:
    """How the client proves itself. `folder`: the profile's, where a relative `key_file` is.

    CredentialError: no password is given, or the key file is missing, readable by others, or no key.
    """
    login = profile.login
    if isinstance(login, PasswordLogin):
        if not password:
            raise CredentialError(f"login: a password of user {login.user!r} is needed; give it on standard input")
        return EapGtcAuth(login.user, password)
    key = _private_key(login, folder)
    if isinstance(login, KeyLogin):
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise CredentialError("login.key_file: must be an Ed25519 key (openssl genpkey -algorithm ed25519)")
        return RawKeyAuth(key)
    try:
        return CertificateAuth(tuple(x509.load_pem_x509_certificates(login.certificate.encode())), key)
    except ConfigurationError as error:
        raise CredentialError(f"login.certificate: {error}") from None


def _private_key(login: KeyLogin | CertificateLogin, folder: Path) -> PrivateKey:
    if login.private_key is not None:
        return parse_private_key(login.private_key.get_secret_value().encode(), "login.private_key")
    return read_private_key(folder / str(login.key_file), "login.key_file")


def read_private_key(path: Path, setting: str) -> PrivateKey:
    """Read a private key that nobody else can read. CredentialError names `setting`; CliError: the file cannot be read."""
    content = read_small(path, "a private key")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise CredentialError(f"{setting}: {path} can be read by others; chmod 600 {path}")
    return parse_private_key(content, f"{setting}: {path}")


def parse_private_key(content: bytes, what: str) -> PrivateKey:
    """Parse an Ed25519, ECDSA or RSA key in PEM, without a passphrase. CredentialError names `what`, never the content."""
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError):
        raise CredentialError(f"{what}: no private key in PEM without a passphrase") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CredentialError(f"{what}: must be an Ed25519, ECDSA or RSA key")
    return key
