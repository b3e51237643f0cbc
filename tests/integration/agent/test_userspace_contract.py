"""The userspace driver keeps the contract of drivers, with strongSwan's charon as its peer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from warren_testkit.agent.driver_contract import DriverContract
from warren_testkit.lab.gateways import Gateway, Watched
from warren_testkit.lab.userspace_gateways import WatchedUserspace

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.fixture
async def mixed(pair: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[Watched, WatchedUserspace]]:
    """A hub with strongSwan and a spoke with the userspace daemon, each with its driver."""
    hub, spoke = Watched(pair[0]), WatchedUserspace(pair[1])
    spoke.start_daemon()
    await pair[0].start()
    await asyncio.gather(hub.start(), spoke.start())
    yield hub, spoke
    print(spoke.log[-4000:])
    await asyncio.gather(hub.stop(), spoke.stop())


@pytest.fixture
async def bench(mixed: tuple[Watched, WatchedUserspace]) -> WatchedUserspace:
    """The spoke's driver; the hub answers with whatever the spoke proposes."""
    hub, spoke = mixed
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    spoke.accepted = spoke.tunnel(hub, initiator=True)
    spoke.refused = spoke.tunnel(hub, initiator=True, child={"mode": "transport"})
    return spoke


class TestUserspaceDriver(DriverContract):
    """All of it."""
