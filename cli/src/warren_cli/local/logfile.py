"""A log file that rotates by size: DATA/log/<part>.log, .log.1 and so on."""

from pathlib import Path

MAX_BYTES = 8 << 20
"""Size at which a log is rotated: a week of a quiet part."""
KEPT = 4
"""Old files kept beside the current one."""


class RotatingLog:
    """Takes chunks as they come and rotates between two lines."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._file = path.open("ab")

    def write(self, chunk: bytes) -> None:
        """Append; a file past its size is rotated at the end of a line."""
        self._file.write(chunk)
        self._file.flush()
        if self._file.tell() >= self._max_bytes and chunk.endswith(b"\n"):
            self._rotate()

    def close(self) -> None:
        self._file.close()

    def last_lines(self, count: int) -> list[str]:
        """The newest lines, oldest of them first."""
        with self.path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - count * 2048, 0))
            return file.read().decode(errors="replace").splitlines()[-count:]

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept, 0, -1):
            older = self.path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._file = self.path.open("ab")

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
