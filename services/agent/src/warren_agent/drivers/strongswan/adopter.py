"""Takes over a connection that a person made: the derived tunnel is brought up next to it, then it is removed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from warren_agent.drivers.strongswan.adoption import differences
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.connections import is_marked
from warren_agent.drivers.strongswan.convergence import DROP_AFTER, Termination
from warren_agent.drivers.strongswan.drift import selectors_of
from warren_agent.drivers.strongswan.negotiated import negotiated_differences
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import ConfigRefusedError, UnknownTunnelError

log = structlog.get_logger()

UP_LIMIT = 30.0  # s for the derived tunnel to come up
POLL = 0.2  # s


class Adopter:
    """`start` is one attempt to bring a tunnel up, `refresh` reads its SAs again."""

    def __init__(
        self,
        charon: CharonClient,
        records: Mapping[str, TunnelRecord],
        start: Callable[[str], Awaitable[None]],
        refresh: Callable[[set[str]], Awaitable[None]],
    ) -> None:
        self._charon = charon
        self._records = records
        self._start = start
        self._refresh = refresh

    async def adopt(self, connection: str) -> str:
        """See `warren_agent.drivers.port.Driver.adopt`."""
        record = await self._equal_tunnel(connection)
        await self._start(record.name)
        try:
            async with asyncio.timeout(UP_LIMIT):
                while not record.converged:
                    await self._refresh({record.name})
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise ConfigRefusedError(
                f"{connection} equals {record.name}, which did not come up in {UP_LIMIT:g} s"
                f" ({record.reason}: {record.detail}): {connection} stays as it is"
            ) from None
        await asyncio.sleep(DROP_AFTER)
        for sa in await self._charon.sas_named(connection):
            await self._charon.terminate(Termination("ike", sa.unique_id))
        await self._charon.unload_connection(connection)
        log.info("strongswan.connection_adopted", connection=connection, tunnel=record.name)
        return record.name

    async def _equal_tunnel(self, connection: str) -> TunnelRecord:
        listed = await self._charon.list_connections()
        theirs = listed.get(connection)
        if theirs is None:
            others = ", ".join(sorted(name for name, it in listed.items() if not is_marked(it))) or "none"
            raise UnknownTunnelError(f"{connection}: charon has no such connection; those of others: {others}")
        if is_marked(theirs):
            raise ConfigRefusedError(f"{connection}: it is the agent's own already")
        sas = await self._charon.sas_named(connection)
        refusals: list[tuple[bool, list[str], str]] = []
        for record in self._records.values():
            ours = listed.get(str(record.desired.connection))
            if ours is None or record.config is None:
                continue
            found = differences(ours, theirs) + negotiated_differences(record.config, sas)
            if not found:
                return record
            same_traffic = {*map(str, selectors_of(ours))} == {*map(str, selectors_of(theirs))}
            refusals.append((not same_traffic, found, record.name))
        if not refusals:
            raise ConfigRefusedError(f"{connection}: no tunnel is derived for this peer, so it equals none")
        _, found, name = min(refusals, key=lambda it: (it[0], len(it[1])))
        raise ConfigRefusedError(f"{connection} differs from {name}, the nearest tunnel: {'; '.join(found)}")
