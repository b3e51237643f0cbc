"""Whether a certificate can be used: a TLS handshake in memory, in which our own client verifies it for each name.

So an operator's files are accepted exactly where agents and operators would accept them. Every refusal says what to do.
"""

import re
import ssl
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from warren_bus.tls import client_context
from warren_stack.errors import LocalError
from warren_trust.certificates import certificate_pem, names_of

MAX_PEM_BYTES = 256 << 10
MAX_CERTIFICATES = 10
STEPS = 10  # of a handshake in memory; TLS 1.3 needs three


class UnusableCertificateError(ValueError):
    """The certificate, its key or its CA cannot be used."""


def usable_chain(
    chain: bytes, key: bytes, authorities: bytes, names: Sequence[str], now: datetime
) -> tuple[bytes, x509.Certificate]:
    """The PEM text to serve (the certificate and intermediate ones, then the CA that verifies them), and that CA.

    `names` are the addresses and host names that clients dial: the certificate must be for each of them.

    Raises:
        UnusableCertificateError: why not.
    """
    certificates, roots = certificates_of(chain, "the certificate file"), certificates_of(authorities, "the CA file")
    leaf = certificates[0]
    _check_key(leaf, key)
    if now >= leaf.not_valid_after_utc:
        raise UnusableCertificateError(
            f"the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}Z: renew it"
        )
    if now < leaf.not_valid_before_utc:
        raise UnusableCertificateError(
            f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M}Z: check this machine's clock"
        )
    served = b"".join(map(certificate_pem, certificates))
    root = _verifying_root(served, key, roots, names)
    return (served if root in certificates else served + certificate_pem(root)), root


def check_authorities(path: Path) -> None:
    """Raise LocalError unless a file contains CA certificates."""
    try:
        certificates_of(path.read_bytes(), str(path))
    except (OSError, UnusableCertificateError) as error:
        raise LocalError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def certificates_of(text: bytes, what: str) -> list[x509.Certificate]:
    """The certificates of a PEM text; UnusableCertificateError names it as `what`."""
    if len(text) > MAX_PEM_BYTES:
        raise UnusableCertificateError(f"{what} is larger than {MAX_PEM_BYTES} bytes")
    try:
        found = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise UnusableCertificateError(
            f"{what} contains no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        ) from None
    if len(found) > MAX_CERTIFICATES:
        raise UnusableCertificateError(f"{what} contains {len(found)} certificates, limit {MAX_CERTIFICATES}")
    return found


def _check_key(leaf: x509.Certificate, key: bytes) -> None:
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise UnusableCertificateError("the key file is encrypted: store the key unencrypted, 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableCertificateError("the key file contains no private key in PEM form") from None
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*spki) != leaf.public_key().public_bytes(*spki):
        raise UnusableCertificateError("the key does not belong to the certificate: bring the two that belong together")


def _verifying_root(
    served: bytes, key: bytes, roots: Sequence[x509.Certificate], names: Sequence[str]
) -> x509.Certificate:
    error = ""
    for root in roots:
        error = handshake_error(served, key, certificate_pem(root), names)
        if not error:
            return root
    raise UnusableCertificateError(error)


def handshake_error(served: bytes, key: bytes, authority: bytes, names: Sequence[str]) -> str:
    """Why a client that trusts `authority` refuses the certificate for one of `names`; empty: it accepts it for all."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # 0700; OpenSSL loads from files only
        files = Path(folder, "chain"), Path(folder, "key")
        files[0].write_bytes(served)
        files[1].touch(0o600)
        files[1].write_bytes(key)
        try:
            server.load_cert_chain(*files)
        except ssl.SSLError as error:
            return f"OpenSSL cannot load the certificate and its key ({error.reason})"
    for name in names:
        try:
            _shake_hands(server, client_context(authority.decode("ascii")), name)
        except ssl.SSLCertVerificationError as error:
            return _explained(error, served, name)
        except ssl.SSLError as error:
            return f"the TLS handshake fails ({error.reason})"
    return ""


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Raises SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(STEPS):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
        if not ends:
            return
    raise ssl.SSLError("the handshake does not end")


_NAME_ERRORS = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _explained(error: ssl.SSLCertVerificationError, served: bytes, name: str) -> str:
    if error.verify_code in _NAME_ERRORS:
        known = ", ".join(sorted(names_of(x509.load_pem_x509_certificate(served)))) or "none"
        return f"the certificate is not for {name} (it names: {known}): issue one for every name and address that clients use"
    reason = re.sub(r"\s+", " ", error.verify_message)
    return (
        f"the CA file does not verify the certificate ({reason}): give the root CA of its issuer, and the intermediate"
        " certificates after the certificate in its file"
    )
