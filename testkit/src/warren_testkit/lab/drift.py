"""For tests of what others change in a charon: a tunnel that is up, and the drift that its driver reports."""

from warren_agent.drivers.port import DriftFound, DriverEvent
from warren_contracts.status import ReasonCode
from warren_testkit.lab.gateways import Watched

NAME = "hub+spoke"
DRIFT_LIMIT = 60.0  # s


async def put(hub: Watched, spoke: Watched) -> None:
    """Create the tunnel at both ends and bring it up."""
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True))
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)


async def drift_of(end: Watched, code: ReasonCode = ReasonCode.CONFIG_DRIFT, since: int = 0) -> DriftFound:
    """The first drift of a kind that a driver reports, from its event of this number on."""

    def is_it(event: DriverEvent) -> bool:
        return isinstance(event, DriftFound) and event.code is code

    found = await end.wait_for(is_it, DRIFT_LIMIT, since)
    assert isinstance(found, DriftFound)
    return found
