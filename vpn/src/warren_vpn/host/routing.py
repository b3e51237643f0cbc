"""Addresses, routes and rules by netlink (pyroute2). Undoing what is not there succeeds."""

import errno
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_interface
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from warren_vpn.host.changes import UDP, AddressChange, Interface, LinkChange, RouteChange, RuleChange
from warren_vpn.host.errors import HostError

PROTOCOL = 87
"""Of our routes and rules (rt_protos): who lists them sees whose they are."""
_FAMILY = {4: AF_INET, 6: AF_INET6}
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})
_SCOPE_LINK, _LOOPBACK = 253, 1
_UP = 1  # IFF_UP
_NODAD = 0x02  # IFA_F_NODAD


class Routing:
    """One netlink socket. Open it with `open_routing`."""

    def __init__(self, netlink: AsyncIPRoute) -> None:
        self._netlink = netlink

    async def index_of(self, device: str) -> int | None:
        """The interface's index; None if there is none of this name."""
        found = await self._netlink.link_lookup(ifname=device)
        return int(found[0]) if found else None

    async def bring_up(self, device: str, settings: Mapping[str, int]) -> None:
        """Set the MTU and other attributes of a link, by pyroute2's names, and bring the device up. HostError."""
        with _explained(f"{device}: {', '.join(f'{name} {value}' for name, value in settings.items())}, up"):
            await self._netlink.link("set", index=await self._index(device), state="up", **settings)

    async def interfaces(self, without: str = "") -> list[Interface]:
        """The addresses of all interfaces that are up, but for loopback, link-local ones and those of the device `without`."""
        skipped = {_LOOPBACK, await self.index_of(without) if without else None}
        up = {int(link["index"]) async for link in await self._netlink.link("dump") if link["flags"] & _UP}
        found: list[Interface] = []
        async for entry in await self._netlink.addr("dump"):
            index = int(entry["index"])
            if index in skipped or index not in up or entry["scope"] >= _SCOPE_LINK:
                continue
            address = entry.get("IFA_LOCAL") or entry.get("IFA_ADDRESS")
            found.append(ip_interface(f"{address}/{entry['prefixlen']}"))
        return found

    async def counters(self, device: str) -> dict[str, int]:
        """Bytes and packets that went through a device since it was made; empty if there is none."""
        index = await self.index_of(device)
        if index is None:
            return {}
        link = (await self._netlink.link("get", index=index))[0]
        found = link.get("IFLA_STATS64") or {}
        names = {
            "bytes_in": "rx_bytes",
            "packets_in": "rx_packets",
            "bytes_out": "tx_bytes",
            "packets_out": "tx_packets",
        }
        return {name: int(found.get(field) or 0) for name, field in names.items()}

    async def apply_address(self, change: AddressChange) -> None:
        """Add the address. HostError."""
        with _explained(f"address {change.address} of {change.device}"):
            # without duplicate address detection, during which no route may have the address as its source
            flags = {"flags": _NODAD} if change.address.version == 6 else {}
            await self._netlink.addr("replace", index=await self._index(change.device), **_address(change), **flags)

    async def undo_address(self, change: AddressChange) -> None:
        """Delete the address."""
        index = await self.index_of(change.device)
        if index is not None:
            await self._delete(self._netlink.addr("del", index=index, **_address(change)))

    async def undo_link(self, change: LinkChange) -> None:
        """Delete the device."""
        index = await self.index_of(change.device)
        if index is not None:
            await self._delete(self._netlink.link("del", index=index))

    async def apply_route(self, change: RouteChange) -> None:
        """Add or replace the route. HostError."""
        route = _route(change)
        if change.device is not None:
            route["oif"] = await self._index(change.device)
            route["prefsrc"] = str(change.source)
        else:
            route["type"] = "unreachable"
        with _explained(f"route {change.network}"):
            await self._netlink.route("replace", **route)

    async def undo_route(self, change: RouteChange) -> None:
        """Delete the route."""
        kind = {} if change.device is not None else {"type": "unreachable"}
        await self._delete(self._netlink.route("del", **_route(change), **kind))

    async def apply_rule(self, change: RuleChange) -> None:
        """Add the rule unless it is there. HostError."""
        with _explained(f"rule {change.priority}"):
            try:
                await self._netlink.rule("add", **_rule(change))
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise

    async def undo_rule(self, change: RuleChange) -> None:
        """Delete the rule."""
        await self._delete(self._netlink.rule("del", **_rule(change)))

    async def _index(self, device: str) -> int:
        index = await self.index_of(device)
        if index is None:
            raise HostError(f"{device}: there is no such interface; something else removed it")
        return index

    async def _delete(self, request: Any) -> None:
        try:
            await request
        except NetlinkError as error:
            if error.code not in _GONE:
                raise HostError(f"netlink: {error}") from None


def _address(change: AddressChange) -> dict[str, Any]:
    return {"address": str(change.address.ip), "prefixlen": change.address.network.prefixlen}


def _route(change: RouteChange) -> dict[str, Any]:
    return {
        "family": _FAMILY[change.network.version], "dst": str(change.network), "table": change.table, "proto": PROTOCOL,
    }  # fmt: skip


def _rule(change: RuleChange) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "family": _FAMILY[change.version], "priority": change.priority, "table": change.table, "protocol": PROTOCOL,
    }  # fmt: skip
    if change.to is not None:
        rule |= {"dst": str(change.to.network_address), "dst_len": change.to.prefixlen}
    if change.remote_port is not None or change.local_port is not None:
        rule["ip_proto"] = UDP
    for name, port in (("dport_range", change.remote_port), ("sport_range", change.local_port)):
        if port is not None:
            rule[name] = f"{port}:{port}"
    return rule


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        remedy = "; run as root (CAP_NET_ADMIN)" if error.code in (errno.EPERM, errno.EACCES) else ""
        raise HostError(f"{what}: {error.args[-1]}{remedy}") from None


@asynccontextmanager
async def open_routing() -> AsyncIterator[Routing]:
    """A netlink socket for as long as the context lasts."""
    async with AsyncIPRoute() as netlink:
        yield Routing(netlink)
