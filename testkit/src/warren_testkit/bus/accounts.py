"""The five accounts on a real server, for tests: agents and operators that connect, and what the server refuses them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts.commands import Role
from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.live import LiveFleet
from warren_testkit.bus.servers import GrantingCallout, RealServer
from warren_testkit.waiting import eventually


class Bus:
    """A server, a callout, the streams, and agents that connect."""

    def __init__(self, server: RealServer, callout: GrantingCallout, live: LiveFleet) -> None:
        self.server, self.callout, self.live = server, callout, live
        self.connections: list[Connection] = []
        self.errors: dict[str, list[str]] = {}

    async def agent(self, peer: str, *tags: str) -> Client:
        settings, nkey = self.server.new_agent(peer)
        self.callout.enrol(nkey, peer, tags)
        return await self._connect(settings, peer)

    async def operator(self, name: str, role: Role) -> Client:
        settings, nkey = self.server.new_agent(name)
        self.callout.operators[nkey] = (name, role)
        return await self._connect(settings, f"op.{name}")

    async def _connect(self, settings: BusSettings, name: str) -> Client:
        connection = Connection(settings, name=name, inbox_prefix=inbox(name))
        await connection.__aenter__()
        self.connections.append(connection)
        self.errors[name] = []
        connection.on_error(lambda error: self.errors[name].append(str(error)))
        return await connection.wait_connected()

    async def close(self) -> None:
        for connection in self.connections:
            await connection.__aexit__(None, None, None)

    async def refuses_publish(self, client: Client, name: str, *subjects_: str) -> None:
        """Wait until the server has said of every subject that this client may not publish there."""
        self.errors[name].clear()
        for subject in subjects_:
            await client.publish(subject, b"x")
        await self._refuses(name, "publish", subjects_)

    async def refuses_subscribe(self, client: Client, name: str, *subjects_: str) -> None:
        """The same for subscriptions."""
        self.errors[name].clear()
        opened = [await client.subscribe(subject) for subject in subjects_]
        await self._refuses(name, "subscription", subjects_)
        for subscription in opened:
            await subscription.unsubscribe()

    async def _refuses(self, name: str, what: str, subjects_: tuple[str, ...]) -> None:
        wanted = [f'permissions violation for {what} to "{subject.lower()}"' for subject in subjects_]

        def missing() -> list[str]:
            return [text for text in wanted if not any(text in error for error in self.errors[name])]

        try:
            await eventually(lambda: not missing())
        except AssertionError:
            raise AssertionError(f"not refused: {missing()}") from None


@asynccontextmanager
async def open_bus(folder: Path) -> AsyncIterator[Bus]:
    """A server of its own in `folder`, with a callout that grants what a test sets, and the streams declared."""
    async with RealServer(folder) as server, GrantingCallout(server) as callout, LiveFleet(server, Fleet()) as live:
        bus = Bus(server, callout, live)
        yield bus
        await bus.close()
