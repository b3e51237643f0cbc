"""A log file that rotates by size: DATA/log/<part>.log, .log.1 and so on.

A log that cannot be written (the disk is full) ends nothing: what is written meanwhile is lost, and counted.
"""

import contextlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

MAX_BYTES = 8 << 20
"""Size at which a log is rotated: a week of a quiet part."""
KEPT = 4
"""Old files kept next to the current one."""
LONGEST_LINE = 2048
"""Bytes that one of the last lines may have; the rest of a longer one is not read."""

Complain = Callable[[str], None]


def _quiet(_words: str) -> None:
    return


class RotatingLog:
    """Append chunks and rotate between two lines.

    `complain` is called once when the file cannot be written, and again only after it could be.
    """

    def __init__(
        self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT, *, complain: Complain = _quiet
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._complain = complain
        self._lost = 0  # bytes since it could last be written
        self._complained = False
        self._file: FileIO | None = self._open()

    def write(self, chunk: bytes) -> None:
        """Append; a file past its size is rotated at the end of a line. What cannot be written is dropped."""
        try:
            self._append(chunk)
            if self._opened().tell() >= self._max_bytes and chunk.endswith(b"\n"):
                self._rotate()
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._complain(f"{self.path}: {error.strerror}; output is lost until it can be written")
        else:
            self._complained = False

    def close(self) -> None:
        """Nothing is held back, so nothing can fail but the close itself."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def last_lines(self, count: int) -> list[str]:
        """The newest lines, oldest of them first; none where the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(file.tell() - count * LONGEST_LINE, 0))
                return file.read(count * LONGEST_LINE).decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def _open(self) -> FileIO:
        return FileIO(self.path, "ab")  # no buffer: what a full disk refused would be tried again, and at the close

    def _opened(self) -> FileIO:
        if self._file is None:  # a rotation could not make it
            self._file = self._open()
        return self._file

    def _append(self, chunk: bytes) -> None:
        note = f"-- {self._lost} bytes could not be written here\n".encode() if self._lost else b""
        rest = memoryview(note + chunk)
        try:
            while rest:  # a disk that is nearly full takes a part, and refuses the rest
                rest = rest[self._opened().write(rest) :]
        except OSError:
            self._lost += min(len(rest), len(chunk))
            raise
        self._lost = 0

    def _rotate(self) -> None:
        self._opened().close()
        self._file = None
        for number in range(self._kept, 0, -1):
            older = self.path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
