"""The data folder of `warren up`: paths, and the few calls that make them."""

from dataclasses import dataclass
from pathlib import Path

from warren_cli.folders import TOKEN_NAME
from warren_process.atomic_file import write_atomically
from warren_stack.errors import LocalError


@dataclass(frozen=True)
class DataFolder:
    """DATA and what lies in it. All of it is private to the user who runs `warren up`."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def state(self) -> Path:
        """What runs now (process id, addresses): JSON, for the message to a second `warren up`."""
        return self.path / "up.json"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def nats(self) -> Path:
        return self.path / "nats"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def parts(self) -> Path:
        """A folder for each part with copies of its keys, where parts have users of their own."""
        return self.path / "parts"

    @property
    def tls(self) -> Path:
        """The CA, and the certificates that it signs (`warren_stack.tls.folder`)."""
        return self.path / "tls"

    @property
    def token(self) -> Path:
        """The first operator's bearer token."""
        return self.path / TOKEN_NAME

    def create(self) -> None:
        """Make the folders, 0700; existing ones of ours are kept. LocalError where that cannot be."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.log, self.keys, self.secrets, self.nats):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise LocalError(
                f"{self.path}: the data folder cannot be made or written ({error.strerror}): choose another with --data"
            ) from None


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    write_atomically(path, text.encode())


def is_file(path: Path) -> bool:
    """Whether the file is there; a look at a local disk, fit for a coroutine."""
    return path.is_file()
