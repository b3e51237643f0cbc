"""The addresses of the bus, which the agent must reach although a policy's selectors may cover them: from there comes the
policy that corrects such a one."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from warren_bus.settings import server_url
from warren_contracts.guard import Bypass

DEFAULT_PORT = 4222  # of NATS
LOOKUP_LIMIT_S = 2.0  # s for all names
MAX_ADDRESSES = 64


class BusAddresses:
    """Finds them; a name that cannot be resolved keeps the addresses that it had."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._known: dict[tuple[str, int], tuple[Bypass, ...]] = {}
        self.use(servers)

    def use(self, servers: Sequence[str]) -> None:
        """The servers from now on; those in use until now stay known, since a connection to one may last."""
        urls = [urlsplit(server_url(server)) for server in servers]
        self._servers = [(url.hostname or "", url.port or DEFAULT_PORT) for url in urls]

    async def __call__(self) -> tuple[Bypass, ...]:
        """The addresses now."""
        try:
            async with asyncio.timeout(LOOKUP_LIMIT_S):
                for server in self._servers:
                    self._known[server] = await _addresses(*server) or self._known.get(server, ())
        except TimeoutError:
            pass
        every = dict.fromkeys(entry for entries in self._known.values() for entry in entries)
        return tuple(every)[:MAX_ADDRESSES]


async def _addresses(host: str, port: int) -> tuple[Bypass, ...]:
    try:
        return (Bypass(address=ip_address(host), port=port),)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(Bypass(address=ip_address(str(entry[4][0]).partition("%")[0]), port=port) for entry in found)
