"""A guard in a namespace, as its command starts it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from warren_lab.namespace import Namespace
from warren_lab.process import stop_process
from warren_testkit.agent.logged_process import LoggedProcess
from warren_testkit.waiting import eventually

START_LIMIT = 90.0  # s; it takes one on an idle machine
STOP_LIMIT = 30.0  # s, then it is killed
_ENTRY = "from warren_guard.entry import main; main()"


class GuardProcess(LoggedProcess[subprocess.Popen[bytes]]):
    """`warren-guard` with a state folder, a socket and a log of its own."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder / "guard"
        super().__init__(self.folder / "guard.log")
        self.socket = self.folder / "guard.sock"

    @property
    def environment(self) -> dict[str, str]:
        """What makes an agent require this guard."""
        return {"WARREN_GUARD": "required", "WARREN_GUARD_SOCKET": str(self.socket)}

    async def start(self, *options: str, before: Sequence[str] = ()) -> None:
        """Start it, and wait until it has loaded its table and listens.

        `before` is a command that starts the rest of its line.

        Raises:
            AssertionError: it ended, with its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-c",
            _ENTRY,
            "run",
            "--state",
            str(self.folder / "state"),
            "--socket",
            str(self.socket),
        ]
        source = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}  # not installed
        environment = {**source, "PATH": os.environ.get("PATH", os.defpath), "WARREN_LOG_FORMAT": "json"}
        with self._log_file.open("ab") as log:
            self._process = self.namespace.spawn(*before, *command, *options, env=environment, stdout=log, stderr=log)
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, f"the guard ended: {self.log[-2000:]}"
            return self.socket.exists()

        await eventually(answers, START_LIMIT, "the guard's socket")

    async def stop(self) -> None:
        """A clean stop; the table stays."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(stop_process, process, limit_seconds=STOP_LIMIT)

    async def kill(self) -> None:
        """As when it crashes."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def has_table(self, text: str) -> None:
        """Wait until the kernel lists this table."""
        await eventually(lambda: self.table() == text, START_LIMIT, "the table")

    def table(self) -> str:
        """Our table as the kernel lists it, without counters; empty if there is none."""
        return self.namespace.run("nft", "--stateless", "list", "table", "inet", "warren", check=False)
