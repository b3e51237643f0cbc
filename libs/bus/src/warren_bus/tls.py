"""TLS of a client: the only place that builds its context, and the words for a handshake that fails.

Only the CAs of the deployment are trusted, never the system's: any public CA could vouch for a bus server, and loading them costs
memory. The server's name is compared with the one in the configured URL.
"""

import asyncio
import hashlib
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from nats.errors import Error as NatsError

from warren_bus.errors import InvalidSettingError

CA_FILE = "WARREN_CA_FILE"
MAX_CA_FILE = 64 << 10  # bytes; a CA has about 700
MIN_VERSION = ssl.TLSVersion.TLSv1_3
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class TlsError(NatsError):
    """No connection by TLS: its text says which step failed, and what to do."""


class ClientTls:
    """The context for a file of CA certificates, made again when the file was replaced: a rotation is followed without a restart."""

    def __init__(self, ca_file: Path) -> None:
        self._ca_file = ca_file
        self._stamp: tuple[int, int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises InvalidSettingError; a file that becomes unusable later keeps the context in use."""
        try:
            status = self._ca_file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp or self._context is None:
                with self._ca_file.open() as file:
                    self._context = client_context(file.read(MAX_CA_FILE))
                self._stamp = stamp
        except (OSError, UnicodeDecodeError, InvalidSettingError) as error:
            if self._context is None:
                reason = getattr(error, "strerror", None) or "it contains no CA certificate in PEM form"
                raise InvalidSettingError({CA_FILE: f"is invalid: {self._ca_file}: {reason}"}) from None
        return self._context


class _Context(ssl.SSLContext):
    """Names of servers are ASCII: Python would load the tables of internationalized names (RFC 3490) for each of them: 0.4 MB."""

    def _encode_hostname(self, hostname: str | None) -> str | None:
        return hostname


def client_context(authorities: str) -> ssl.SSLContext:
    """A context that trusts only the CA certificates (PEM) in `authorities`; raises InvalidSettingError where there is none."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # verifies the certificate and the name
    context.minimum_version = MIN_VERSION
    with suppress(ssl.SSLError, ValueError):
        context.load_verify_locations(cadata=authorities)
    if not context.cert_store_stats()["x509_ca"]:
        raise InvalidSettingError({CA_FILE: "must contain a CA certificate as PEM (-----BEGIN CERTIFICATE-----)"})
    return context


def read_authorities(ca_file: Path) -> tuple[str, ...]:
    """The CA certificates (PEM) of a file, in its order: the first is the one that signs now. Raises InvalidSettingError."""
    try:
        with ca_file.open() as file:
            found = split_pem(file.read(MAX_CA_FILE))
        if not found:
            raise ValueError
        for certificate in found:
            fingerprint_of(certificate)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it contains no CA certificate in PEM form"
        raise InvalidSettingError({CA_FILE: f"is invalid: {ca_file}: {reason}"}) from None
    return found


def split_pem(text: str) -> tuple[str, ...]:
    """The certificates in a text, each in PEM form; what stands around them is left out."""
    blocks = (block.partition(_END)[0] for block in text.split(_BEGIN)[1:] if _END in block)
    return tuple(f"{_BEGIN}{block}{_END}\n" for block in blocks)


def fingerprint_of(certificate: str) -> bytes:
    """The SHA-256 of a certificate in PEM form, over its DER form; ValueError for other text."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()


def is_tls_error(error: BaseException) -> bool:
    """Whether it is about TLS, so that no other attempt helps before somebody acts."""
    return isinstance(error, TlsError | ssl.SSLError)


def explain(error: BaseException, host: str) -> str:
    """Why the TLS handshake with `host` failed, and the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification(error, host)
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return f"{host} offers no TLS, and its URL begins with tls://: start the server with TLS, or see who answers there"
        return f"the TLS handshake with {host} fails ({error.reason or error}): both sides need TLS 1.3"
    return f"{host} ends the TLS handshake ({error or type(error).__name__}): see the server's log"


def _verification(error: ssl.SSLCertVerificationError, host: str) -> str:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z"
    match error.verify_code:
        case 9:  # X509_V_ERR_CERT_NOT_YET_VALID
            return f"the certificate of {host} is not valid yet; this host's clock says {now}: correct it"
        case 10:  # X509_V_ERR_CERT_HAS_EXPIRED
            return (
                f"the certificate of {host} has expired, or this host's clock is wrong (it says {now}): correct it, or renew"
                " the certificate"
            )
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return (
                f"the certificate that {host} shows is not for {host}: use a name that it is for, or start the server with"
                f" --advertise {host}"
            )
        case _:
            return (
                f"the certificate of {host} is not of the CA that this host trusts ({error.verify_message}): see who answers"
                " there; a host that missed a change of the CA needs a new join token"
            )


async def presented_chain(host: str, port: int, timeout_s: float) -> tuple[bytes, ...]:
    """The certificates (DER) that a server shows, unverified: to find a pinned one. Nothing is sent but the handshake.

    Raises:
        OSError: no TCP connection, or no TLS there (ssl.SSLError is one).
        TimeoutError: no answer in time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = MIN_VERSION
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        inner = getattr(writer.get_extra_info("ssl_object"), "_sslobj", None)
        # A method of the public object from Python 3.13 on. Before the handshake's end it has no certificates.
        found = inner.get_unverified_chain() if inner is not None else None
        return tuple(bytes(ssl.PEM_cert_to_DER_cert(certificate.public_bytes())) for certificate in found or ())
    finally:
        writer.transport.abort()
