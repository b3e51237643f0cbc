"""What the tests on real parts share."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_lab.lab import Lab, can_make_namespaces
from warren_service.streams import POLICY
from warren_testkit.bus import RealServer
from warren_testkit.bus.accounts import Bus, open_bus
from warren_testkit.bus.streams import declare_streams

BUILD_FOLDER = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="session")
def other_strongswan() -> Callable[[str], Path]:
    """The folder with the strongSwan of another Debian release, by the release's name; skips where there is none."""

    def find(suite: str) -> Path:
        folder, reason = BUILD_FOLDER / suite, BUILD_FOLDER / f"{suite}.reason"
        if not (folder / "usr/lib/ipsec/charon").exists():
            said = (
                reason.read_text().strip() if reason.exists() else f"build/{suite} is not there; make test-all makes it"
            )
            pytest.skip(said)
        return folder

    return find


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where this process must not make network namespaces; for tests by `pytest.mark.usefixtures("namespaces")`."""
    if not can_make_namespaces():
        pytest.skip("needs root or a user namespace with capabilities")


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    """Namespaces of one test, which go with it."""
    with Lab("wi") as made:
        yield made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    """A nats-server of its own, with the accounts and nothing in them."""
    async with RealServer(tmp_path) as running:
        yield running


@pytest.fixture
async def policy_client(server: RealServer) -> AsyncIterator[Client]:
    """The policy service's connection to a server with the stream POLICY."""
    async with Connection(server.settings("policy"), name="policy", inbox_prefix=inbox("policy")) as connection:
        client = await connection.wait_connected()
        await declare_streams(server, POLICY)
        yield client


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """The five accounts on a real server, with the streams declared. (Tests of services have a bare server by this name.)"""
    async with open_bus(tmp_path) as bus:
        yield bus
