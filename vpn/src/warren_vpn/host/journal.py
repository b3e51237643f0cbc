"""The journal: what the client is about to change or has changed, on a disk before it is done.

One file, replaced as a whole (written, fsynced, renamed, and its folder fsynced). A process that is killed leaves it behind;
the next client, or `warren vpn restore`, undoes what it lists. An entry whose change was never made is undone without effect.
"""

import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from warren_contracts.base import Input
from warren_process.atomic_file import sync_folder, write_atomically
from warren_vpn.host.changes import Address, Change
from warren_vpn.host.errors import ClientRunningError, JournalError

LOCK_NAME = "client.lock"
MAX_BYTES = 1 << 20
MAX_CHANGES = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class JournalContent(Input):
    """The content of the journal."""

    version: Literal[1] = 1
    boot_id: str
    """Of the run of the kernel in which the changes were made: after a restart only files are left of them."""
    profile: str
    servers: dict[str, tuple[Address, ...]] = Field(default_factory=dict)
    """The addresses of the servers' names: with the kill switch in force no name can be looked up."""
    changes: tuple[Change, ...] = Field(default=(), max_length=MAX_CHANGES)


def boot_id() -> str:
    """Of the present run of the kernel."""
    return _BOOT_ID.read_text().strip()


class Journal:
    """The journal of one host. `lock` first; `release` at the end. Only one process holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "client.json"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def lock(self) -> None:
        """Take the journal for this process. ClientRunningError: another one has it. JournalError: the folder cannot be used."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            self._lock = os.open(self.folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ClientRunningError from None
        except OSError as error:
            self.release()
            raise JournalError(
                f"{self.folder}: {error.strerror}; run as root, or name another --state folder"
            ) from None

    def _check_folder(self) -> None:
        """What the journal lists is undone with our rights, so nobody else may write there. JournalError."""
        status = self.folder.stat()
        if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
            raise JournalError(
                f"{self.folder}: others can write there; chown root {self.folder}; chmod 700 {self.folder}"
            )

    def release(self) -> None:
        """Let others take it. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> JournalContent | None:
        """What a former process left; None if it left nothing. JournalError: the file is damaged."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}") from None
        try:
            if len(data) > MAX_BYTES:
                raise ValueError
            return JournalContent.model_validate_json(data)
        except (ValidationError, ValueError):
            raise JournalError(
                f"{self.path}: damaged; check `ip rule`, `nft list tables` and /etc/resolv.conf, then delete it"
            ) from None

    def write(self, record: JournalContent) -> None:
        """Replace the content; on the disk when this returns. JournalError."""
        try:
            write_atomically(self.path, record.model_dump_json().encode())
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}; nothing was changed") from None

    def clear(self) -> None:
        """Everything is put back."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.folder)


def with_changes(record: JournalContent, changes: Sequence[Change]) -> JournalContent:
    """The record with these changes added; one of a known key replaces it in its place."""
    found = {change.key: change for change in (*record.changes, *changes)}
    return record.model_copy(update={"changes": tuple(found.values())})


def without(record: JournalContent, changes: Sequence[Change]) -> JournalContent:
    """The record without the changes of these keys."""
    keys = {change.key for change in changes}
    return record.model_copy(update={"changes": tuple(one for one in record.changes if one.key not in keys)})
