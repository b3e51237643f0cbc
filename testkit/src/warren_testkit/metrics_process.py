"""`python -m warren_metrics` in a test: what agents publish to it, and what it answers, exposes and publishes."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from nats.errors import TimeoutError as NatsTimeout
from prometheus_client.parser import text_string_to_metric_families

from warren_bus.connection import Connection
from warren_bus.publisher import EventPublisher
from warren_bus.rpc import call
from warren_contracts import cloudevents, subjects
from warren_contracts.commands import GetTunnel
from warren_contracts.problems import NotFoundError
from warren_contracts.status import FleetTunnel
from warren_testkit.bus import RealServer
from warren_testkit.postgres import PostgresServer

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class MetricsProcess:
    """A metrics process, agents with their own rights, and a caller with the gateway's."""

    bus: RealServer
    database: PostgresServer
    process: Any
    api: Connection
    policy: Connection
    agents: dict[str, Connection]
    port: int

    async def say(self, peer: str, kind: str, body: Any) -> None:
        """As an agent does: acknowledged, with a random id."""
        publisher = EventPublisher(lambda: self.agents[peer].client, f"/peers/{peer}")
        await publisher.publish(subjects.telemetry(peer, kind), cloudevents.TELEMETRY_TYPES[kind], body)

    async def call(self, verb: str, request: Any, reply: Any) -> Any:
        return await call(self.api.client, subjects.rpc("metrics", verb), request, reply, timeout=20)

    async def tunnel(self, name: str) -> FleetTunnel | None:
        try:
            found: FleetTunnel = await self.call("tunnel", GetTunnel(name=name), FleetTunnel)
        except NotFoundError:
            return None
        return found

    async def scrape(self) -> Samples:
        def read() -> str:
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
                return str(answer.read().decode())

        text = await asyncio.to_thread(read)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def events(self, count: int) -> list[Any]:
        """The first messages on `warren.v1.event.metrics.>`, from the stream's beginning."""
        js = self.api.client.jetstream()
        reading = await js.pull_subscribe(
            f"{subjects.VERSION}.event.metrics.>", stream="EVENT", inbox_prefix=b"_INBOX.api."
        )
        seen: list[Any] = []
        async with asyncio.timeout(90):
            while len(seen) < count:
                with contextlib.suppress(NatsTimeout):
                    seen += await reading.fetch(count - len(seen), timeout=1)
        return seen
