"""Sends probes of IKE endpoints and waits for their answers."""

import asyncio
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from warren_agent.paths.ike_probe import IKE_PORT, SPI_SIZE, build_probe, parse_answer
from warren_contracts.addresses import Endpoint

OpenSocket = Callable[[int, int], socket.socket]  # family and type


class Prober(asyncio.DatagramProtocol):
    """One UDP socket for each address family, opened with the first probe."""

    def __init__(self, open_socket: OpenSocket = socket.socket) -> None:
        self._open_socket = open_socket
        self._opening = asyncio.Lock()
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}
        self._transports: dict[int, asyncio.DatagramTransport] = {}

    async def probe(self, endpoint: Endpoint, timeout_s: float) -> bool:
        """Whether an IKE endpoint, given by an address, answers in time. Never raises OSError: no route counts as no answer."""
        if isinstance(endpoint.host, str):
            return False
        spi, port = os.urandom(SPI_SIZE), endpoint.port or IKE_PORT
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[spi] = answer
        try:
            transport = await self._transport(endpoint.host)
            transport.sendto(build_probe(spi, port), (str(endpoint.host), port))
            async with asyncio.timeout(timeout_s):
                return await answer
        except (OSError, TimeoutError):
            return False
        finally:
            del self._waiting[spi]

    async def _transport(self, host: IPv4Address | IPv6Address) -> asyncio.DatagramTransport:
        async with self._opening:  # several probes begin at once
            found = self._transports.get(host.version)
            if found is None or found.is_closing():
                family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
                opened = self._open_socket(family, socket.SOCK_DGRAM)
                opened.setblocking(False)
                loop = asyncio.get_running_loop()
                found, _ = await loop.create_datagram_endpoint(lambda: self, sock=opened)
                self._transports[host.version] = found
            return found

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        answer = self._waiting.get(parse_answer(data) or b"")
        if answer is not None and not answer.done():
            answer.set_result(True)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error of some probe: it is not known of which, and its time-out follows."""

    def close(self) -> None:
        """Close the sockets."""
        for transport in self._transports.values():
            transport.close()
