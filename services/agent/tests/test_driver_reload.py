"""A charon that comes back and does not take everything that it had: one refusal is one tunnel's matter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from warren_agent.drivers.port import AttemptFailed, DaemonDown, DaemonTunnelChanged, DaemonUp, DriverEvent
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.error_notify import ErrorNotifyType, build_notification
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.errors import ConfigRefusedError
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.tunnel import Tunnel
from warren_testkit.agent.charon import FakeCharon
from warren_testkit.intent import ipsec_tunnel

SEED = b"k" * 32


def config(name: str, number: int) -> Tunnel:
    return ipsec_tunnel(name=name, remote_endpoints=["192.0.2.1"], child={"local_ts": [f"10.{number}.0.0/24"]})


class EventLog:
    """A driver's events so far."""

    def __init__(self, driver: StrongswanDriver) -> None:
        self.events: list[DriverEvent] = []
        self._driver = driver
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._driver.events():
            self.events.append(event)
            self._more.set()

    async def next(self, desired: Callable[[DriverEvent], bool]) -> DriverEvent:
        """The next event for which `desired` holds; those before it are dropped."""
        async with asyncio.timeout(60):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if desired(event):
                        return event
                self._more.clear()
                await self._more.wait()


Driven = tuple[StrongswanDriver, EventLog]


@pytest.fixture
async def charon(tmp_path: Path) -> AsyncIterator[FakeCharon]:
    async with FakeCharon(tmp_path / "vici") as charon:
        yield charon


@pytest.fixture
async def driver(charon: FakeCharon) -> AsyncIterator[Driven]:
    driver = StrongswanDriver(StrongswanPaths(charon.vici), SEED, Ledger(), owns=lambda address: True)
    log = EventLog(driver)
    await driver.initialize()
    await log.next(lambda event: isinstance(event, DaemonUp))
    yield driver, log
    log.task.cancel()
    await driver.cleanup()


async def returns(charon: FakeCharon, log: EventLog) -> None:
    await charon.stop()
    await log.next(lambda event: isinstance(event, DaemonDown))
    await charon.start()
    await log.next(lambda event: isinstance(event, DaemonUp))


async def test_one_refused_connection_is_reported_and_the_others_are_loaded(charon: FakeCharon, driver: Driven) -> None:
    strongswan, log = driver
    for number, name in enumerate(("a", "b", "c"), start=2):
        await strongswan.create_tunnel(config(name, number))
    charon.refused = {"b"}
    await returns(charon, log)
    assert {name.partition("~")[0] for name in charon.connections} == {"a", "c"}
    by_name = {status.name: status for status in await strongswan.list_tunnels()}
    assert (by_name["b"].state, by_name["b"].reason) == (TunnelState.ERROR, ReasonCode.CONFIG_REFUSED)
    assert "invalid value for: proposals" in by_name["b"].detail
    assert by_name["a"].reason is by_name["c"].reason is ReasonCode.NONE


async def test_refusal_is_an_event_of_that_tunnel(charon: FakeCharon, driver: Driven) -> None:
    strongswan, log = driver
    await strongswan.create_tunnel(config("b", 2))
    charon.refused = {"b"}
    await charon.stop()
    await log.next(lambda event: isinstance(event, DaemonDown))
    await charon.start()
    event = await log.next(lambda event: isinstance(event, DaemonTunnelChanged))
    assert isinstance(event, DaemonTunnelChanged)
    assert event.status.reason is ReasonCode.CONFIG_REFUSED


async def test_reasons_go_on_when_the_plugin_closes_its_socket_and_vici_stays(
    charon: FakeCharon, driver: Driven
) -> None:
    strongswan, log = driver
    await charon.stop()
    await charon.start_notify()
    await charon.start()
    await log.next(lambda event: isinstance(event, DaemonUp))
    await strongswan.create_tunnel(config("t", 2))
    await charon.until(lambda: charon.listeners)
    charon.drop_listeners()
    await charon.until(lambda: charon.listeners)
    name = next(iter(charon.connections))
    charon.notify_all(build_notification(ErrorNotifyType.PROPOSAL_MISMATCH_IKE, "no", name, "hub", "192.0.2.1[500]"))
    event = await log.next(lambda event: isinstance(event, AttemptFailed))
    assert isinstance(event, AttemptFailed)
    assert event.code is ReasonCode.PROPOSAL_MISMATCH_IKE


async def test_reasons_come_from_the_log_when_the_plugin_is_gone_for_good(charon: FakeCharon, driver: Driven) -> None:
    _, log = driver
    await charon.stop()
    charon.registered.clear()
    await charon.start_notify()
    await charon.start()
    await log.next(lambda event: isinstance(event, DaemonUp))
    await charon.until(lambda: charon.listeners)
    assert charon.registered == []
    await charon.stop_notify()
    await charon.until(lambda: charon.registered == ["log"])


async def test_refused_tunnel_is_offered_again_with_each_start_and_can_be_deleted(
    charon: FakeCharon, driver: Driven
) -> None:
    strongswan, log = driver
    await strongswan.create_tunnel(config("b", 2))
    charon.refused = {"b"}
    await returns(charon, log)
    with pytest.raises(ConfigRefusedError, match="proposals"):
        await strongswan.start_tunnel("b")
    charon.refused = set()
    await strongswan.start_tunnel("b")
    assert (await strongswan.tunnel_status("b")).reason is ReasonCode.NONE
    assert len(charon.connections) == 1
    charon.refused = {"b"}
    await returns(charon, log)
    await strongswan.delete_tunnel("b")
    assert await strongswan.list_tunnels() == ()
