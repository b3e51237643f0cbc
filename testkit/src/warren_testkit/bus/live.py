"""A fleet's truth on a real bus: publishes as policy and registry, and answers the agents' RPC, signed."""

from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType

from nats.aio.client import Client
from nats.aio.msg import Msg

from warren_bus.acknowledgement import Stored
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.publisher import Outgoing, publish, publish_atomic
from warren_contracts.documents import DirectoryPageRequest
from warren_service.callers import require_agent
from warren_testkit.bus.fleet import Fleet, SignedBytes
from warren_testkit.bus.servers import RealServer
from warren_testkit.bus.streams import declare_streams


class LiveFleet:
    """`async with LiveFleet(server, fleet):` declares the streams and serves whoami and directory."""

    def __init__(self, server: RealServer, fleet: Fleet) -> None:
        self.fleet = fleet
        self._server = server
        self._stack = AsyncExitStack()
        self.connections: dict[str, Connection] = {}
        self.calls: list[str] = []
        self.received: list[Msg] = []  # of agents, also what is refused

    async def __aenter__(self) -> "LiveFleet":
        for name in ("policy", "registry", "metrics", "streams"):
            connection = Connection(self._server.settings(name), name=name, inbox_prefix=inbox(name))
            self.connections[name] = await self._stack.enter_async_context(connection)
            await connection.wait_connected()
        await declare_streams(self._server)
        self.connections["registry"].on_connected(self._serve)
        self._serving: Client | None = None
        await self._serve()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def client(self, service: str) -> Client:
        return self.connections[service].client

    async def _serve(self) -> None:
        client = self.client("registry")
        if client is not self._serving:
            self._serving = client
            await client.subscribe("warren.v1.rpc.agent.*.*", cb=self._answer)
            await client.flush()

    async def _answer(self, message: Msg) -> None:
        self.received.append(message)
        peer, verb = message.subject.split(".")[4:6]
        require_agent(message.headers, peer)
        self.calls.append(message.subject)
        if verb == "whoami":
            answer = self.fleet.whoami(peer)
        else:
            answer = self.fleet.page(peer, DirectoryPageRequest.model_validate_json(message.data))
        await self.client("registry").publish(message.reply, answer.payload, headers=answer.headers)

    def _service(self, message: SignedBytes) -> str:
        return "policy" if message.subject.startswith("warren.v1.policy.") else "registry"

    async def publish(self, *messages: SignedBytes) -> None:
        """Store one after the other, with retries."""
        for message in messages:
            client = partial(self.client, self._service(message))
            await publish(client, message.subject, message.payload, message.headers)

    async def publish_batch(self, messages: list[SignedBytes]) -> Stored:
        """Store all or none."""
        outgoing = [Outgoing(message.subject, message.payload, message.headers) for message in messages]
        return await publish_atomic(self.client(self._service(messages[0])), outgoing)
