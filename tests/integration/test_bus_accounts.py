"""The five accounts on a real server: services do their part, agents only theirs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_bus.connection import Connection
from warren_bus.permissions import inbox
from warren_bus.settings import BusSettings
from warren_bus.streams import STREAMS, declare, wait_for
from warren_bus.testing import GrantingCallout, RealServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    async with RealServer(tmp_path) as running, GrantingCallout(running):
        yield running


def connect(settings: BusSettings, name: str) -> Connection:
    return Connection(settings, name=name, inbox_prefix=inbox(name))


@pytest.mark.parametrize("owner", ["policy", "registry", "metrics"])
async def test_owners_declare_their_streams_twice_alike(server: RealServer, owner: str) -> None:
    async with connect(server.settings(owner), owner) as connection:
        js = (await connection.wait_connected()).jetstream()
        for spec in STREAMS.values():
            if spec.owner == owner:
                await declare(js, spec)
                await declare(js, spec)
                await wait_for(js, spec.name)
                config = (await js.stream_info(spec.name)).config
                assert config.subjects == list(spec.subjects)
