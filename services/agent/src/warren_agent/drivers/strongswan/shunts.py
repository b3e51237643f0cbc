"""Pass shunts: policies of the kernel that keep packets out of the tunnels (swanctl.conf(5), `mode = pass`).

They are the children of one connection that never negotiates. charon installs a route next to each, so that packets keep their
source. kernel-libipsec ignores the policies and installs the routes all the same, into its own device: there they would cut off what
they should keep in reach (measured, strongSwan 5.9.8), so none are loaded.
"""

import structlog

from warren_agent.drivers.port import Bypassed
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.connections import MARKER
from warren_agent.drivers.strongswan.vici_codec import Message

log = structlog.get_logger()

NAME = "warren-bypass"  # no name of a tunnel's connection: these have a generation


def build_shunts(bypassed: Bypassed) -> Message:
    """The message of load-conn with all shunts."""
    pairs = [([str(network)], str(network)) for network in bypassed.networks]
    pairs += [([str(source) for source in sources], str(host)) for sources, host in bypassed.hosts if sources]
    children = {
        f"pass-{number}": {"mode": "pass", "local_ts": local, "remote_ts": [remote], "start_action": "trap"}
        for number, (local, remote) in enumerate(pairs)
    }
    return {NAME: {"local": {"groups": [MARKER]}, "children": children}}


class Shunts:
    """Keeps one set of shunts in charon. The caller holds the lock of the driver's configuration."""

    def __init__(self, charon: CharonClient) -> None:
        self._charon = charon
        self._wanted = Bypassed()
        self._loaded: Bypassed | None = None  # None: not known

    async def put(self, bypassed: Bypassed, abilities: CharonAbilities) -> bool:
        """Make these the shunts; False if the data plane has none. ConfigRefusedError with charon's words."""
        if "kernel-libipsec" in abilities.plugins:
            return False
        self._wanted = bypassed
        await self._load(bypassed)
        return True

    async def _load(self, bypassed: Bypassed) -> None:
        if bypassed == self._loaded:
            return
        if bypassed:
            await self._charon.load_connection(build_shunts(bypassed))
        else:
            await self._charon.unload_connection(NAME)
        self._loaded = bypassed

    async def resume(self) -> None:
        """charon was found running or has restarted: it may hold none, or those of an earlier run."""
        self._loaded = None
        await self._load(self._wanted)

    async def audit(self) -> None:
        """Load them again if somebody has unloaded them."""
        if self._wanted and NAME not in await self._charon.connection_names():
            log.warning("strongswan.bypass_missing", cause="somebody has unloaded it, probably `swanctl --load-all`")
            await self.resume()
