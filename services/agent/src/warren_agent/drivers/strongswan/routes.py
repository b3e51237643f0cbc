"""The routes by which packets reach kernel-libipsec, and what happens when somebody has removed them.

charon installs a route of table 220 with the first CHILD_SA of a policy, and never looks at it again: a flush of the table, or the
device being set down, leaves SAs that nothing enters. A rekeying does not bring the route back, since charon keeps the policy and
takes its route for installed (kernel_libipsec_ipsec.c, install_route); only the end of the policy's last CHILD_SA does. So these are
closed, and the tunnel is started again: nothing was leaving by them anyway.

XFRM needs no such routes: its policies are looked up whatever the route.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import structlog

from warren_agent.drivers.port import DriftFound, KernelGuard
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.sas import GOING, IkeSa, parse_selectors
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import GuardError
from warren_contracts.status import ReasonCode

log = structlog.get_logger()

Network = IPv4Network | IPv6Network
LIBIPSEC = "kernel-libipsec"
SHOWN = 5
"""Networks in a reason."""

Read = Callable[[Iterable[str]], Awaitable[Mapping[str, Sequence[IkeSa]]]]
Close = Callable[[str, Sequence[IkeSa], frozenset[str]], Awaitable[None]]


class RouteAudit:
    """Compares the routes with the CHILD_SAs of charon whenever it is `due`. With `correct` false it only reports."""

    def __init__(
        self,
        records: Mapping[str, TunnelRecord],
        read: Read,
        close: Close,
        emit: Callable[[DriftFound], None],
        *,
        correct: bool,
    ) -> None:
        self._records, self._read, self._close, self._emit, self._correct = records, read, close, emit, correct
        self.guard: KernelGuard | None = None
        self.due = True
        """Something of the host's links or routes may have changed."""
        self._explained: dict[str, str] = {}
        self._reported = ""

    async def audit(self, abilities: CharonAbilities | None) -> None:
        """Look for routes that are missing, and have their tunnels started again.

        Raises:
            DriverError: charon does not answer.
        """
        guard = self.guard
        if not (self.due or self._explained) or guard is None or abilities is None or LIBIPSEC not in abilities.plugins:
            return
        self.due = False
        before = {name: carried(record.sas) for name, record in self._records.items()}
        try:
            routes = await _routes(guard) if any(before.values()) else None
        except GuardError as error:
            self._note_unreadable(str(error))
            return
        self._reported = ""
        if routes is None:
            return
        suspect = {name: lost for name, all_of in before.items() if (lost := missing(all_of, routes))}
        # of what charon has closed it has removed the routes itself
        after = await self._read(list(suspect)) if suspect else {}
        found = {name: lost for name, sas in after.items() if (lost := suspect[name] & carried(sas))}
        self._explain({name: _text(lost) for name, lost in found.items()})
        for name, lost in found.items():
            if self._correct:
                await self._close(name, after[name], frozenset(it.child for it in lost))
            self._emit(DriftFound(name, ReasonCode.CONFIG_DRIFT, _text(lost), self._correct))

    def _note_unreadable(self, error: str) -> None:
        self.due = True
        if self._reported != error:
            log.warning("strongswan.routes_unreadable", error=error)
        self._reported = error

    def _explain(self, found: Mapping[str, str]) -> None:
        """While this is only reported, it is the reason of its tunnels."""
        if self._correct:
            return
        for name in self._explained.keys() - found.keys():
            if name in self._records and self._records[name].reason is ReasonCode.CONFIG_DRIFT:
                self._records[name].clear_reason()
        for name, text in found.items():
            self._records[name].explain(ReasonCode.CONFIG_DRIFT, text)
        self._explained = dict(found)


class Carried(NamedTuple):
    """A network that a CHILD_SA carries packets to."""

    child: str
    unique_id: int
    network: Network


def carried(sas: Iterable[IkeSa]) -> frozenset[Carried]:
    """The remote networks of the CHILD_SAs that are installed. A range that is not one network has a wider route."""
    return frozenset(
        Carried(child.handle.child, child.unique_id, selector.networks[0])
        for sa in sas
        if sa.state not in GOING
        for child in sa.children
        if child.state == "INSTALLED" and child.handle is not None
        for selector in parse_selectors(child.remote_ts)
        if len(selector.networks) == 1
    )


def missing(all_of: Iterable[Carried], routes: Collection[Network]) -> frozenset[Carried]:
    """Those without a route."""
    return frozenset(it for it in all_of if it.network not in routes)


def _text(lost: Iterable[Carried]) -> str:
    networks = sorted({str(it.network) for it in lost})
    more = f" and {len(networks) - SHOWN} more" if len(networks) > SHOWN else ""
    return (
        f"its routes were missing in table 220 ({', '.join(networks[:SHOWN])}{more}):"
        " somebody has flushed them, or set the device of the tunnels down"
    )


async def _routes(guard: KernelGuard) -> frozenset[Network] | None:
    """None: charon uses another table. Imports what a healthy host rarely needs."""
    from warren_contracts.tunnel_routes import TunnelRoutesReply, TunnelRoutesRequest

    reply = await guard.exchange(TunnelRoutesRequest(), TunnelRoutesReply)
    return frozenset(route.destination for route in reply.routes) if reply.in_use else None
