"""ip(8): states and policies of XFRM (never their keys), XFRM interfaces, and routes of charon's table.

pyroute2 has no messages of XFRM states and policies, and would cost 13 MB for links and routes alone.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_interface

from warren_contracts.leftovers import Leftover
from warren_guard.domain.interfaces import ALIAS, KernelLinks, XfrmInterface
from warren_guard.domain.ip_xfrm import parse_policies, parse_routes, parse_states
from warren_guard.domain.leftovers import ROUTING_TABLE, CharonRoute, KernelIpsec, removal
from warren_guard.errors import IpError
from warren_process import host_command

_EVERYTHING = {"-4": "0.0.0.0/0", "-6": "::/0"}


async def run(*arguments: str, stdin: str = "") -> str:
    """The output of `ip`. IpError with its reason."""
    return await host_command.run("ip", *arguments, package="iproute2", error=IpError, stdin=stdin)


class HostIpsec:
    """The kernel of this process's network namespace."""

    async def read(self) -> KernelIpsec:
        """Its ESP SAs and policies, and the routes of charon's table. IpError if they cannot be read."""
        return KernelIpsec(
            tuple(parse_states(await run("xfrm", "state", "list", "nokeys"))),
            tuple(parse_policies(await run("-stats", "xfrm", "policy", "list"))),
            await self.tunnel_routes(),
        )

    async def tunnel_routes(self, *selector: str) -> tuple[CharonRoute, ...]:
        """The routes of charon's table. IpError if they cannot be read."""
        found: list[CharonRoute] = []
        for family, everything in _EVERYTHING.items():
            with contextlib.suppress(IpError):  # ip(8) fails while there is no such table
                text = await run("-json", family, "route", "show", "table", str(ROUTING_TABLE), *selector)
                found += parse_routes(text, everything)
        return tuple(found)

    async def remove(self, leftovers: Iterable[Leftover]) -> None:
        """Remove these; one that is already gone does not keep the others."""
        with contextlib.suppress(IpError):  # what remains is seen by reading again
            await run("-force", "-batch", "-", stdin="".join(f"{removal(it)}\n" for it in leftovers))

    async def surroundings(self, routes_of: str) -> KernelLinks:
        """XFRM interfaces, this host's addresses, and the routes of charon's table with this protocol. IpError as above."""
        try:
            links = json.loads(await run("-json", "-details", "link", "show"))
            addresses = json.loads(await run("-json", "address", "show"))
            return KernelLinks(
                tuple(_links(links)),
                tuple(
                    ip_interface(f"{it['local']}/{it['prefixlen']}").ip
                    for device in addresses
                    for it in device.get("addr_info", ())
                    if it.get("scope") == "global" and "local" in it
                ),
                await self.tunnel_routes("proto", routes_of),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IpError(f"ip: unreadable listing: {error}") from None

    async def devices_down(self, devices: Collection[str]) -> list[str]:
        """Those of these devices that exist and are down. IpError as above."""
        try:
            listed = json.loads(await run("-json", "link", "show"))
            return [it["ifname"] for it in listed if it["ifname"] in devices and "UP" not in it["flags"]]
        except (ValueError, KeyError, TypeError) as error:
            raise IpError(f"ip: unreadable listing: {error}") from None

    async def rules(self, family: int) -> list[dict[str, object]]:
        """The rules of routing of a family. IpError if they cannot be read."""
        try:
            listed = json.loads(await run("-json", "-details", f"-{family}", "rule", "show") or "[]")
        except ValueError as error:
            raise IpError(f"ip: unreadable listing: {error}") from None
        return [it for it in listed if isinstance(it, dict)]

    async def change_rules(self, family: int, lines: Sequence[str]) -> None:
        """Run these commands of one family up to the first that is refused. IpError with the reason."""
        await run(f"-{family}", "-batch", "-", stdin="".join(f"{line}\n" for line in lines))

    async def batch(self, lines: Sequence[str]) -> None:
        """Run these commands up to the first that is refused. IpError with the reason."""
        await run("-batch", "-", stdin="".join(f"{line}\n" for line in lines))


def _links(listed: Iterable[dict[str, object]]) -> Iterable[XfrmInterface]:
    for entry in listed:
        info = entry.get("linkinfo")
        if not isinstance(info, dict) or info.get("info_kind") != "xfrm":
            continue
        data = info.get("info_data")
        number = data.get("if_id", 0) if isinstance(data, dict) else 0
        flags = entry.get("flags")
        yield XfrmInterface(
            name=str(entry["ifname"]),
            if_id=int(number, 0) if isinstance(number, str) else int(number),
            is_ours=entry.get("ifalias") == ALIAS,
            is_up=isinstance(flags, list) and "UP" in flags,
        )
