"""Build the strongSwan driver from its settings and the agent's state folder."""

from collections.abc import Mapping
from pathlib import Path

from warren_agent.drivers.port import Driver
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import paths_of

LEDGER_FILE = "strongswan.json"


def build(settings: Mapping[str, str], state_folder: Path, ike_seed: bytes) -> Driver:
    """A driver that has not contacted charon yet. Its ledger is `strongswan.json` in the state folder."""
    return StrongswanDriver(paths_of(settings), ike_seed, Ledger(state_folder / LEDGER_FILE))
