"""One `warren up` a data folder, and what it left behind if it was killed."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warren_stack.errors import AlreadyRunningError
from warren_stack.folders import DataFolder, write_secret


@contextlib.contextmanager
def exclusive(data: DataFolder) -> Iterator[None]:
    """Hold DATA for this process. The kernel lets go when the process ends, however it ends.

    Raises:
        AlreadyRunningError: another one holds it; with its process id and address.
    """
    with data.lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            state = read_state(data)
            who = f" (process {state['pid']}, {state.get('url', 'starting')})" if "pid" in state else ""
            raise AlreadyRunningError(
                f"{data.path} is in use by another `warren up`{who}. Stop it first, or name another folder with --data."
            ) from error
        remove_leftovers(data)
        try:
            yield
        finally:
            data.state.unlink(missing_ok=True)


def is_held(data: DataFolder) -> bool:
    """Whether a `warren up` runs with DATA. The lock itself is not tried: a start in that moment would fail."""
    process_id = read_state(data).get("pid")
    return isinstance(process_id, int) and Path(f"/proc/{process_id}").exists()


def read_state(data: DataFolder) -> dict[str, Any]:
    """What the running `warren up` wrote of itself; empty where there is none."""
    try:
        state = json.loads(data.state.read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(data: DataFolder, **facts: str | int) -> None:
    """Say what runs: process id, addresses, the runtime folder."""
    write_secret(data.state, json.dumps({"pid": os.getpid(), **facts}))


def remove_leftovers(data: DataFolder) -> None:
    """The runtime folder of a `warren up` that was killed. Only called by the holder of the lock."""
    runtime = Path(str(read_state(data).get("runtime", "")))
    is_ours = runtime.name.startswith("warren-") and runtime.is_absolute() and not runtime.is_symlink()
    if is_ours and runtime.parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - never removed itself
        shutil.rmtree(runtime, ignore_errors=True)
    data.state.unlink(missing_ok=True)
