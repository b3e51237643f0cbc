"""`warren vpn client` as a process of a test, and the events that it prints."""

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warren_lab.process import stop_process, wait_until

LIMIT_S = 90.0


@dataclass
class ClientProcess:
    """The client, and the events that it has printed."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        """All so far."""
        lines = self.output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def _running(self) -> int | None:
        """Its process id; None once it has ended."""
        return self.process.pid if self.process.poll() is None else None

    def wait_for(self, name: str, count: int = 1, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """The `count`th event of this name."""

        def found() -> bool:
            return len([one for one in self.events if one["event"] == name]) >= count

        try:
            wait_until(found, name, limit_s, self._running)
        except Exception as error:
            raise AssertionError(f"{error}; {self.output.read_text()}{self.errors.read_text()}") from error
        return [one for one in self.events if one["event"] == name][count - 1]

    def wait_for_text(self, name: str, text: str) -> None:
        """An event of this name with `text` in its message."""

        def found() -> bool:
            return any(one["event"] == name and text in one["message"] for one in self.events)

        try:
            wait_until(found, f"{name} with {text!r}", LIMIT_S, self._running)
        except Exception as error:
            raise AssertionError(f"{error}; {self.output.read_text()}{self.errors.read_text()}") from error

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        return stop_process(self.process, limit_seconds=LIMIT_S)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.process.kill()
        self.process.wait()

    def children(self) -> list[int]:
        """Its child processes that are data processes, and not a command that it runs."""
        words = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(word) for word in words if _is_data_process(int(word))]


def _is_data_process(process_id: int) -> bool:
    with contextlib.suppress(OSError):
        return b"warren_ikev2.dataplane" in Path(f"/proc/{process_id}/cmdline").read_bytes()
    return False
