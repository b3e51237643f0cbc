"""The audit of logins: one JSON object a line, appended, never a password; rotated by size.

{"time":"2026-11-29T20:00:00.000Z","user":"alice","address":"192.0.2.7","method":"eap-gtc","result":"accepted","reason":""}
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

MAX_SIZE = 10 << 20  # bytes: about 60,000 logins
OLD_FILES = 5
MAX_TEXT = 256  # characters of a name or a reason: a peer that has not authenticated chooses the name


class LoginResult(StrEnum):
    """The result of a login."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class LoginAudit:
    """Appends to `path`. `path.1` is the newest of the older files.

    Each line is one write to a file opened for appending, so that several writers do not mix and a crash leaves at most its
    last line incomplete.
    """

    def __init__(
        self, path: Path, max_size: int = MAX_SIZE, utc_now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._max_size = max_size
        self._utc_now = utc_now

    def record(
        self,
        user: str,
        address: IPv4Address | IPv6Address | None,
        method: str,
        result: LoginResult,
        reason: str = "",
    ) -> None:
        """Append one login. OSError: the disk does not take it, and the login must be refused."""
        entry = {
            "time": self._utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user": user[:MAX_TEXT],
            "address": "" if address is None else str(address),
            "method": method,
            "result": result.value,
            "reason": reason[:MAX_TEXT],
        }
        line = (json.dumps(entry, separators=(",", ":")) + "\n").encode("ascii")
        self._rotate(len(line))
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(f"{self._path}: the disk is full")
        finally:
            os.close(handle)

    def _rotate(self, more: int) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size + more <= self._max_size:
            return
        for number in range(OLD_FILES, 0, -1):
            source = self._numbered(number - 1)
            if source.exists():
                source.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")
