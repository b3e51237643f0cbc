"""DATA/tls: the CA, and a folder for each listener with what it is served with.

    ca.crt, ca.key      the CA that signs; the key is 0600 and read by the start only
    trusted.pem         the CAs that clients pin: this one, and during a rotation the other one; also in trust/, which services enter
    next.*, former.crt  the other CA during a rotation (`rotation`)
    <listener>/tls.crt  its certificate and CA (0644)
    <listener>/tls.key  its key, 0600 of the user of its process

The folders of listeners belong to the start: a process reads its files there and cannot replace them.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from warren_process.atomic_file import rename_durably, write_atomically
from warren_stack.errors import LocalError
from warren_stack.run_as import ProcessUser
from warren_trust.certificates import (
    Authority,
    Issued,
    certificate_pem,
    fingerprint,
    issue,
    make_authority,
    names_of,
    normal_name,
    read_authority,
    renewal_due,
)


@dataclass(frozen=True, slots=True)
class ListenerCertificate:
    """What is served: `name` is its folder, `names` the addresses and host names in its certificate, `user` who reads its key."""

    name: str  # nats, api, metrics, postgres
    names: tuple[str, ...]
    user: ProcessUser | None = None


@dataclass(frozen=True, slots=True)
class TlsFolder:
    """DATA/tls. Paths are stable: a renewal replaces the files behind them."""

    path: Path

    @property
    def ca_certificate(self) -> Path:
        return self.path / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.path / "ca.key"

    @property
    def trusted(self) -> Path:
        """The CAs that clients pin (PEM, 0644)."""
        return self.path / "trusted.pem"

    @property
    def trust_folder(self) -> Path:
        """A folder with the same CAs, which the users of services may enter."""
        return self.path / "trust"

    @property
    def services_trust(self) -> Path:
        """The CAs that services pin."""
        return self.trust_folder / "ca.pem"

    def folder(self, listener: str) -> Path:
        return self.path / listener

    def certificate(self, listener: str) -> Path:
        """The certificate of a listener, followed by its CA's."""
        return self.path / listener / "tls.crt"

    def key(self, listener: str) -> Path:
        return self.path / listener / "tls.key"

    def authority(self, now: datetime) -> Authority:
        """The CA; made where there is none.

        Raises:
            LocalError: its files are damaged, or only one is there. A new CA would lock every agent out, so none is made.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.ca_key.exists() and not self.ca_certificate.exists():
            made = make_authority(now)
            write_atomically(self.ca_key, made.key_pem)
            write_atomically(self.ca_certificate, made.pem, mode=0o644)
        try:
            found = read_authority(self.ca_certificate.read_bytes(), self.ca_key.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise LocalError(
                f"{self.path}: the CA (ca.crt and ca.key) is unusable ({getattr(error, 'strerror', None) or error}): restore"
                " both from a backup; agents trust no other one"
            ) from None
        if not self.trusted.exists() or not self.services_trust.exists():
            self.trust([found.certificate])
        return found

    def trust(self, certificates: Iterable[x509.Certificate]) -> None:
        """Replace the CAs that clients pin, the one that signs first."""
        text = b"".join(map(certificate_pem, certificates))
        self.trust_folder.mkdir(exist_ok=True)
        self.trust_folder.chmod(0o755)  # whatever the umask is
        for path in (self.trusted, self.services_trust):
            write_atomically(path, text, mode=0o644)

    def issue_due(self, listener: ListenerCertificate, authority: Authority, now: datetime) -> bool:
        """Issue the certificate of a listener where it is missing, due, for other names, or of another CA; whether it was."""
        if not self._is_due(listener, authority, now):
            return False
        self.install(listener, issue(authority, f"warren {listener.name}", listener.names, now))
        return True

    def install(self, listener: ListenerCertificate, issued: Issued) -> None:
        """Replace what a listener is served with: the key first, so that a crash between the two is found at the next start."""
        folder = self.folder(listener.name)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask is: a process of another user reads its files
        key = self.key(listener.name)
        new = key.with_name("tls.key.new")
        write_atomically(new, issued.key_pem)
        if listener.user is not None:
            os.chown(new, listener.user.uid, listener.user.gid)
        rename_durably(new, key)
        write_atomically(self.certificate(listener.name), issued.chain_pem, mode=0o644)

    def served(self, listener: str) -> x509.Certificate:
        """The certificate that a listener is served with; OSError or ValueError where there is none."""
        return x509.load_pem_x509_certificate(self.certificate(listener).read_bytes())

    def _is_due(self, listener: ListenerCertificate, authority: Authority, now: datetime) -> bool:
        try:
            chain = x509.load_pem_x509_certificates(self.certificate(listener.name).read_bytes())
            read_authority(self.certificate(listener.name).read_bytes(), self.key(listener.name).read_bytes())
        except (OSError, ValueError):
            return True
        wanted = frozenset(normal_name(name) for name in listener.names)
        is_of_this_ca = fingerprint(chain[-1]) == fingerprint(authority.certificate)
        return not is_of_this_ca or names_of(chain[0]) != wanted or renewal_due(chain[0], now)
