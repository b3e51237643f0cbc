"""Routes into the TUN device: the remote networks of all tunnels, whether they are up or not.

While a tunnel is down its packets are dropped in the data process, not sent in clear by another route.
"""

import asyncio
import json
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network

from warren_ikev2.addresses import IPAddress
from warren_ikev2.daemon.messages import TunnelSpecification
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.selectors import TrafficSelector

Network = IPv4Network | IPv6Network
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
"""What ip(8) calls `default`."""


class Routes:
    """The routes of a TUN device, and the virtual addresses on it, which are the routes' source.

    A virtual address stays for as long as its tunnel is specified, also while it is down: the kernel would remove the routes of a
    deleted source with it, and packets would leave in clear.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._wanted: dict[str, frozenset[Network]] = {}
        self._own: dict[str, frozenset[Network]] = {}
        """Local networks."""
        self._addresses: dict[str, tuple[IPAddress, ...]] = {}

    def addresses(self, name: str) -> tuple[IPAddress, ...]:
        """The virtual addresses that a tunnel has, or had last."""
        return self._addresses.get(name, ())

    async def set(self, specification: TunnelSpecification) -> None:
        """Add the routes of a tunnel, and delete those that it no longer needs. Raises `ConfigurationError`."""
        name = specification.name
        selectors = [ts for child in specification.children for ts in child.remote_ts]
        networks = networks_of((*selectors, *specification.pools))
        for address in specification.remote:
            if any(address in network for network in networks):
                raise ConfigurationError(f"remote_ts: holds the peer's own address {address}, whose route would loop")
        before = self._wanted.get(name, frozenset())
        self._wanted[name] = networks
        self._own[name] = networks_of(ts for child in specification.children for ts in child.local_ts)
        await self._add(name, networks - before)
        await self._delete(before - networks)
        if not specification.vips:
            await self.assign(name, ())

    async def assign(self, name: str, addresses: tuple[IPAddress, ...]) -> None:
        """Let a tunnel have these virtual addresses, and its routes use them. Raises `ConfigurationError`."""
        before = self._addresses.get(name, ())
        if addresses == before or name not in self._wanted:
            return
        for address in addresses:
            await self._check(address)
            await self._put_address(address)
        self._addresses[name] = addresses
        await self._add(name, self._wanted[name])
        await self._drop_addresses(before)

    async def remove(self, name: str) -> None:
        """Delete the routes and virtual addresses of a tunnel that no other tunnel needs."""
        self._own.pop(name, None)
        await self._delete(self._wanted.pop(name, frozenset()))
        await self._drop_addresses(self._addresses.pop(name, ()))

    async def restore(self) -> dict[str, tuple[Network, ...]]:
        """Put back what others have removed: the kernel removes the routes of a device that is set down. Returns the networks that
        had no route, by tunnel. Raises `ConfigurationError`.
        """
        missing = await self._missing()
        (link,) = json.loads(await run_ip("-json", "link", "show", "dev", self._device))
        if "UP" not in link["flags"]:
            await run_ip("link", "set", "dev", self._device, "up")
        elif not missing:
            return {}
        for address in {address for own in self._addresses.values() for address in own}:
            await self._put_address(address)
        for name, networks in missing.items():
            await self._add(name, networks)
        return missing

    async def _missing(self) -> dict[str, tuple[Network, ...]]:
        present: set[Network] = set()
        for version in (4, 6):
            for route in json.loads(await run_ip(f"-{version}", "-json", "route", "show", "dev", self._device) or "[]"):
                text = route["dst"]
                present.add(ip_network(_EVERYTHING[version] if text == "default" else text))
        wanted = {
            name: tuple(sorted(networks - present, key=str)) for name, networks in self._wanted.items()
        }  # fmt: skip
        return {name: networks for name, networks in wanted.items() if networks}

    async def _put_address(self, address: IPAddress) -> None:
        nodad = ["nodad"] if address.version == 6 else []
        await run_ip("address", "replace", f"{address}/{address.max_prefixlen}", "dev", self._device, *nodad)

    async def _add(self, name: str, networks: Iterable[Network]) -> None:
        virtual = {address.version: str(address) for address in self.addresses(name)}
        for network in sorted(networks, key=str):
            source = virtual.get(network.version) or await self._source(network.version, self._own[name])
            command = ["route", "replace", str(network), "dev", self._device, *(["src", source] if source else [])]
            await run_ip(f"-{network.version}", *command)

    async def _delete(self, networks: Iterable[Network]) -> None:
        needed = frozenset().union(*self._wanted.values())
        for network in networks:
            if network not in needed:
                await run_ip(f"-{network.version}", "route", "del", str(network), "dev", self._device, check=False)

    async def _drop_addresses(self, addresses: Iterable[IPAddress]) -> None:
        needed = {address for own in self._addresses.values() for address in own}
        for address in addresses:
            if address not in needed:
                prefix = f"{address}/{address.max_prefixlen}"
                await run_ip("address", "del", prefix, "dev", self._device, check=False)

    async def _source(self, version: int, own: frozenset[Network]) -> str:
        """An address of this host in the tunnel's local networks, so that its own packets match the selectors."""
        for _, interface in await self._interfaces(version):
            if any(interface.ip in network for network in own):
                return str(interface.ip)
        return ""

    async def _check(self, address: IPAddress) -> None:
        """Refuse a virtual address that would take traffic of this host: a peer that has authenticated may still be wrong."""
        if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
            raise ConfigurationError(f"vips: the peer assigns {address}, which is not a unicast address of a network")
        for device, interface in await self._interfaces(address.version):
            if device != self._device and address in interface.network:
                raise ConfigurationError(
                    f"vips: the peer assigns {address}, of this host's network {interface.network}"
                )

    @staticmethod
    async def _interfaces(version: int) -> list[tuple[str, IPv4Interface | IPv6Interface]]:
        """The host's addresses with their networks, and the device of each."""
        listed = json.loads(await run_ip("-json", f"-{version}", "address", "show"))
        return [
            (str(link.get("ifname", "")), ip_interface(f"{entry['local']}/{entry['prefixlen']}"))
            for link in listed
            for entry in link.get("addr_info", ())
        ]


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
