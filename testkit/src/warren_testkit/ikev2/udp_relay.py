"""A client and a server of ours on 127.0.0.1, and between them a relay that may drop, repeat, damage or record datagrams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from warren_ikev2.aio import Client, ClientBuilder, Server, ServerBuilder, Session
from warren_ikev2.configuration import Retransmission

SECRET = b"a shared secret"
QUICK = Retransmission(timeout=0.1, base=1.0, tries=8)
LIMIT_SECONDS = 60.0
IKE_SA_INIT = 34  # the exchange type, at offset 18 of the header and 22 behind the non-ESP marker


class Relay(asyncio.DatagramProtocol):
    """Relay datagrams between one client and a server's port; `transform` returns the datagrams to send for each."""

    def __init__(self, target: int) -> None:
        self.transform: Callable[[bytes, bool], list[bytes]] = lambda data, to_server: [data]
        self.seen: list[tuple[bool, bytes]] = []
        self.addresses: dict[bool, tuple[str, int]] = {True: ("127.0.0.1", target)}
        self.transport: asyncio.DatagramTransport | None = None
        self.passed = asyncio.Event()
        """Set when a datagram is received; the test clears it."""

    def init_requests(self) -> set[bytes]:
        """The different IKE_SA_INIT requests that passed; a retransmission is the same bytes again."""
        return {data for to_server, data in self.seen if to_server and is_ike(data) and data[22] == IKE_SA_INIT}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        to_server = address != self.addresses[True]
        if to_server:
            self.addresses[False] = address
        self.seen.append((to_server, data))
        self.passed.set()
        assert self.transport is not None
        for piece in self.transform(data, to_server):
            self.transport.sendto(piece, self.addresses[to_server])


class Ends:
    """A client and a server, and the relay on the NAT traversal port between them."""

    def __init__(self, client: Client, server: Server, relay: Relay) -> None:
        self.client, self.server, self.relay = client, server, relay

    async def connect(self) -> tuple[Session, Session]:
        return await self.client.connect("127.0.0.1", timeout=LIMIT_SECONDS), await self.server.accept()


def client_builder() -> ClientBuilder:
    builder = Client.builder().with_psk(SECRET).with_local_id("left").with_remote_id("right")
    return builder.with_networks(["10.1.0.0/24"], ["10.2.0.0/24"]).with_retransmission(QUICK)


def server_builder() -> ServerBuilder:
    builder = Server.builder().with_psk(SECRET).with_local_id("right").with_remote_id("left")
    return builder.with_networks(["10.2.0.0/24"], ["10.1.0.0/24"]).with_retransmission(QUICK)


@contextlib.asynccontextmanager
async def ends(client: ClientBuilder | None = None, server: ServerBuilder | None = None) -> AsyncIterator[Ends]:
    async with await (server or server_builder()).bind("127.0.0.1", 0, 0) as bound:
        loop = asyncio.get_running_loop()
        transport, relay = await loop.create_datagram_endpoint(
            lambda: Relay(bound.natt_address.port), local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        built = (client or client_builder()).with_remote_ports(port, port).build()
        try:
            yield Ends(built, bound, relay)
        finally:
            await built.shutdown()
            transport.close()


def packet(number: int = 0, size: int = 0, *, back: bool = False) -> bytes:
    source, destination = ("10.2.0.1", "10.1.0.1") if back else ("10.1.0.1", "10.2.0.1")
    return bytes(IP(src=source, dst=destination, id=number) / UDP(sport=number) / Raw(bytes(size)))


async def exchange(first: Session, second: Session, number: int = 0) -> None:
    """One packet each way."""
    await first.send_packet(packet(number))
    await second.send_packet(packet(number, back=True))
    assert await asyncio.wait_for(second.recv_packet(), LIMIT_SECONDS) == packet(number)
    assert await asyncio.wait_for(first.recv_packet(), LIMIT_SECONDS) == packet(number, back=True)


async def until(session: Session, check: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not check():
            await session.changed()


def is_ike(data: bytes) -> bool:
    return data[:4] == bytes(4)
