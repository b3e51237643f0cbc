"""Several drivers on one host: each tunnel has the driver of its link, and one daemon's absence is its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_agent.domain.reconcile import plan
from warren_agent.drivers.port import DaemonDown, DaemonUp, DriverEvent
from warren_agent.drivers.set import DriverSet, HostedDriver
from warren_agent.errors import ConfigRefusedError, DriverUnavailableError, UnknownTunnelError
from warren_agent.protection import Protection
from warren_agent.reconciler import apply_plan
from warren_agent.state.capabilities_file import CapabilitiesFile
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import DriverState
from warren_contracts.tunnel import Tunnel
from warren_testkit.agent.fake_driver import FakeDriver
from warren_testkit.intent import ipsec_tunnel


async def test_driver_whose_daemon_has_not_answered_yet_announces_what_it_could_do_last(tmp_path: Path) -> None:
    path = tmp_path / "state" / "capabilities.json"

    async def announced(driver: FakeDriver, path: Path, *, is_known: bool = True) -> DriverCapabilities:
        made = DriverSet([HostedDriver("strongswan", ("ipsec",), driver)], CapabilitiesFile(path))
        if is_known:
            driver.there = isinstance(driver, Able)
            await made.initialize()
            await asyncio.wait_for(anext(made.events()), 60)
        (found,) = await made.capabilities()
        return found

    class Absent(FakeDriver):
        async def capabilities(self) -> DriverCapabilities:
            raise DriverUnavailableError("no daemon")

    class Able(FakeDriver):
        async def capabilities(self) -> DriverCapabilities:
            return DriverCapabilities(version="5.9.8", ike=("aes256gcm16",), features=("mobike",), run="ab")

    assert await announced(Absent(), path) == DriverCapabilities(reachable=False)
    known = await announced(Able(), path)
    assert await announced(Absent(), path) == known.model_copy(update={"reachable": False})
    assert await announced(Absent(), path, is_known=False) == known  # maybe it runs, and is slow to answer
    assert await announced(Able(), path) == known
    path.write_text("{")
    assert await announced(Absent(), path, is_known=False) == DriverCapabilities(reachable=False)


class Host:
    """Two in-memory drivers in one set, and the events of the set."""

    def __init__(self) -> None:
        self.ipsec, self.other = FakeDriver(), FakeDriver()
        self.drivers = DriverSet(
            [HostedDriver("strongswan", ("ipsec",), self.ipsec), HostedDriver("second", ("other",), self.other)]
        )
        self._events: asyncio.Queue[DriverEvent | BaseException] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self.drivers.events():
                self._events.put_nowait(event)
        except ValueError as error:
            self._events.put_nowait(error)

    async def event(self, kind: type) -> object:
        async with asyncio.timeout(60):
            while not isinstance(event := await self._events.get(), kind):
                pass
        return event

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.drivers.cleanup(teardown=True)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.drivers.initialize()
    await asyncio.wait_for(host.drivers.wait_until_known(), 60)
    yield host
    await host.stop()


def tunnel(name: str, kind: str = "ipsec") -> Tunnel:
    made = ipsec_tunnel(name=name)
    return made.model_copy(update={"link": made.link.model_copy(update={"kind": kind})})


async def test_each_tunnel_goes_to_the_driver_of_its_link(host: Host) -> None:
    await host.drivers.put(tunnel("a"), exists=False)
    await host.drivers.put(tunnel("b", "other"), exists=False)
    assert (list(host.ipsec.tunnels), list(host.other.tunnels)) == (["a"], ["b"])
    assert {status.name for status in await host.drivers.list_tunnels()} == {"a", "b"}
    await host.drivers.start_tunnel("b")
    assert host.other.calls[-1] == ("start", "b")
    await host.drivers.delete_tunnel("b")
    assert not host.other.tunnels
    with pytest.raises(UnknownTunnelError):
        await host.drivers.start_tunnel("b")
    assert {driver.kind for driver in host.drivers.states()} == {"strongswan", "second"}
    assert len(await host.drivers.capabilities()) == 2


async def test_a_link_that_no_driver_serves_is_refused_by_field(host: Host) -> None:
    with pytest.raises(ConfigRefusedError, match="link: no driver of this host serves l2tp"):
        await host.drivers.put(tunnel("a", "l2tp"), exists=False)


async def test_a_tunnel_whose_link_changes_its_kind_moves_to_its_new_driver(host: Host) -> None:
    await host.drivers.put(tunnel("a"), exists=False)
    await host.drivers.put(tunnel("a", "other"), exists=True)
    assert (list(host.ipsec.tunnels), list(host.other.tunnels)) == ([], ["a"])


async def test_a_daemon_that_does_not_answer_leaves_the_other_driver_s_tunnels_alone(host: Host) -> None:
    host.ipsec.stop_daemon()
    await host.event(DaemonDown)
    assert {it.kind: it.state for it in host.drivers.states()} == {
        "strongswan": DriverState.UNREACHABLE, "second": DriverState.UP,
    }  # fmt: skip
    desired = [tunnel("a"), tunnel("b", "other"), tunnel("c"), tunnel("d", "other")]
    outcome = await apply_plan(plan(desired, {}, []), host.drivers, Protection())
    assert (sorted(outcome.put), bool(outcome.daemon_lost), outcome.failed) == (["b", "d"], True, {})
    known = [(driver.kind, driver.reachable) for driver in await host.drivers.capabilities()]
    assert known == [("strongswan", False), ("fake", True)]
    assert host.drivers.is_any_up
    assert not host.drivers.is_up_for("a")
    assert host.drivers.is_up_for("b")
    host.ipsec.start_daemon()
    await host.event(DaemonUp)
    again = await apply_plan(plan(desired, outcome.put, []), host.drivers, Protection())
    assert (sorted(again.put), again.daemon_lost) == (["a", "c"], "")


async def test_a_driver_whose_events_end_by_a_defect_ends_the_set_s(host: Host) -> None:
    before: tuple[DriverEvent, ...] = ()

    class Broken(FakeDriver):
        async def events(self) -> AsyncIterator[DriverEvent]:
            for event in before:
                yield event
            raise ValueError("a defect")

    broken = DriverSet([HostedDriver("strongswan", ("ipsec",), Broken())])
    with pytest.raises(ValueError, match="a defect"):
        await asyncio.wait_for(anext(broken.events()), 60)
