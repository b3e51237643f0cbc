"""The user file: read when it has changed, and changed under a lock by an atomic replacement."""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from warren_vpn.owned_file import reason_of, replace_file
from warren_vpn.users.errors import UserFileError
from warren_vpn.users.model import Users
from warren_vpn.validation import detail_of

FILE_NAME = "users.json"
MAX_SIZE = 16 << 20  # bytes: 10,000 users have 8 MB


class UserFile:
    """See the module. A file that does not exist holds no users."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._users = Users()

    def read(self) -> Users:
        """Return the users; the file is parsed only if it is another one than before.

        UserFileError: it cannot be read, others can read it, or it is invalid.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_ino, status.st_mtime_ns, status.st_size)
                if seen == self._seen:
                    return self._users
                if stat.S_IMODE(status.st_mode) & 0o077:
                    raise UserFileError(f"{self.path}: others can read it; chmod 600 {self.path}")
                content = file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            self._seen, self._users = None, Users()
            return self._users
        except OSError as error:
            raise UserFileError(f"{self.path}: {reason_of(error)}") from None
        self._users = self._parse(content)
        self._seen = seen
        return self._users

    def edit(self, change: Callable[[Users], Users]) -> Users:
        """Apply a change to the users as they are now, with no other writer in between. Returns what is stored."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                users = change(self.read())
                text = users.model_dump_json(exclude_defaults=True, indent=1)
                document = {"version": users.version, **json.loads(text)}
                replace_file(self.path, (json.dumps(document, indent=1) + "\n").encode(), 0o600)
                return users
        except OSError as error:
            raise UserFileError(f"{self.path}: {reason_of(error)}") from None

    def _parse(self, content: bytes) -> Users:
        if len(content) > MAX_SIZE:
            raise UserFileError(f"{self.path}: more than {MAX_SIZE:,} bytes, the limit of a user file")
        try:
            return Users.model_validate_json(content)
        except ValidationError as error:
            raise UserFileError(f"{self.path}: {detail_of(error)}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """A file of its own: the user file is replaced, and with it a lock on it."""
        lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
