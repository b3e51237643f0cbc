"""Routes into the TUN device: the remote networks of all tunnels, whether they are up or not.

While a tunnel is down its packets are dropped in the data process, not sent in clear by another route.
"""

import asyncio
import json
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from warren_ikev2.daemon.messages import TunnelSpecification
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.selectors import TrafficSelector

Network = IPv4Network | IPv6Network


class Routes:
    """The routes of a TUN device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._wanted: dict[str, frozenset[Network]] = {}

    async def set(self, specification: TunnelSpecification) -> None:
        """Add the routes of a tunnel, and delete those that it no longer needs. Raises `ConfigurationError`."""
        networks = networks_of(ts for child in specification.children for ts in child.remote_ts)
        own = networks_of(ts for child in specification.children for ts in child.local_ts)
        for address in specification.remote:
            if any(address in network for network in networks):
                raise ConfigurationError(f"remote_ts: holds the peer's own address {address}, whose route would loop")
        before = self._wanted.get(specification.name, frozenset())
        self._wanted[specification.name] = networks
        for network in sorted(networks - before, key=str):
            source = await self._source(network.version, own)
            command = ["route", "replace", str(network), "dev", self._device, *(["src", source] if source else [])]
            await run_ip(f"-{network.version}", *command)
        await self._delete(before - networks)

    async def remove(self, name: str) -> None:
        """Delete the routes of a tunnel that no other tunnel needs."""
        await self._delete(self._wanted.pop(name, frozenset()))

    async def _delete(self, networks: Iterable[Network]) -> None:
        needed = frozenset().union(*self._wanted.values())
        for network in networks:
            if network not in needed:
                await run_ip(f"-{network.version}", "route", "del", str(network), "dev", self._device, check=False)

    async def _source(self, version: int, own: frozenset[Network]) -> str:
        """An address of this host in the tunnel's local networks, so that its own packets match the selectors."""
        listed = json.loads(await run_ip("-json", f"-{version}", "address", "show"))
        for link in listed:
            for entry in link.get("addr_info", ()):
                address = ip_address(entry["local"])
                if any(address in network for network in own):
                    return str(address)
        return ""


def networks_of(selectors: Iterable[TrafficSelector]) -> frozenset[Network]:
    """The networks of selectors."""
    return frozenset(network for selector in selectors for network in selector.networks())


async def run_ip(*arguments: str, check: bool = True) -> str:
    """Run ip(8). Raises `ConfigurationError` with its message if it fails and `check`."""
    process = await asyncio.create_subprocess_exec(
        "ip", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    if process.returncode and check:
        raise ConfigurationError(f"ip {' '.join(arguments)}: {error.decode(errors='replace').strip()}")
    return out.decode()
