"""F14: a viewer held 400,000 subscriptions, 0.9 GB of the server's memory, and as many connections as it wanted.

The limits are of the account OPS. Agents are of another account: what a viewer takes is not theirs.
"""

import asyncio
from contextlib import suppress

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox
from warren_bus.settings import BusSettings
from warren_contracts.commands import Role
from warren_testkit.bus.accounts import Bus
from warren_testkit.bus.plain_client import plain_client
from warren_testkit.waiting import eventually

MOST_SUBSCRIPTIONS = 64
MOST_CONNECTIONS = 512
AT_ONCE = 16


async def connected(settings: BusSettings) -> Client | None:
    """One connection; None: the server refused it."""
    return await plain_client(settings.servers[0], nkeys_seed_str=settings.key().seed, allow_reconnect=False)


def viewer(bus: Bus) -> BusSettings:
    """The credential of a viewer."""
    settings, nkey = bus.server.new_agent("eve")
    bus.callout.operators[nkey] = ("eve", Role.VIEWER)
    return settings


async def test_a_viewer_has_few_subscriptions_and_others_keep_theirs(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    client: Client = await eventually(lambda: connected(viewer(bus)))  # the callout may be too slow for the server
    for _ in range(MOST_SUBSCRIPTIONS + 100):
        with suppress(NatsError):
            await client.subscribe(f"{inbox('op.eve')}.x")
    await eventually(lambda: client.is_closed, what="the server closes the connection of too many subscriptions")
    assert "maximum subscriptions exceeded" in bus.server.log()
    await agent.flush()
    assert agent.is_connected
    again: Client = await eventually(
        lambda: connected(viewer(bus))
    )  # that connection, and not the operator, is refused
    await again.close()


@pytest.mark.timeout(300)
async def test_a_viewer_has_few_connections_and_agents_still_come_in(bus: Bus) -> None:
    settings, opened = viewer(bus), list[Client]()
    try:
        while "maximum account active connections exceeded" not in bus.server.log():
            made = await asyncio.gather(*(connected(settings) for _ in range(AT_ONCE)))
            opened += [client for client in made if client is not None]
            assert len(opened) <= MOST_CONNECTIONS
        assert (await bus.agent("gw1", "hub")).is_connected
    finally:
        await asyncio.gather(*(client.close() for client in opened))
