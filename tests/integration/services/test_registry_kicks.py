"""Ending connections: all that a user has, however many pages the server needs to name them."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest
from nats.aio.client import Client

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts.commands import Role
from warren_registry.adapters.nats import system as system_module
from warren_registry.adapters.nats.system import ServerSystem
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.plain_client import plain_client
from warren_testkit.waiting import eventually

MANY = 50  # connections of one key
PAGE = 8  # of them in one answer


async def quiet(_: Exception) -> None:
    """Being thrown out is what this test waits for."""


@pytest.mark.parametrize("user", ["gw1", "op.ann"])
async def test_a_kick_ends_every_page_of_connections_and_nobody_elses(
    bus: RealServer, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_module, "FIRST_REPLY", 60.0)
    async with AsyncExitStack() as stack:
        callout = await stack.enter_async_context(GrantingCallout(bus))
        registry = Connection(bus.settings("registry"), name="registry", inbox_prefix=inbox("registry"))
        await stack.enter_async_context(registry)
        await registry.wait_connected()
        system = ServerSystem(registry, page=PAGE)
        settings, nkey = bus.new_agent("many")
        other, other_nkey = bus.new_agent("other")
        if user.startswith("op."):
            callout.operators |= {nkey: ("ann", Role.VIEWER), other_nkey: ("bob", Role.VIEWER)}
        else:
            callout.enrol(nkey, user, ())
            callout.enrol(other_nkey, "gw2", ())

        async def connect(seed: str) -> Client:
            connecting = partial(plain_client, bus.url, nkeys_seed_str=seed, allow_reconnect=False, error_cb=quiet)
            client: Client = await eventually(connecting)
            stack.push_async_callback(client.close)
            return client

        stays = await connect(other.key().seed)
        seed = settings.key().seed
        clients = await asyncio.gather(*(connect(seed) for _ in range(MANY)))
        account = "OPS" if user.startswith("op.") else "AGENTS"
        assert len(await system.connections(user, account)) == MANY
        assert await system.kick(user) == MANY
        assert await system.connections(user, account) == ()
        await eventually(lambda: all(client.is_closed for client in clients), what="the end of all connections")
        assert await system.kick(user) == 0
        assert stays.is_connected
        again = await connect(seed)
        assert [connection.user for connection in await system.connections(user, account)] == [user]
        assert again.is_connected
