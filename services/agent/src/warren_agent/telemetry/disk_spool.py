"""Telemetry on disk while the bus is unavailable, so that a long disconnection or a crash loses no state change.

Two logs of numbered segments, `changes-<n>.log` and `reports-<n>.log`, a line of JSON for each message, delivered in one order by the
number that each line carries. `position` holds the number of the last line that was delivered, so that a restart repeats at
most one. When the logs together reach their limit, the oldest segment of reports is removed, and one of changes only when
there are no reports any more. Lines are not forced to the disk one by one: a killed agent loses none, a power failure the
last seconds; a line that it cut off is skipped.
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import structlog

from warren_agent.telemetry.message import TelemetryMessage

log = structlog.get_logger("warren_agent")

CHANGES, REPORTS = "changes", "reports"
SEGMENTS = 16  # the limit is this many segments at least: what is removed at once is a sixteenth of it
POSITION_DIGITS = 20


@dataclass(frozen=True)
class StoredMessage:
    """A message on disk, with its number."""

    number: int
    message: TelemetryMessage


class _Log:
    """One of the two logs: segments in order, read from the oldest, written at the newest."""

    def __init__(self, folder: Path, kind: str, segment_bytes: int) -> None:
        self._folder, self._kind, self._segment_bytes = folder, kind, segment_bytes
        self.sizes = {path: path.stat().st_size for path in sorted(folder.glob(f"{kind}-*.log"))}
        self._offset = 0  # of the oldest segment: where its next line begins
        self._next: StoredMessage | None = None
        newest = next(reversed(self.sizes), None)
        self._sealed = newest if newest is not None and _is_torn(newest) else None  # nothing is appended to it

    def append(self, number: int, line: bytes) -> None:
        newest = next(reversed(self.sizes), None)
        if newest is None or newest == self._sealed or self.sizes[newest] + len(line) > self._segment_bytes:
            newest = self._folder / f"{self._kind}-{number:0{POSITION_DIGITS}}.log"
            self.sizes[newest] = 0
        before = self.sizes[newest]
        try:
            with newest.open("ab", buffering=0) as file:
                file.truncate(before)  # what an earlier write on a full disk left of its line
                self.sizes[newest] += file.write(line)
            if self.sizes[newest] != before + len(line):
                raise OSError(28, "No space left on device")
        except OSError:
            self.sizes[newest] = before
            with contextlib.suppress(OSError), newest.open("ab") as file:
                file.truncate(before)
            raise

    def first_after(self, delivered: int) -> StoredMessage | None:
        """The oldest line that was not delivered."""
        while self._next is None or self._next.number <= delivered:
            segment = next(iter(self.sizes), None)
            if segment is None:
                return None
            with segment.open("rb") as file:
                file.seek(self._offset)
                data = file.readline()
            if not data:
                self.drop_segment()
                continue
            self._offset += len(data)
            self._next = _parse(data)
        return self._next

    def drop_segment(self) -> int:
        """Remove the oldest segment; returns its bytes."""
        segment = next(iter(self.sizes))
        segment.unlink(missing_ok=True)
        self._offset, self._next = 0, None
        return self.sizes.pop(segment)


def _is_torn(segment: Path) -> bool:
    """Whether a power failure has cut off the last line."""
    data = segment.read_bytes()
    return bool(data) and not data.endswith(b"\n")


def _parse(data: bytes) -> StoredMessage | None:
    """A line; None if a power failure has cut it off, or somebody has changed it."""
    try:
        number, subject, payload, headers, series = json.loads(data)
        if not (isinstance(number, int) and isinstance(subject, str) and isinstance(payload, str)):
            return None
        known = {str(key): str(value) for key, value in headers.items()}
        return StoredMessage(number, TelemetryMessage(subject, payload.encode(), known, str(series)))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


class DiskSpool:
    """Messages in a folder (0700), in the order in which they were put. Every method may raise OSError."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._limit_bytes = limit_bytes
        self._position = folder / "position"
        segment_bytes = max(1, limit_bytes // SEGMENTS)
        self._logs = {kind: _Log(folder, kind, segment_bytes) for kind in (CHANGES, REPORTS)}
        self._delivered = self._read_position()
        self._last = max([self._delivered, *(self._last_number(it) for it in self._logs.values())])
        self.dropped_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the logs take on disk."""
        return sum(sum(it.sizes.values()) for it in self._logs.values())

    def put(self, message: TelemetryMessage) -> None:
        """Store a message, and drop the oldest beyond the limit: reports before changes."""
        self._last += 1
        fields = (self._last, message.subject, message.payload.decode(), message.headers, message.series)
        line = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        kind = REPORTS if message.series else CHANGES
        while self.size_bytes + len(line) > self._limit_bytes:
            oldest = next((it for it in (self._logs[REPORTS], self._logs[CHANGES]) if it.sizes), None)
            if oldest is None:
                log.error("telemetry.too_large", subject=message.subject, size=len(line))
                return
            self.dropped_bytes += oldest.drop_segment()
        self._logs[kind].append(self._last, line)

    def first(self) -> StoredMessage | None:
        """The oldest message that was not delivered; None if there is none, and then nothing is left on disk."""
        lines = [line for it in self._logs.values() if (line := it.first_after(self._delivered)) is not None]
        return min(lines, key=lambda line: line.number, default=None)

    def delivered(self, number: int) -> None:
        """The message of this number was delivered, and all before it."""
        self._delivered = max(self._delivered, number)
        with self._position.open("r+b" if self._position.exists() else "wb") as file:  # in place: also on a full disk
            file.write(f"{self._delivered:0{POSITION_DIGITS}}\n".encode())

    def _read_position(self) -> int:
        try:
            return int(self._position.read_text())
        except (FileNotFoundError, ValueError):
            return 0  # some messages are delivered once more

    @staticmethod
    def _last_number(log_of_kind: _Log) -> int:
        """The highest number that a log may contain: an upper bound, by its bytes, is as good."""
        newest = next(reversed(log_of_kind.sizes), None)
        if newest is None:
            return 0
        began = newest.stem.rpartition("-")[2]
        return (int(began) if began.isdigit() else 0) + log_of_kind.sizes[newest]
