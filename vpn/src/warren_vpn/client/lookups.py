"""The addresses of the servers' names, as they are now: by the host's resolver while it is free, else by questions around the tunnel."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path

from warren_vpn.client.servers import ServerOrder
from warren_vpn.client.tunnel import HostTunnel
from warren_vpn.host.changes import Address
from warren_vpn.host.errors import UnresolvedNameError
from warren_vpn.host.questions import ask_system, open_questions, outside_servers

Outcome = tuple[Address, ...] | UnresolvedNameError


class Lookups:
    """Of one run of the client. `resolv_conf`: the resolver's file."""

    def __init__(self, tunnel: HostTunnel, resolv_conf: Path) -> None:
        self._tunnel, self._resolv_conf = tunnel, resolv_conf
        self._servers: tuple[Address, ...] = ()
        """The DNS servers that were found last: openresolv's file has only the tunnel's while these are exclusive."""

    async def refresh(self, order: ServerOrder) -> list[str]:
        """Look up the names of the servers. Returns what could not be, in words: such a name has its former addresses. HostError."""
        found = await self.find(order.names) if order.names else {}
        order.take({name: outcome for name, outcome in found.items() if isinstance(outcome, tuple)})
        return [str(outcome) for outcome in found.values() if not isinstance(outcome, tuple)]

    async def find(self, names: Sequence[str]) -> Mapping[str, Outcome]:
        """Look up names, all at once; each has addresses, or the reason why it has none. HostError: the host refuses a rule."""
        found: dict[str, Outcome] = {}
        if not self._tunnel.is_in_force:
            found = dict(zip(names, await asyncio.gather(*(_caught(ask_system(name)) for name in names)), strict=True))
        missing = [name for name in names if not isinstance(found.get(name), tuple)]
        self._servers = outside_servers(self._tunnel.changes, self._resolv_conf) or self._servers
        if missing and self._servers:
            async with open_questions(missing, self._servers) as (questions, passages), self._tunnel.passages(passages):
                answers = await asyncio.gather(*(_caught(question.ask()) for question in questions))
            found |= dict(zip(missing, answers, strict=True))
        for name in missing:
            found.setdefault(name, UnresolvedNameError(f"{name}: this host knows no DNS server outside of the tunnel"))
        return found


async def _caught(work: Awaitable[tuple[Address, ...]]) -> Outcome:
    try:
        return await work
    except UnresolvedNameError as error:
        return error
