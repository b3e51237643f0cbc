"""What `warren ca` shows of the CA and its rotation, and how it waits for the end of one."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from pydantic import BaseModel, ConfigDict

from warren_cli.errors import CliError
from warren_cli.remote.render import moment, print_fields, print_json, print_table
from warren_stack.folders import DataFolder
from warren_stack.lock import is_held
from warren_stack.tls.folder import TlsFolder
from warren_stack.tls.rotation import FOLLOW, CaRotation, RotationPhase, RotationStatus
from warren_trust.certificates import fingerprint

LISTENERS = ("nats", "api", "metrics", "postgres")
LONGEST = timedelta(days=90)
POLL_S = 0.5

_WORDS = {
    RotationPhase.STEADY: "none in progress",
    RotationPhase.ANNOUNCED: "both CAs are trusted, the former one signs",
    RotationPhase.SWITCHED: "both CAs are trusted, the new one signs",
}


class CaState(BaseModel):
    """One CA: `use` is `signs`, `next` or `former`."""

    model_config = ConfigDict(frozen=True)

    use: str
    sha256: str
    not_after: datetime


class ListenerState(BaseModel):
    """The certificate of a listener, and the SHA-256 of the CA that signed it."""

    model_config = ConfigDict(frozen=True)

    listener: str
    ca_sha256: str
    not_after: datetime


class CaShown(BaseModel):
    """The CAs of a control plane. The times are those of a rotation in progress: `switch_at` the new CA signs, `withdraw_at` the
    former one is trusted no longer."""

    model_config = ConfigDict(frozen=True)

    phase: RotationPhase
    authorities: tuple[CaState, ...]
    listeners: tuple[ListenerState, ...]
    began_at: datetime | None = None
    switch_at: datetime | None = None
    withdraw_at: datetime | None = None
    kept: bool = True  # whether `warren up` runs with this folder, or a container has it: else no step is taken


def state_of(data: Path) -> CaShown:
    """The state of a data folder. Raises LocalError where there is no CA."""
    folder = TlsFolder(DataFolder(data).tls)
    status = CaRotation(folder).status()
    times = status.times if status.phase is not RotationPhase.STEADY else None
    return CaShown(
        phase=status.phase,
        authorities=_authorities(status),
        listeners=tuple(found for name in LISTENERS if (found := _listener(folder, name)) is not None),
        began_at=times.began_at if times else None,
        switch_at=times.switch_at if times else None,
        withdraw_at=times.withdraw_at if times else None,
        kept=is_held(DataFolder(data)) or not DataFolder(data).lock.exists(),
    )


def begin(data: Path, overlap_s: int) -> None:
    """Begin a rotation. Raises LocalError, and CliError for an overlap that is too short or too long."""
    overlap = timedelta(seconds=overlap_s)
    if not FOLLOW <= overlap <= LONGEST:
        raise CliError(f"--overlap: must be 2m to 90d: hosts follow within {int(FOLLOW.total_seconds())} s")
    CaRotation(TlsFolder(DataFolder(data).tls)).begin(datetime.now(UTC), overlap)


def end(data: Path) -> None:
    """End the overlap of the rotation in progress. Raises LocalError where there is none."""
    CaRotation(TlsFolder(DataFolder(data).tls)).finish(datetime.now(UTC))


def wait_until_steady(data: Path, report: Callable[[str], None]) -> None:
    """Until the rotation is complete; each step is reported. Raises CliError where nobody takes the steps."""
    reported: RotationPhase | None = None
    while True:
        state = state_of(data)
        if state.phase is not reported:
            report(_next_step(state))
            reported = state.phase
        if state.phase is RotationPhase.STEADY:
            return
        if not state.kept:
            raise CliError("`warren up` does not run with this data folder: it takes the steps once it does")
        threading.Event().wait(POLL_S)  # another process takes the steps


def print_state(state: CaShown, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    print_table(
        ("CA", "USE", "UNTIL"), ((it.sha256, it.use, moment(it.not_after)) for it in state.authorities), "No CA."
    )
    print_fields(
        (("rotation", _next_step(state)), ("note", "" if state.kept else "`warren up` takes the steps when it runs"))
    )
    rows = ((it.listener, moment(it.not_after), it.ca_sha256) for it in state.listeners)
    print_table(("LISTENER", "UNTIL", "CA"), rows, "No listener has a certificate.")


def _next_step(state: CaShown) -> str:
    words = _WORDS[state.phase]
    if state.phase is RotationPhase.ANNOUNCED:
        return f"{words}; new certificates at {moment(state.switch_at)}"
    if state.phase is RotationPhase.SWITCHED:
        return f"{words}; the former one is withdrawn at {moment(state.withdraw_at)}"
    return words


def _authorities(status: RotationStatus) -> tuple[CaState, ...]:
    other = (
        "next"
        if status.phase is RotationPhase.ANNOUNCED
        else "former"
        if status.phase is RotationPhase.SWITCHED
        else "trusted"
    )
    return tuple(
        CaState(use=other if at else "signs", sha256=fingerprint(it).hex(), not_after=it.not_valid_after_utc)
        for at, it in enumerate(status.trusted)
    )


def _listener(folder: TlsFolder, name: str) -> ListenerState | None:
    try:
        chain = x509.load_pem_x509_certificates(folder.certificate(name).read_bytes())
    except (OSError, ValueError):
        return None
    return ListenerState(listener=name, ca_sha256=fingerprint(chain[-1]).hex(), not_after=chain[0].not_valid_after_utc)
