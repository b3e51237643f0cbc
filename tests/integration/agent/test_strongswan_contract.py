"""The strongSwan driver keeps the contract of drivers, on a real charon with a real peer."""

from collections.abc import AsyncIterator

import pytest

from warren_agent.testing.contract import DriverContract
from warren_testkit.lab.gateways import Ends

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]


@pytest.fixture
async def bench(ends: Ends) -> AsyncIterator[object]:
    """The spoke's driver; the hub answers with whatever the spoke proposes."""
    hub, spoke = ends
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    spoke.accepted = spoke.tunnel(hub, initiator=True)
    spoke.refused = spoke.tunnel(hub, initiator=True, child={"mode": "transport"})
    return spoke


class TestStrongswanDriver(DriverContract):
    """All of it."""
