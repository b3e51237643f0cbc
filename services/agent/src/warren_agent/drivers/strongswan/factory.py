"""Build the strongSwan driver from its settings and the agent's state folder."""

from collections.abc import Mapping
from pathlib import Path

from warren_agent.drivers.port import Driver, KernelGuard
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import paths_of
from warren_agent.errors import BadSettingError

LEDGER_FILE = "strongswan.json"


def build(settings: Mapping[str, str], state_folder: Path, ike_seed: bytes, guard: KernelGuard | None = None) -> Driver:
    """A driver that has not contacted charon yet. Its ledger is `strongswan.json` in the state folder.

    Raises:
        BadSettingError: a setting has a value that it cannot have.
    """
    drift = settings.get("drift") or "correct"
    if drift not in ("correct", "observe"):
        raise BadSettingError(f"drift: {drift!r} must be one of correct, observe")
    driver = StrongswanDriver(
        paths_of(settings), ike_seed, Ledger(state_folder / LEDGER_FILE), correct_drift=drift == "correct"
    )
    driver.use_guard(guard)
    return driver
