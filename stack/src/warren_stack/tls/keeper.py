"""Keeps the certificates of this machine's listeners valid while they run: renews those of our CA, takes the steps of a rotation of
the CA when they are due, and follows an operator's files.

A listener is not restarted: after its files were replaced, its `reload` makes it read them for new connections. An operator's file that
cannot be used changes nothing; it is reported once, with the remedy.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from warren_stack.errors import LocalError
from warren_stack.tls.check import MAX_PEM_BYTES, UnusableCertificateError, certificates_of, usable_chain
from warren_stack.tls.folder import ListenerCertificate, TlsFolder
from warren_stack.tls.rotation import CaRotation
from warren_trust.certificates import Issued

INTERVAL = 10.0  # s between two looks; a look reads a few small files
TRUST = "trust"
"""Not a listener: the CAs that clients trust were replaced."""

MAX_TRUSTED = 4  # of TrustDocument.authorities

Reload = Callable[[], Awaitable[None]]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """An operator's files (PEM): certificate with intermediate ones, its key, and the root CA that clients pin.

    `names` are those that it must be for: the ones that clients dial.
    """

    certificate: Path
    key: Path
    authority: Path
    names: tuple[str, ...]


class CertificateKeeper:
    """Keeps the files of `listeners` in a TlsFolder. `prepare` before they start, `run` until cancelled."""

    def __init__(
        self,
        folder: TlsFolder,
        listeners: Sequence[ListenerCertificate],
        clock: Callable[[], datetime],
        report: Report,
        own: OwnCertificate | None = None,
    ) -> None:
        self._folder = folder
        self._listeners = tuple(listeners)
        self._clock = clock
        self._report = report
        self._own = own
        self._rotation = CaRotation(folder)
        self._trusted = b""  # the CAs that clients trust, at the last look
        self._seen = b""  # hash of the operator's files at the last look
        self._complaint = ""

    def prepare(self) -> None:
        """Make what the listeners need to start.

        Raises:
            LocalError: the CA is damaged, or an operator's files are unusable and none were used before.
        """
        if self._own is None:
            self._renew()
        else:
            self._prepare_own(self._own)
        self._trusted = self._folder.trusted.read_bytes()

    def _prepare_own(self, own: OwnCertificate) -> None:
        try:
            self._load_own(own)
        except UnusableCertificateError as error:
            if not all(self._folder.certificate(listener.name).exists() for listener in self._listeners):
                raise LocalError(str(error)) from None
            self._complain(str(error))

    def check(self) -> frozenset[str]:
        """Renew or load what is due; the names of the listeners that must reload, and TRUST where other CAs are trusted."""
        try:
            due = self._renew() if self._own is None else self._load_own(self._own)
            trusted = self._folder.trusted.read_bytes()
            if trusted != self._trusted:
                due |= {TRUST}
            self._trusted = trusted
            return due
        except (UnusableCertificateError, LocalError) as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(
                f"{error.filename or self._folder.path}: {error.strerror}: the certificates cannot be renewed"
            )
        return frozenset()

    async def run(self, reload: Mapping[str, Reload], interval_s: float | None = None) -> None:
        """Check repeatedly; an OSError of `reload` is reported, and retried with the next check."""
        due: set[str] = set()
        while True:
            await asyncio.sleep(INTERVAL if interval_s is None else interval_s)
            due |= await asyncio.to_thread(self.check)
            for name in sorted(due & set(reload)):
                try:
                    await reload[name]()
                except OSError as error:
                    self._report(f"{name} does not reload its certificate: {error}")
                else:
                    due.discard(name)
                    what = (
                        "clients get the CAs that they trust"
                        if name == TRUST
                        else f"{name} is served with a new certificate"
                    )
                    self._report(what)

    def _renew(self) -> frozenset[str]:
        now = self._clock()
        self._rotation.step(now)  # before the CA is read: it may complete a step that was interrupted
        authority = self._folder.authority(now)
        renewed = [listener.name for listener in self._listeners if self._folder.issue_due(listener, authority, now)]
        return frozenset(renewed)

    def _load_own(self, own: OwnCertificate) -> frozenset[str]:
        chain, key, authorities = (_read(path) for path in (own.certificate, own.key, own.authority))
        seen = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (chain, key, authorities))).digest()
        if seen == self._seen:
            return frozenset()
        self._seen = seen  # an unusable file is examined once
        served, root = usable_chain(chain, key, authorities, own.names, self._clock())
        self._folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A root that does not sign yet, or no longer, is trusted as well: so a CA of the operator's can be replaced by overlap.
        others = (it for it in certificates_of(authorities, "the CA file") if it != root)
        self._folder.trust([root, *others][:MAX_TRUSTED])
        for listener in self._listeners:
            self._folder.install(replace(listener, names=own.names), Issued(served, key))
        self._complaint = ""
        return frozenset(listener.name for listener in self._listeners)

    def _complain(self, words: str) -> None:
        """Once for each reason."""
        if words != self._complaint:
            self._complaint = words
            self._report(f"the certificate in use stays: {words}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise UnusableCertificateError(f"{path}: {error.strerror}") from None
