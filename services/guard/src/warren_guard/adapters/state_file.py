"""The guard's state on disk: what it protects, read at boot before any agent or daemon runs.

`state.json` is what the guard works with; `table.nft` is the table that it made of it, loaded as it is if the other file is
damaged. Both are replaced as a whole or not at all.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from warren_contracts.base import Document
from warren_contracts.guard import Bypass, HeldState, LocalNetwork
from warren_contracts.protection import DeviceName, ProtectedTraffic
from warren_guard.domain.holdings import Holding, Holdings
from warren_guard.errors import BadStateError
from warren_process.atomic_file import sync_folder, write_draft

MAX_FILE = 32 * 1024 * 1024  # bytes


class StoredEntry(Document):
    """One entry; `left_s` are the seconds that were left of its time when it was written."""

    traffic: ProtectedTraffic
    state: HeldState
    left_s: Annotated[float, Field(ge=0)] | None = None


class StoredState(Document):
    """The whole state."""

    entries: tuple[StoredEntry, ...] = ()
    devices: tuple[DeviceName, ...] = ()
    bypass: tuple[Bypass, ...] = ()
    networks: tuple[LocalNetwork, ...] = ()

    def holdings(self, now: float) -> Holdings:
        """The entries, with deadlines of this process's clock: time spent switched off does not count."""
        return {
            entry.traffic.key: Holding(entry.traffic, entry.state, None if entry.left_s is None else now + entry.left_s)
            for entry in self.entries
        }


def stored(
    held: Holdings, devices: tuple[str, ...], bypass: tuple[Bypass, ...], networks: tuple[LocalNetwork, ...], now: float
) -> StoredState:
    """The state as it is written."""
    entries = tuple(
        StoredEntry(
            traffic=entry.traffic, state=entry.state,
            left_s=None if entry.deadline is None else max(0.0, entry.deadline - now),
        )
        for entry in held.values()
    )  # fmt: skip
    return StoredState(entries=entries, devices=devices, bypass=bypass, networks=networks)


class Staged:
    """Both files on disk under other names: `commit` makes them the state, `discard` removes them."""

    def __init__(self, files: Sequence[tuple[Path, Path]]) -> None:
        self._files = files  # each with the name that it gets

    def commit(self) -> None:
        """Replace both files. BadStateError if the disk does not take it."""
        try:
            for new, path in self._files:
                new.replace(path)
            sync_folder(self._files[0][1].parent)
        except OSError as error:
            self.discard()
            raise BadStateError(f"{error.filename}: {error.strerror}") from None

    def discard(self) -> None:
        """Remove what is not committed."""
        for new, _ in self._files:
            with contextlib.suppress(OSError):
                new.unlink()


class StateFile:
    """Reads and writes the folder (0700)."""

    def __init__(self, folder: Path) -> None:
        self._state, self._table = folder / "state.json", folder / "table.nft"
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder. BadStateError if that cannot be."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadStateError(f"{self._folder}: {error.strerror}: choose a folder with --state") from None

    def read(self) -> StoredState | None:
        """The state, None if there is none yet.

        Raises:
            BadStateError: the file is damaged or unreadable.
        """
        data = _read(self._state)
        if data is None:
            return None
        try:
            return StoredState.model_validate_json(data)
        except ValidationError as error:
            raise BadStateError(f"{self._state}: damaged: {error.error_count()} errors") from None

    def read_table(self) -> str | None:
        """The last table as text, None if there is none. BadStateError if it is unreadable."""
        data = _read(self._table)
        return None if data is None else data.decode(errors="replace")

    def stage(self, state: StoredState, table: str) -> Staged:
        """Write both next to the former files: some 20 ms for 1,000 tunnels. BadStateError if the disk does not take them."""
        files: list[tuple[Path, Path]] = []
        try:
            for path, data in ((self._table, table.encode()), (self._state, state.model_dump_json().encode())):
                files.append((write_draft(path, data), path))
        except OSError as error:
            Staged(files).discard()
            raise BadStateError(f"{self._folder}: {error.strerror}") from None
        return Staged(files)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadStateError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise BadStateError(f"{path}: more than {MAX_FILE:,} bytes")
    return data
