"""Closing SAs that are not needed any more: surplus ones, those of removed tunnels, and those of unknown tunnels."""

from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.convergence import Termination, has_surplus, surplus
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import CONNECTING, IkeSa
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.tunnel_table import SURPLUS_CHECK

log = structlog.get_logger()

# s for the peer of a deleted tunnel to answer the DELETE; charon itself would wait 165 s
DELETE_LIMIT = 3.0


class SaCloser:
    """Closes IKE_SAs and CHILD_SAs by their unique ids."""

    def __init__(self, charon: CharonClient, refresher: Refresher, clock: Callable[[], float]) -> None:
        self._charon = charon
        self._refresher = refresher
        self._clock = clock
        self._dead: set[int] = set()  # IKE_SAs whose peer has forgotten them

    def presume_dead(self, sas: Iterable[IkeSa]) -> None:
        """The peer has forgotten these IKE_SAs: when they are closed, nobody waits for its answer."""
        self._dead |= {sa.unique_id for sa in sas}

    async def close_surplus(self, record: TunnelRecord) -> None:
        """Close what is surplus now, and look again later if there will be more."""
        for termination in surplus(record.sas, record.desired, record.converged_for(self._clock())):
            log.info("tunnel.superseded_sa_closed", tunnel=record.name, kind=termination.kind, id=termination.unique_id)
            dead = termination.kind == "ike" and termination.unique_id in self._dead
            await self._charon.terminate(termination, force=dead)
        if has_surplus(record.sas, record.desired):
            self._refresher.mark(record.name, after=SURPLUS_CHECK)

    async def close_stuck(self, record: TunnelRecord) -> None:
        """Close negotiations that this end began: another initiate would queue a second CHILD_SA behind them."""
        for sa in record.sas:
            if sa.state in CONNECTING and sa.initiator:
                record.given_up.add(sa.unique_id)
                await self._charon.terminate(Termination("ike", sa.unique_id), force=True)

    async def close_all(self, name: str, sas: Iterable[IkeSa], *, force: bool = False) -> None:
        """Close all IKE_SAs of a tunnel, and look again for those whose peer does not answer; with `force` wait for none."""
        for sa in sas:
            await self._charon.terminate(Termination("ike", sa.unique_id), force=force or not sa.up)
        self._refresher.mark(name, after=DELETE_LIMIT)

    async def close_children(
        self, name: str, sas: Iterable[IkeSa], children: Collection[str], *, force: bool = False
    ) -> None:
        """Close the CHILD_SAs of these children; their IKE_SAs stay."""
        for sa in sas:
            for child in sa.carrying_of(children):
                await self._charon.terminate(Termination("child", child.unique_id), force=force or not sa.up)
        self._refresher.mark(name)

    async def force(self, removed: Collection[str]) -> None:
        """Close IKE_SAs of removed tunnels whose peer has not answered the DELETE."""
        for sa in await self._charon.sas() if removed else []:
            if sa.handle is not None and sa.handle.tunnel in removed:
                await self._charon.terminate(Termination("ike", sa.unique_id), force=True)

    async def close_unknown(self, sas: Iterable[IkeSa], records: Mapping[str, TunnelRecord]) -> None:
        """Close SAs of tunnels that no record has.

        Without any record (a first start, or a lost ledger) SAs stay: a tunnel that is created takes them over.
        """
        for sa in sas if records else []:
            if sa.handle is not None and sa.handle.tunnel not in records:
                await self._charon.terminate(Termination("ike", sa.unique_id))
