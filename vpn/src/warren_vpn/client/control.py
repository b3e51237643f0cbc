"""The client's Unix socket: one JSON object asks, one answers. Only root and the client's own user are served."""

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from warren_cli.errors import CliError
from warren_process.control_socket import ControlSocket, exchange
from warren_vpn.host.journal import LOCK_NAME

SOCKET_NAME = "client.sock"
MAX_LINE = 64_000
MAX_REPLY = 1 << 20
LIMIT_S = 15.0
"""Of a command: to stop takes as long as the server needs to confirm the deletion, and the host to be put back."""
POLL_S = 0.02

Handler = Callable[[str], Awaitable[dict[str, Any]]]


class ClientControlServer(ControlSocket):
    """Serves the commands of `handle` while the client runs. The caller holds the journal's lock, so no other client listens there."""

    def __init__(self, path: Path, handle: Handler) -> None:
        super().__init__(path, self._reply, max_line=MAX_LINE)
        self._handle = handle

    async def _reply(self, line: bytes) -> bytes:
        try:
            command = str(json.loads(line)["command"])
        except (KeyError, TypeError):
            raise ValueError("a request is an object with a command") from None
        return json.dumps(await self._handle(command)).encode()


def ask(folder: Path, command: str) -> dict[str, Any] | None:
    """Ask the client of this state folder; None if none runs. CliError: it does not answer, or may not be asked."""
    path = folder / SOCKET_NAME
    try:
        data = exchange(path, json.dumps({"command": command}).encode(), limit_s=LIMIT_S, max_reply=MAX_REPLY)
        answer = json.loads(data) if data else None
        if isinstance(answer, dict):
            return answer
        reason = "closed without an answer" if answer is None else "not an object"
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError:
        raise CliError(f"{folder}: only root may ask the VPN client") from None
    except OSError as error:
        reason = error.strerror or "no answer in time"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise CliError(f"{path}: the VPN client does not answer ({reason})")


def wait_stopped(folder: Path) -> None:
    """Wait until the client has ended. CliError: it does not within `LIMIT_S`."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    deadline = time.monotonic() + LIMIT_S
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                raise CliError(f"the VPN client has not ended within {LIMIT_S:g} s; see its output")
            select.select([], [], [], POLL_S)
    finally:
        os.close(descriptor)
