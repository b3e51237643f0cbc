"""What a crashed charon has left in the kernel: states, policies and routes of its former CHILD_SAs.

charon does not flush the kernel when it starts: what a crash leaves would encrypt for SPIs that nobody knows any more, until it
expires or, a policy, for ever. The driver notes on disk which CHILD_SAs charon has; those that are gone when charon is back
are orphans. What the kernel still holds of an orphan is removed by the guard, the only process that may.

An orphan may still carry traffic: the peer has the other half. It stays until the tunnel is up on new SAs, at most GRACE; that
of a tunnel that nobody wants any more goes at once.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import structlog

from warren_agent.drivers.port import TAKEOVER_AFTER, KernelGuard
from warren_agent.drivers.strongswan.connections import parse_handle
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import GuardError
from warren_agent.state.files import read_private, write_private

log = structlog.get_logger()

GRACE = TAKEOVER_AFTER  # s after charon's return; by then both ends have tried to bring the tunnel up
SUFFIX = ".sas"
SAVE_AFTER = 1.0  # s after a change of SAs
_SPI = re.compile("[0-9a-f]{8}")
MAX_ORPHANS = 4_096  # CHILD_SAs; beyond it the oldest are forgotten


class KnownSa(NamedTuple):
    """One CHILD_SA of charon: the name of its child, outer addresses, SPIs, and what its inbound policies are bound to."""

    child: str
    local: str
    remote: str
    spi_in: str
    spi_out: str
    if_id_in: int = 0
    mark_in: int = 0

    @property
    def tunnel(self) -> str:
        handle = parse_handle(self.child)
        return handle.tunnel if handle is not None else ""


class Leftovers:
    """The CHILD_SAs that charon has, on disk, and those that it has lost. `records` are the driver's tunnels by name."""

    def __init__(
        self,
        records: Mapping[str, TunnelRecord],
        live: Callable[[], Awaitable[frozenset[str]]],
        clock: Callable[[], float],
        ledger: Path | None = None,
    ) -> None:
        """`live` reads the SPIs of all CHILD_SAs that charon has, also of foreign ones. The file stands next to the ledger."""
        self._records = records
        self._live = live
        self._clock = clock
        self._path = ledger.with_suffix(SUFFIX) if ledger is not None else None
        self.guard: KernelGuard | None = None
        self._orphans: dict[KnownSa, None] = {}  # oldest first
        self._written = 0  # the hash of what is in the file
        self._returned = 0.0  # when charon did
        self._saving: asyncio.TimerHandle | None = None
        self._reported = ""

    @property
    def orphans(self) -> tuple[KnownSa, ...]:
        """The CHILD_SAs that a former charon had, of which the kernel may hold something."""
        return tuple(self._orphans)

    def load(self) -> None:
        """Read what charon had when the last agent wrote it. A damaged file is none."""
        data = read_private(self._path) if self._path is not None else None
        if data is None:
            return
        try:
            self._orphans = dict.fromkeys(_parse(data))
            self._written = hash(data)
        except (ValueError, TypeError) as error:
            log.warning("strongswan.sas_unreadable", file=str(self._path), error=str(error))

    def lost(self, records: Iterable[TunnelRecord]) -> None:
        """charon is unreachable, or is closing the SAs of these tunnels: the kernel may hold them longer than charon."""
        for sa in _present(records):
            self._orphans.pop(sa, None)
            self._orphans[sa] = None
        for sa in list(self._orphans)[: max(0, len(self._orphans) - MAX_ORPHANS)]:
            del self._orphans[sa]

    def returned(self) -> None:
        """charon is back."""
        self._returned = self._clock()

    def save_soon(self) -> None:
        """Note what charon has, shortly after a change of it."""
        if self._saving is None and self._path is not None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_AFTER, self.save)

    def save(self) -> None:
        """Note what charon has now, if that changed."""
        if self._saving is not None:
            self._saving.cancel()
        self._saving = None
        if self._path is None:
            return
        known = dict.fromkeys((*self._orphans, *_present(self._records.values())))
        data = "".join(f"{json.dumps(sa, separators=(',', ':'))}\n" for sa in known).encode()
        if (digest := hash(data)) == self._written:
            return
        try:
            write_private(self._path, data)
            self._written = digest
        except OSError as error:
            log.error("strongswan.sas_not_written", error=error.strerror or str(error))

    async def sweep(self) -> None:
        """Have the guard remove what the kernel holds of orphans that are due; without a guard nothing is removed.

        Raises:
            DriverError: charon cannot be asked which CHILD_SAs it has.
        """
        self.save_soon()
        if not self._orphans or self.guard is None:
            return
        present = set(_present(self._records.values()))
        self._orphans = {sa: None for sa in self._orphans if sa not in present}
        live = await self._live() if self._orphans else frozenset()
        due = [sa for sa in self._orphans if self._is_due(sa) and not {sa.spi_in, sa.spi_out} & live]
        if not due:
            return
        try:
            removed = await _remove(self.guard, due)
        except GuardError as error:
            if self._reported != str(error):
                log.warning("strongswan.leftovers_not_removed", sas=len(due), error=str(error))
            self._reported = str(error)
            return
        self._reported = ""
        self._orphans = {sa: None for sa in self._orphans if sa not in due}
        if removed:
            log.warning("strongswan.leftovers_removed", sas=len(due), removed=removed)

    def _is_due(self, sa: KnownSa) -> bool:
        record = self._records.get(sa.tunnel)
        return record is None or record.converged or self._clock() - self._returned >= GRACE


async def _remove(guard: KernelGuard, sas: Iterable[KnownSa]) -> int:
    """How many states, policies and routes were removed. Imports what a healthy host never needs."""
    from warren_contracts.leftovers import LeftoversReply, LeftoversRequest, OwnedSa, RemoveLeftoversRequest

    owned = tuple(
        OwnedSa(
            local=ip_address(sa.local), remote=ip_address(sa.remote), spi_in=sa.spi_in, spi_out=sa.spi_out,
            if_id_in=sa.if_id_in, mark_in=sa.mark_in,
        )
        for sa in sas
    )  # fmt: skip
    found = await guard.exchange(LeftoversRequest(sas=owned), LeftoversReply)
    if not found.leftovers:
        return 0
    request = RemoveLeftoversRequest(sas=owned, leftovers=found.leftovers)
    return len((await guard.exchange(request, LeftoversReply)).leftovers)


def _present(records: Iterable[TunnelRecord]) -> Iterator[KnownSa]:
    for record in records:
        for sa in record.sas:
            for child in sa.children:
                if child.handle is not None and child.spi_in.strip("0"):
                    yield KnownSa(
                        str(child.handle), sa.local_host, sa.remote_host, child.spi_in, child.spi_out, child.if_id_in,
                        child.mark_in,
                    )  # fmt: skip


def _parse(data: bytes) -> Iterator[KnownSa]:
    for line in data.decode().splitlines()[-MAX_ORPHANS:]:
        child, local, remote, *spis, if_id, mark = json.loads(line)
        if len(spis) != 2 or not all(isinstance(it, str) and _SPI.fullmatch(it) for it in spis):
            raise ValueError("a line has no two SPIs")
        if not all(isinstance(it, int) and 0 <= it <= 0xFFFF_FFFF for it in (if_id, mark)):
            raise ValueError("a line has no interface id and mark")
        addresses = str(ip_address(local)), str(ip_address(remote))
        yield KnownSa(str(child), *addresses, spis[0], spis[1], if_id, mark)
