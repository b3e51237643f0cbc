"""The strongSwan driver keeps the contract of drivers, on a real charon with a real peer."""

from collections.abc import Callable

import pytest

from warren_agent.drivers.port import Driver, DriverEvent
from warren_contracts.tunnel import Tunnel
from warren_testkit.agent.driver_contract import DriverContract
from warren_testkit.lab.gateways import Ends, Watched

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]


class StrongswanBench:
    """One end, with a configuration that its peer accepts and one that charon cannot do."""

    def __init__(self, end: Watched, accepted: Tunnel, refused: Tunnel) -> None:
        self.driver: Driver = end.driver
        self.accepted, self.refused = accepted, refused
        self._end = end

    async def wait_for(self, wanted: Callable[[DriverEvent], bool]) -> DriverEvent:
        return await self._end.wait_for(wanted)


@pytest.fixture
async def bench(ends: Ends) -> StrongswanBench:
    """The spoke's driver; the hub answers with whatever the spoke proposes."""
    hub, spoke = ends
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    refused = spoke.tunnel(hub, initiator=True, child={"mode": "transport"})
    return StrongswanBench(spoke, spoke.tunnel(hub, initiator=True), refused)


class TestStrongswanDriver(DriverContract):
    """All of it."""
