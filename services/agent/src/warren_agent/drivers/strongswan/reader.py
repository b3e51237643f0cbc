"""Reading a tunnel's SAs so that what charon does meanwhile looks like no loss.

charon's answer is not a snapshot of one moment. Each generation of a tunnel is asked for by its own command, and list-sas walks
a table in which others change places: it waits for an IKE_SA that is being rekeyed, and finds it without its children, while
their new IKE_SA was put where the walk had been before (ike_sa_manager.c, ike_rekey.c). So a loss is believed when a second
reading says the same; then the first one's cause is over, since the answer had waited for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles, carrying_children, is_converged
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord

# Up to so many tunnels are read one by one (1 to 3 ms each); above it, all at once (60 ms for 1,000).
FEW = 16


class SaSource(Protocol):
    """What `Charon` has of it."""

    async def sas(self, connection: HandleName | None = None) -> list[IkeSa]:
        """The IKE_SAs of one connection, or all of ours."""


def is_loss(before: Sequence[IkeSa], after: Sequence[IkeSa], desired: DesiredHandles) -> bool:
    """Whether a tunnel that carried traffic, or was converged, is not or does not any more."""
    return bool(carrying_children(before) and not carrying_children(after)) or (
        is_converged(before, desired) and not is_converged(after, desired)
    )


class SaReader:
    """Reads the SAs of record tunnels."""

    def __init__(self, charon: SaSource, tunnels: Mapping[str, TunnelRecord]) -> None:
        self._charon = charon
        self._tunnels = tunnels

    async def of(self, name: str) -> list[IkeSa]:
        """All IKE_SAs of a tunnel, of whatever generation; the oldest generation is read first."""
        record = self._tunnels.get(name)
        known = {sa.handle for sa in record.sas if sa.handle} | {record.desired.connection} if record else set()
        if not known:
            return [sa for sa in await self._charon.sas() if sa.handle and sa.handle.tunnel == name]
        return [sa for handle in sorted(known) for sa in await self._charon.sas(handle)]

    async def read(self, names: Iterable[str]) -> dict[str, list[IkeSa]]:
        """The IKE_SAs of these tunnels, what is lost looked at twice."""
        found = await self._read_once(list(names))
        doubtful = [name for name, sas in found.items() if self._is_loss(name, sas)]
        return found | await self._read_once(doubtful) if doubtful else found

    def _is_loss(self, name: str, sas: Sequence[IkeSa]) -> bool:
        record = self._tunnels.get(name)
        return record is not None and is_loss(record.sas, sas, record.desired)

    async def _read_once(self, names: Sequence[str]) -> dict[str, list[IkeSa]]:
        if len(names) <= FEW:
            return {name: await self.of(name) for name in names}
        found: dict[str, list[IkeSa]] = {name: [] for name in names}
        for sa in await self._charon.sas():
            if sa.handle is not None and sa.handle.tunnel in found:
                found[sa.handle.tunnel].append(sa)
        return found
