"""The fake driver keeps the contract of drivers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from warren_agent.drivers.port import DriverEvent
from warren_agent.testing import FakeDriver
from warren_agent.testing.contract import DriverContract
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import expand
from warren_intent.testing import directory, ipsec_tunnel, published, record

FLEET = directory(record("hub", 1, "hub"), record("spoke", 2, "branch"))
(CONFIG,) = expand([published("star", hubs=["tag=hub"], spokes=["tag=branch"])], FLEET, "spoke")


class FakeBench:
    """The fake driver and its news."""

    def __init__(self) -> None:
        self.driver = FakeDriver()
        self.accepted: Tunnel = CONFIG
        self.refused = ipsec_tunnel(name=CONFIG.name, child={"mode": "transport"})
        self._told: list[DriverEvent] = []

    async def wait_for(self, wanted: Callable[[DriverEvent], bool]) -> DriverEvent:
        for event in self._told:
            if wanted(event):
                return event
        async with asyncio.timeout(5):
            async for event in self.driver.events():
                self._told.append(event)
                if wanted(event):
                    return event
        raise AssertionError


@pytest.fixture
async def bench() -> AsyncIterator[FakeBench]:
    made = FakeBench()
    await made.driver.initialize()
    yield made
    await made.driver.cleanup()


class TestFakeDriver(DriverContract):
    """All of it."""
