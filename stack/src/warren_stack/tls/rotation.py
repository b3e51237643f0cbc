"""Replace the CA of the control plane by overlap: no listener and no agent is ever without a CA that it trusts.

    phase      trusted          signs    ends
    steady     CA               CA       `begin`
    announced  CA, next         CA       at `switch_at`: hosts that were online have pinned both by then
    switched   next, CA         next     at `withdraw_at`: every listener is served with a certificate of the new CA
    steady     next             next

In `announced`, DATA/tls has `next.crt` and `next.key`; in `switched`, `former.crt`, whose key is removed. rotation.json has the times.
Each step is one call of `step`, which may be repeated after a crash anywhere within it.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from warren_process.atomic_file import rename_durably, sync_folder, write_atomically
from warren_stack.errors import LocalError
from warren_stack.tls.folder import TlsFolder
from warren_trust.certificates import Authority, fingerprint, make_authority, read_authority

FOLLOW = timedelta(minutes=2)  # within which a host that is online pins a new CA: digests come every minute
OVERLAP = timedelta(hours=24)  # default; a host that is offline for all of it needs a new join token
SETTLE = timedelta(
    seconds=30
)  # for listeners to be served with the new certificates, before the former CA is withdrawn


class RotationPhase(StrEnum):
    """Where a rotation is."""

    STEADY = "steady"
    ANNOUNCED = "announced"
    SWITCHED = "switched"


@dataclass(frozen=True, slots=True)
class RotationTimes:
    """When it began, when the new CA signs, and when the former one is withdrawn."""

    began_at: datetime
    switch_at: datetime
    withdraw_at: datetime


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """`trusted`: the CAs that clients pin, the one that signs first."""

    phase: RotationPhase
    trusted: tuple[x509.Certificate, ...]
    times: RotationTimes | None = None


class CaRotation:
    """The rotation of the CA in a TlsFolder. Two processes use it: `warren ca`, and the keeper of the certificates."""

    def __init__(self, folder: TlsFolder) -> None:
        self._folder = folder

    def status(self) -> RotationStatus:
        """Raises LocalError where there is no CA."""
        try:
            trusted = x509.load_pem_x509_certificates(self._folder.trusted.read_bytes())
        except (OSError, ValueError):
            raise LocalError(f"{self._folder.path} has no CA: start `warren up` with this data folder first") from None
        return RotationStatus(self._phase(), tuple(trusted), self._times())

    def begin(self, now: datetime, overlap: timedelta) -> RotationStatus:
        """Make the next CA, and have clients trust both. Raises LocalError where one is in progress, or the CA is not ours."""
        with self._locked():
            if (phase := self._phase()) is not RotationPhase.STEADY:
                raise LocalError(f"a rotation is in progress ({phase.value}): `warren ca rotate --finish` ends it")
            authority = self._own_authority()
            made = make_authority(now)
            times = RotationTimes(now, now + max(overlap, FOLLOW), now + max(overlap, FOLLOW) + SETTLE)
            self._save_times(times)
            write_atomically(self._next_key, made.key_pem)
            self._folder.trust([authority.certificate, made.certificate])
            write_atomically(self._next_certificate, made.pem, mode=0o644)  # from here on it will be used
        return self.status()

    def finish(self, now: datetime) -> RotationStatus:
        """End the overlap now, though not before hosts that are online have followed. Raises LocalError where there is none."""
        with self._locked():
            times = self._times()
            if times is None or self._phase() is RotationPhase.STEADY:
                raise LocalError("no rotation is in progress: `warren ca rotate` begins one")
            switch_at = min(times.switch_at, max(now, times.began_at + FOLLOW))
            self._save_times(RotationTimes(times.began_at, switch_at, min(times.withdraw_at, switch_at + SETTLE)))
        return self.status()

    def step(self, now: datetime) -> bool:
        """Take one step that is due; whether one was taken."""
        phase, times = self._phase(), self._times()
        if phase is RotationPhase.STEADY:
            return False
        steps = {RotationPhase.ANNOUNCED: self._switch, RotationPhase.SWITCHED: self._withdraw}
        with self._locked():
            due = times is None or now >= (times.switch_at if phase is RotationPhase.ANNOUNCED else times.withdraw_at)
            if due:
                steps[phase]()
            return due

    def _switch(self) -> None:
        """The next CA signs from now on; the key of the former one is removed."""
        former = self._former
        if not former.exists():
            write_atomically(former, self._folder.ca_certificate.read_bytes(), mode=0o644)
        if self._next_key.exists():
            rename_durably(self._next_key, self._folder.ca_key)
        rename_durably(self._next_certificate, self._folder.ca_certificate)
        self._folder.trust([_certificate(self._folder.ca_certificate), _certificate(former)])

    def _withdraw(self) -> None:
        """The former CA is trusted no longer."""
        self._folder.trust([_certificate(self._folder.ca_certificate)])
        self._former.unlink()
        self._times_file.unlink(missing_ok=True)
        sync_folder(self._folder.path)

    def _phase(self) -> RotationPhase:
        if self._next_certificate.exists():
            return RotationPhase.ANNOUNCED
        return RotationPhase.SWITCHED if self._former.exists() else RotationPhase.STEADY

    def _own_authority(self) -> Authority:
        """Our CA, if it is the one that clients pin; LocalError else."""
        folder = self._folder
        try:
            authority = read_authority(folder.ca_certificate.read_bytes(), folder.ca_key.read_bytes())
            pinned = x509.load_pem_x509_certificates(folder.trusted.read_bytes())
        except (OSError, ValueError, TypeError):
            raise LocalError(
                f"{folder.path} has no CA of Warren: a CA of your own is replaced by --tls-ca FILE with both roots (docs/tls.md)"
            ) from None
        if fingerprint(authority.certificate) not in map(fingerprint, pinned):
            raise LocalError(
                "the listeners are served with certificates of your own: replace their CA by --tls-ca FILE with both roots, then"
                " the certificate, then drop the former root (docs/tls.md)"
            )
        return authority

    @property
    def _next_certificate(self) -> Path:
        return self._folder.path / "next.crt"

    @property
    def _next_key(self) -> Path:
        return self._folder.path / "next.key"

    @property
    def _former(self) -> Path:
        return self._folder.path / "former.crt"

    @property
    def _times_file(self) -> Path:
        return self._folder.path / "rotation.json"

    def _times(self) -> RotationTimes | None:
        try:
            found = json.loads(self._times_file.read_text())
            return RotationTimes(*(datetime.fromisoformat(found[name]) for name in RotationTimes.__slots__))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _save_times(self, times: RotationTimes) -> None:
        text = json.dumps({name: getattr(times, name).astimezone(UTC).isoformat() for name in RotationTimes.__slots__})
        write_atomically(self._times_file, text.encode(), mode=0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder.path / "rotation.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())
