"""`warren up` as a process: the real command on free ports, for tests of what runs under it."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from warren_lab.namespace import Namespace
from warren_lab.runtime import make_runtime_folder

PROGRAMS = {
    "nats": "nats-server", "postgres": "bin/postgres", "streams": "warren_stack.streams", "callout": "warren_callout",
    "registry": "warren_registry", "policy": "warren_policy", "metrics": "warren_metrics", "api": "warren_api",
}  # fmt: skip
"""What the command line of each part has: a word of its own, or its program."""
READY_LIMIT_S = 180.0
STOP_LIMIT_S = 90.0
WARREN = Path(sys.executable).with_name("warren")


@dataclass(frozen=True)
class Up:
    """A running `warren up`, and the object that it printed."""

    process: subprocess.Popen[bytes]
    info: dict[str, Any]

    def parts(self) -> dict[str, psutil.Process]:
        """The processes of the parts that run now."""
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                found |= {name: child for name, it in PROGRAMS.items() if it in command or it in "".join(command[:1])}
        return found


@contextmanager
def stack_folder() -> Iterator[Path]:
    """A new folder whose path is short enough for sockets; it is removed with the files of other users in it."""
    folder = make_runtime_folder("warren-test-")
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@contextmanager
def running_up(data: Path, *options: str, namespace: Namespace | None = None) -> Iterator[Up]:
    """`warren up --json` with its data in `data`, stopped with SIGTERM, and with SIGKILL after `STOP_LIMIT_S`.

    In a network namespace its ports are those of that namespace's loopback.
    """
    ports = [word for name in ("http", "nats", "metrics") for word in (f"--{name}-port", "0")]
    command = [str(WARREN), "up", "--json", "--data", str(data), *ports, *options]
    if namespace is not None:
        command = namespace.argv(command)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            readable, _, _ = select.select([process.stdout], [], [], READY_LIMIT_S)
            line = process.stdout.readline() if readable else b""
            if not line:
                process.terminate()
                raise AssertionError(f"warren up printed nothing: {process.stderr.read().decode()}")
            yield Up(process, json.loads(line))
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
