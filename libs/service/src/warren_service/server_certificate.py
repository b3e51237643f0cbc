"""The certificate of a listener: a file each for chain and key, and where clients need a certificate, the CAs of these. They are
loaded again when they change.

New handshakes get the newest usable pair; connections that exist keep theirs. A pair that cannot be used is reported once, and the
one before it is served on.
"""

import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import structlog

from warren_bus.errors import InvalidSettingError

log = structlog.get_logger(__name__)

CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secrecy and AEAD only; TLS 1.3 has nothing else
MAX_PEM_BYTES = 256 << 10

Version = tuple[tuple[int, int, int], ...]


class UnusableCertificateError(Exception):
    """The certificate or its key cannot be used; the message says why and what to do."""


class ServerCertificate:
    """The TLS of one listener: TLS 1.2 at least.

    `clients` are the CAs (PEM) of which a client must have a certificate; None: a client needs none. `context` is for the listener for
    as long as it runs: a handshake takes what `refresh` found last.

    Raises:
        UnusableCertificateError: the files cannot be used at the start.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        protocols: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clients: Path | None = None,
    ) -> None:
        self._certificate, self._key, self._protocols, self._now = certificate, key, protocols, now
        self._clients = clients
        self._version = self._changed = self._read_version()
        self._newest = self._load()
        self.context = self._load()
        # Called for every ClientHello, with or without a name in it (SSL_CTX_set_tlsext_servername_callback(3)).
        self.context.sni_callback = self._use_newest
        if (ends := self._ends()) <= now():
            log.warning("tls.certificate_expired", file=str(certificate), not_after=ends.isoformat(), action="renew it")

    def refresh(self) -> bool:
        """Load the files if they have changed; whether a new certificate is served. Errors are logged, once for each change.

        Files that changed since the last call are loaded by the next one: two files are not replaced at once.
        """
        version, before = self._read_version(), self._changed
        self._changed = version
        if version == self._version or version != before:
            return False
        self._version = version
        try:
            found = self._load()
            if (ends := self._ends()) <= self._now():
                raise UnusableCertificateError(
                    f"{self._certificate}: the certificate expired at {ends:%Y-%m-%d %H:%M}Z: renew it"
                )
        except UnusableCertificateError as error:
            log.error(
                "tls.certificate_unusable", error=str(error), action="the former one is served; correct the files"
            )
            return False
        self._newest = found
        log.info("tls.certificate_loaded", file=str(self._certificate), not_after=ends.isoformat())
        return True

    def expires(self) -> datetime:
        """When the certificate in the file expires. Raises UnusableCertificateError."""
        return self._ends()

    def _use_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _read_version(self) -> Version:
        """What differs between two versions of the files; an absent file has zeros."""
        found = []
        for path in filter(None, (self._certificate, self._key, self._clients)):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        for path, what in ((self._certificate, "certificate"), (self._key, "key")):
            _check_readable(path, what)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS_TLS12)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._refuse_encrypted)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                reason = f"the key does not belong to {self._certificate}: give both files of one certificate"
            else:
                reason = (
                    f"no certificate and private key in PEM form in {self._certificate} and this file ({error.reason})"
                )
            raise UnusableCertificateError(f"{self._key}: {reason}") from None
        if self._clients is not None:
            _require_clients(context, self._clients)
        return context

    def _refuse_encrypted(self) -> NoReturn:
        raise UnusableCertificateError(
            f"{self._key}: the key is encrypted: decrypt it, and let only the service's user read it"
        )

    def _ends(self) -> datetime:
        from cryptography import x509  # megabytes: a listener without TLS does without

        try:
            return x509.load_pem_x509_certificate(self._certificate.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            raise UnusableCertificateError(f"{self._certificate}: {error}") from None


def _require_clients(context: ssl.SSLContext, authorities: Path) -> None:
    """Refuse clients without a certificate of one of these CAs."""
    _check_readable(authorities, "client CA")
    with suppress(ssl.SSLError, OSError):
        context.load_verify_locations(authorities)
    if not context.cert_store_stats()["x509_ca"]:
        raise UnusableCertificateError(f"{authorities}: no CA certificate in PEM form in it")
    context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(path: Path, what: str) -> None:
    try:
        size = path.stat().st_size if path.is_file() else -1
        readable = os.access(path, os.R_OK)
    except OSError as error:
        raise UnusableCertificateError(f"{path}: the {what} cannot be read ({error.strerror})") from None
    if size < 0:
        raise UnusableCertificateError(f"{path}: there is no {what} file: name an existing one")
    if not readable:
        raise UnusableCertificateError(f"{path}: the {what} cannot be read: let the service's user read it")
    if size > MAX_PEM_BYTES:
        raise UnusableCertificateError(f"{path}: more than {MAX_PEM_BYTES:,} bytes, the limit of a {what} file")


def configured_certificate(
    prefix: str, certificate: Path | None, key: Path | None, protocols: Sequence[str] = (), clients: Path | None = None
) -> ServerCertificate | None:
    """The certificate that the settings `<prefix>_CERT_FILE` and `<prefix>_KEY_FILE` name; None where none is set.

    Raises:
        InvalidSettingError: one of them is missing, or the files cannot be used.
    """
    if certificate is None or key is None:
        if certificate is key:
            if clients is not None:
                reason = "needs HTTPS: name a certificate and its key as well"
                raise InvalidSettingError({f"{prefix}_CLIENT_CA_FILE": reason})
            return None
        missing = "CERT_FILE" if certificate is None else "KEY_FILE"
        raise InvalidSettingError({f"{prefix}_{missing}": "is not set: a certificate needs both files"})
    try:
        return ServerCertificate(certificate, key, protocols, clients=clients)
    except UnusableCertificateError as error:
        raise InvalidSettingError({f"{prefix}_CERT_FILE, {prefix}_KEY_FILE": f"is invalid: {error}"}) from None


def is_loopback(host: str) -> bool:
    """Whether a listener on this address or name is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
