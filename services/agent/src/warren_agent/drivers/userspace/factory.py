"""Build the userspace driver from its settings and the agent's state folder."""

from collections.abc import Mapping
from pathlib import Path

from warren_agent.drivers.port import Driver
from warren_agent.drivers.userspace.driver import UserspaceDriver
from warren_agent.drivers.userspace.settings import SOCKET_FILE


def build(settings: Mapping[str, str], state_folder: Path, ike_seed: bytes) -> Driver:
    """A driver that has not contacted the daemon yet. A daemon at a socket of its own is not started by the driver."""
    given = settings.get("userspace_socket", "")
    return UserspaceDriver(Path(given) if given else state_folder / SOCKET_FILE, ike_seed, start_daemon=not given)
