"""Two gateways in network namespaces, joined by a veth pair, each with a charon of its own and a protected address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from warren_lab.lab import Lab
from warren_testkit.agent.control import Control
from warren_testkit.agent.process import AgentPair, GatewayAgent
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.certificates import server_tls
from warren_testkit.lab.gateways import Ends, Gateway, Watched

# strongSwan 6.0.1 and 6.1: before and after VICI's `alert` (6.0.3)
OTHER_SUITES = ("trixie", "sid")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `strongswans` runs against each version: this machine's, and in `make test-all` the others."""
    if metafunc.definition.get_closest_marker("strongswans") is not None:
        suites = [pytest.param(suite, marks=pytest.mark.sid, id=suite) for suite in OTHER_SUITES]
        metafunc.parametrize("charon_root", [pytest.param(None, id="here"), *suites], indirect=True)


@pytest.fixture
def charon_root(request: pytest.FixtureRequest, other_strongswan: Callable[[str], Path]) -> Path | None:
    """Where the charon of a Debian release is; None is this machine's."""
    suite = getattr(request, "param", None)
    return None if suite is None else other_strongswan(suite)


@pytest.fixture
def pair(lab: Lab, charon_root: Path | None) -> tuple[Gateway, Gateway]:
    """Two gateways whose charons are not started yet."""
    hub, spoke = Gateway(lab, "hub", 1, charon_root), Gateway(lab, "spoke", 2, charon_root)
    lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
    return hub, spoke


@pytest.fixture
async def hub(pair: tuple[Gateway, Gateway]) -> Gateway:
    """One gateway with a running charon."""
    await pair[0].start()
    return pair[0]


@pytest.fixture
async def both(pair: tuple[Gateway, Gateway]) -> tuple[Gateway, Gateway]:
    """Two gateways with running charons."""
    await asyncio.gather(pair[0].start(), pair[1].start())
    return pair


@pytest.fixture
async def ends(both: tuple[Gateway, Gateway]) -> AsyncIterator[Ends]:
    """A driver on each of two gateways with running charons."""
    hub, spoke = (Watched(gateway) for gateway in both)
    await asyncio.gather(hub.start(), spoke.start())
    yield hub, spoke
    await asyncio.gather(hub.stop(), spoke.stop())


@pytest.fixture
async def fleet(both: tuple[Gateway, Gateway], tmp_path: Path) -> AsyncIterator[AgentPair]:
    """A bus with a small control plane, and two enrolled agents at work next to their charons."""
    async with contextlib.AsyncExitStack() as stack:
        yield await open_fleet(stack, both, tmp_path, {})


@pytest.fixture
async def roaming_fleet(both: tuple[Gateway, Gateway], tmp_path: Path) -> AsyncIterator[AgentPair]:
    """As `fleet`, and the spoke announces no address."""
    async with contextlib.AsyncExitStack() as stack:
        yield await open_fleet(stack, both, tmp_path, {"WARREN_ENDPOINTS": ""})


async def open_fleet(
    stack: contextlib.AsyncExitStack, both: tuple[Gateway, Gateway], folder: Path, of_spoke: dict[str, str]
) -> AgentPair:
    """A control plane, and both agents at work; the stack takes it down."""
    server = await stack.enter_async_context(RealServer(folder, tls=server_tls(folder / "tls")))
    callout = await stack.enter_async_context(GrantingCallout(server))
    control = await stack.enter_async_context(Control(server, callout))
    hub, spoke = both
    peers = GatewayAgent(hub, control), GatewayAgent(spoke, control, more=of_spoke)
    for peer in peers:
        stack.callback(peer.print_log)
        stack.push_async_callback(peer.stop)
    await asyncio.gather(*(peer.enrol() for peer in peers))
    await asyncio.gather(*(peer.start() for peer in peers))
    return control, *peers
