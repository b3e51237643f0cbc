"""The catalogue of drivers: strongSwan is built in, other kinds come by entry points."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from warren_agent.drivers import catalogue
from warren_agent.drivers.catalogue import DriverContext, DriverKind, find, kinds
from warren_agent.drivers.port import Driver, DriverEvent
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.errors import BadSettingError, UnknownDriverError
from warren_agent.setting import Setting
from warren_agent.settings import check_settings
from warren_testkit.agent.driver_contract import DriverContract
from warren_testkit.agent.fake_driver import FakeDriver
from warren_testkit.intent import ipsec_tunnel

FAKE = DriverKind(
    lambda context: FakeDriver(),
    links=("memory",),
    settings=(Setting("fake_socket", "WARREN_FAKE", "--fake", "/run/fake", "a socket"),),
)
NOT_A_KIND = "a text"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution next to the agent that registers the in-memory driver and two broken kinds."""
    folder = tmp_path / "fake_driver-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-driver\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        f"[{catalogue.GROUP}]\nmemory = {__name__}:FAKE\nwrong = {__name__}:NOT_A_KIND\nabsent = no_such_module:KIND\n"
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.syspath_prepend(tmp_path)


def context(folder: Path, **settings: str) -> DriverContext:
    return DriverContext(settings, folder, b"\x07" * 32)


def test_strongswan_is_built_in_with_its_settings(tmp_path: Path) -> None:
    kind = find("strongswan")
    assert {setting.name for setting in kind.settings} == {"vici_socket", "enfy_socket", "drift"}
    driver = kind.build(context(tmp_path, vici_socket="/run/charon.vici", enfy_socket=""))
    assert isinstance(driver, StrongswanDriver)
    with pytest.raises(BadSettingError, match="drift: 'repair' must be one of correct, observe"):
        kind.build(context(tmp_path, vici_socket="/run/charon.vici", drift="repair"))


@pytest.mark.usefixtures("installed")
def test_a_second_kind_is_found_by_its_entry_point(tmp_path: Path) -> None:
    assert {"memory", "strongswan"} <= set(kinds())
    assert isinstance(find("memory").build(context(tmp_path)), FakeDriver)
    settings = check_settings({"driver": "memory", "state": str(tmp_path)})
    assert settings.drivers == {"memory": {"fake_socket": "/run/fake"}}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", ["wrong", "absent", "none"])
def test_a_kind_that_is_broken_or_unknown_is_an_error_that_names_it(kind: str) -> None:
    with pytest.raises(UnknownDriverError, match=kind):
        find(kind)


def test_an_unknown_driver_is_a_wrong_setting_that_lists_the_installed_kinds() -> None:
    with pytest.raises(BadSettingError, match=r"unknown kind 'ipfw'; installed kinds: .*strongswan"):
        check_settings({"driver": "ipfw"})


def test_the_key_is_not_part_of_the_repr(tmp_path: Path) -> None:
    assert repr(context(tmp_path, vici_socket="x")) == f"DriverContext(state_folder={str(tmp_path)!r})"


@pytest.mark.usefixtures("installed")
def test_several_kinds_are_settings_of_one_host(tmp_path: Path) -> None:
    settings = check_settings({"driver": "strongswan, memory", "state": str(tmp_path)})
    assert list(settings.drivers) == ["strongswan", "memory"]
    assert settings.drivers["memory"] == {"fake_socket": "/run/fake"}


def test_two_drivers_for_one_kind_of_link_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    also_ipsec = DriverKind(lambda context: FakeDriver())
    monkeypatch.setattr(catalogue, "BUILT_IN", {**catalogue.BUILT_IN, "userspace": also_ipsec})
    with pytest.raises(BadSettingError, match="strongswan and userspace both serve ipsec links"):
        check_settings({"driver": "strongswan,userspace"})


def test_an_installed_kind_of_a_built_in_name_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shadow-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shadow\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[{catalogue.GROUP}]\nstrongswan = {__name__}:FAKE\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownDriverError, match="built in: uninstall it"):
        kinds()


class MemoryBench:
    """The in-memory driver as the catalogue builds it, and its events."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.accepted = ipsec_tunnel()
        self.refused = ipsec_tunnel(child={"mode": "transport"})
        self._events: list[DriverEvent] = []

    async def wait_for(self, desired: Callable[[DriverEvent], bool]) -> DriverEvent:
        for event in self._events:
            if desired(event):
                return event
        async with asyncio.timeout(60):
            async for event in self.driver.events():
                self._events.append(event)
                if desired(event):
                    return event
        raise AssertionError


class TestInstalledDriver(DriverContract):
    """The driver that an entry point registers passes the contract suite of drivers."""

    @pytest.fixture
    async def bench(self, installed: None, tmp_path: Path) -> AsyncIterator[MemoryBench]:
        bench = MemoryBench(find("memory").build(context(tmp_path)))
        await bench.driver.initialize()
        yield bench
        await bench.driver.cleanup()
