"""How the API server's certificate is verified, and what to do where it is not.

The CA is that of `--ca-file`; else the one that `warren up` stores next to its token; else those of this system. A pinned CA is the only
one that is trusted. The names of the certificate are verified in any case.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from warren_cli.errors import CliError
from warren_cli.files import read_small_text
from warren_cli.folders import CA_NAME

CA_OPTION = "--ca-file (WARREN_CA_FILE)"
CLEARTEXT_OPTION = "--cleartext (WARREN_CLEARTEXT)"
MAX_CA_FILE = 256 << 10  # bytes

# X509_V_ERR_... of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = frozenset({2, 7, 18, 19, 20, 21, 24})
_OTHER_NAME = frozenset({62, 64})


class CertificateError(CliError):
    """The API server's certificate is not trusted."""


@dataclass(frozen=True)
class ServerTrust:
    """`ca_file` is pinned, None: the CAs of this system. `cleartext`: a token may be sent by HTTP to another machine."""

    ca_file: Path | None = None
    cleartext: bool = False

    def next_to(self, token_file: Path | None) -> "ServerTrust":
        """With the CA that lies next to a token, where no other one was named."""
        if self.ca_file is not None or token_file is None:
            return self
        found = token_file.parent / CA_NAME
        return ServerTrust(found, self.cleartext) if found.is_file() else self

    def check(self, url: str, token: str) -> None:
        """Raises CliError where the token would be read by others."""
        if token and urlsplit(url).scheme == "http" and not self.cleartext and not is_this_machine(url):
            raise CliError(
                f"--url (WARREN_URL): {url} would send the token in clear text: write https://, "
                f"or add {CLEARTEXT_OPTION} where the network is trusted"
            )

    def version(self) -> object:
        """What differs between two contents of the CA file."""
        if self.ca_file is None:
            return None
        try:
            status = self.ca_file.stat()
        except OSError:
            return 0
        return status.st_ino, status.st_mtime_ns, status.st_size

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 at least. Raises CliError for a CA file that cannot be used."""
        if self.ca_file is None:
            context = ssl.create_default_context()
        else:
            text = read_small_text(self.ca_file, "the CA", MAX_CA_FILE)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies names and certificates, and has no CA yet
            try:
                context.load_verify_locations(cadata=text)
            except (ssl.SSLError, ValueError):
                raise CliError(f"{CA_OPTION}: {self.ca_file}: no certificate in PEM form in it") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def problem(self, url: str, error: BaseException) -> CliError | None:
        """What a failed connection says of certificates or of the wrong scheme; None for other failures."""
        host = urlsplit(url).hostname or ""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return CertificateError(f"{url}: {self._unverified(host, cause)}")
            if isinstance(cause, ssl.SSLError):
                return CliError(f"{url}: {_no_handshake(cause)}")
        if urlsplit(url).scheme == "http" and _is_no_http(error):
            return CliError(
                f"{url}: no HTTP answer: if the server has a certificate, as `warren up` has, write https://"
            )
        return None

    def _unverified(self, host: str, error: ssl.SSLCertVerificationError) -> str:
        code = error.verify_code
        if code in _OTHER_NAME:
            return (
                f"the certificate is not for {host}: use a name or address that it has, or start the server "
                f"with it (`warren up --advertise {host}`)"
            )
        if code == _EXPIRED:
            return "the certificate has expired: renew it on the server, and compare this machine's clock"
        if code == _NOT_YET_VALID:
            return "the certificate is not valid yet: compare this machine's clock with the server's"
        if code in _UNKNOWN_ISSUER and self.ca_file is not None:
            return (
                f"the certificate is not signed by the CA in {self.ca_file}: copy {CA_NAME} of the server's data folder, "
                f"and name it with {CA_OPTION}"
            )
        if code in _UNKNOWN_ISSUER:
            return (
                f"no CA of this system has signed the certificate: name its CA with {CA_OPTION}; "
                f"that of `warren up` is {CA_NAME} in its data folder"
            )
        return f"the certificate is not trusted: {error.verify_message}"


def is_this_machine(url: str) -> bool:
    """Whether a URL names a loopback address."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_handshake(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return "the server does not speak TLS: if it serves HTTP, write http://"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the server closed the connection in the TLS handshake: is it an API server, and does it accept TLS 1.2 or 1.3?"
    return f"the TLS handshake failed ({error.reason or error}): the server must accept TLS 1.2 or 1.3"


def _is_no_http(error: BaseException) -> bool:
    """Whether something answered, and not in HTTP."""
    return isinstance(error, HTTPException | ConnectionResetError | BrokenPipeError)
