"""Build the strongSwan driver from its settings and the agent's state folder."""

from collections.abc import Mapping
from pathlib import Path

from warren_agent.drivers.port import Driver
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths

LEDGER_FILE = "strongswan.json"


def build(settings: Mapping[str, str], state_folder: Path, ike_seed: bytes) -> Driver:
    """A driver that has not contacted charon yet. Its ledger is `strongswan.json` in the state folder."""
    enfy = settings.get("enfy_socket", "")
    paths = StrongswanPaths(Path(settings["vici_socket"]), Path(enfy) if enfy else None)
    return StrongswanDriver(paths, ike_seed, Ledger(state_folder / LEDGER_FILE))
