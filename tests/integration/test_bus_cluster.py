"""Three servers as one, by the same rendered file: replicated streams outlive any of them."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.publisher import publish
from warren_bus.settings import BusSettings
from warren_contracts import subjects
from warren_service.streams import POLICY
from warren_stack.server_config import Cluster
from warren_testkit.bus import RealServer, free_port
from warren_testkit.bus.certificates import server_tls
from warren_testkit.bus.streams import declare_streams
from warren_testkit.waiting import eventually
from warren_trust.certificates import Authority, make_authority

PASSWORD = "a-password-of-a-test"


def three(folder: Path) -> list[RealServer]:
    ports = [free_port() for _ in range(3)]
    urls = [f"nats-route://warren:{PASSWORD}@127.0.0.1:{port}" for port in ports]
    servers = []
    for number, port in enumerate(ports):
        others = urls[:number] + urls[number + 1 :]
        environ = {"ROUTE_PASSWORD": PASSWORD, "ROUTE_1": others[0], "ROUTE_2": others[1]}
        cluster = Cluster("warren", f"127.0.0.1:{port}", ("ROUTE_1", "ROUTE_2"))
        servers.append(
            RealServer(folder / f"n{number}", name=f"n{number}", cluster=cluster, keys=folder / "keys", environ=environ)
        )
    return servers


async def test_policy_is_stored_and_read_while_one_of_three_servers_is_dead(tmp_path: Path) -> None:
    servers = three(tmp_path)
    assert PASSWORD not in servers[0].config_file.read_text()
    async with AsyncExitStack() as stack:
        for server in servers:  # one after the other: if one fails, those before it are stopped
            await stack.enter_async_context(server)
        settings = BusSettings(tuple(server.url for server in servers), servers[0].keys / "policy.seed")
        connection = await stack.enter_async_context(Connection(settings, name="policy", inbox_prefix=inbox("policy")))
        await asyncio.wait_for(connection.wait_connected(), 120)
        await asyncio.wait_for(declare_streams(servers[0], POLICY, replicas=3, urls=settings.servers), 180)
        subject = subjects.policy("all")
        await publish(lambda: connection.client, subject, b"1", {"Nats-Msg-Id": "one"})
        info = await connection.client.jetstream().stream_info("POLICY")
        assert info.cluster is not None
        leader = next(server for server in servers if info.cluster and server.folder.name == info.cluster.leader)
        await leader.kill()
        stored = await publish(lambda: connection.client, subject, b"2", {"Nats-Msg-Id": "two"}, retries=6)
        assert not stored.duplicate
        client = await asyncio.wait_for(connection.wait_connected(), 120)
        answer = await client.request(f"$JS.API.DIRECT.GET.POLICY.{subject}", b"", timeout=30)
        assert answer.data in (b"1", b"2")  # a replica may lag (c16)


class Monitored(RealServer):
    """A server whose routes can be counted."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.monitoring = free_port()
        super().__init__(folder, (f'http: "127.0.0.1:{self.monitoring}"',), **options)

    async def routes(self) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            reply = await client.get(f"http://127.0.0.1:{self.monitoring}/routez")
        return int(reply.json()["num_routes"])


def two(folder: Path, authorities: tuple[Authority, Authority], trusted: Authority) -> list[Monitored]:
    """Two servers whose routes need TLS, each with a certificate of one CA; both trust `trusted` only."""
    ports = [free_port() for _ in range(2)]
    servers = []
    for number, (port, other) in enumerate(zip(ports, reversed(ports), strict=True)):
        tls = server_tls(folder / f"tls{number}", authorities[number], trusted=[trusted], for_clients=True)
        environ = {"ROUTE_PASSWORD": PASSWORD, "ROUTE_1": f"nats-route://warren:{PASSWORD}@127.0.0.1:{other}"}
        cluster = Cluster("warren", f"127.0.0.1:{port}", ("ROUTE_1",), tls)
        servers.append(
            Monitored(folder / f"n{number}", name=f"n{number}", cluster=cluster, keys=folder / "keys", environ=environ)
        )
    return servers


async def test_routes_are_made_by_tls_with_certificates_of_the_named_ca_only(tmp_path: Path) -> None:
    authority, other = make_authority(datetime.now(UTC)), make_authority(datetime.now(UTC))
    async with AsyncExitStack() as stack:
        foreign = two(tmp_path / "foreign", (authority, other), authority)
        good = two(tmp_path / "good", (authority, authority), authority)
        for server in (*foreign, *good):
            await stack.enter_async_context(server)

        async def routed() -> bool:
            return all([await server.routes() > 0 for server in good])

        await eventually(routed, 120, "a route", ignoring=(httpx.HTTPError,))
        refusal = "certificate signed by unknown authority"
        await eventually(lambda: any(refusal in server.log() for server in foreign), 120, "a refusal")
        assert [await server.routes() for server in foreign] == [0, 0]
