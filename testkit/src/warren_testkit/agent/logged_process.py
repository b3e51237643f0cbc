"""A process of a test that writes to a log of its own."""

from pathlib import Path
from typing import Generic, Protocol, TypeVar


class HasPid(Protocol):
    """A process of `subprocess`, or of asyncio."""

    @property
    def pid(self) -> int: ...


ProcessT = TypeVar("ProcessT", bound=HasPid)


class LoggedProcess(Generic[ProcessT]):
    """A process that runs or does not, and what it has written."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._process: ProcessT | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def print_log(self) -> None:
        """Print its end, for the report of a test that failed."""
        print(self.log[-6000:])
