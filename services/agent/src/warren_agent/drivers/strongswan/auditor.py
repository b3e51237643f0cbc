"""Compares what charon holds with the ledger, and repairs it (see `audit_loop`)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog

from warren_agent.drivers.port import DriftFound
from warren_agent.drivers.strongswan.charon import CharonClient, ListedConnections
from warren_agent.drivers.strongswan.connections import HandleName, build_pools
from warren_agent.drivers.strongswan.drift import CharonHoldings, Drift, Expected, compare, digest, rivals
from warren_agent.drivers.strongswan.ledger import Ledger, handles
from warren_agent.drivers.strongswan.loading import Loader
from warren_agent.drivers.strongswan.negotiated import foreign_algorithms
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_contracts.status import ReasonCode

log = structlog.get_logger()


class Repairs(NamedTuple):
    """What the driver does: give charon the agent's key again, let the next start of a tunnel make new SAs, and have SAs replaced
    that carry less than their tunnel."""

    reload_key: Callable[[], Awaitable[None]]
    renew: Callable[[TunnelRecord], Awaitable[None]]
    replace_narrowed: Callable[[TunnelRecord], Awaitable[None]]


class Auditor:
    """The comparison and its repair. With `correct` false it only reports.

    `emit` takes the events. The caller of `audit` holds the lock of the driver's configuration.
    """

    def __init__(
        self,
        charon: CharonClient,
        ledger: Ledger,
        loader: Loader,
        records: Mapping[str, TunnelRecord],
        repairs: Repairs,
        emit: Callable[[DriftFound], None],
        correct: bool,
    ) -> None:
        self._charon = charon
        self._ledger = ledger
        self._loader = loader
        self._records = records
        self._repairs = repairs
        self._emit = emit
        self._correct = correct
        self._reported: dict[str, str] = {}  # by tunnel: what was said of it last
        self._rivals: dict[str, tuple[str, ...]] = {}
        self._agreed: tuple[int, Expected] | None = None  # the last comparison, if it found no drift
        self._renewed: dict[str, str] = {}  # by tunnel: the algorithms for which it was renewed

    async def audit(self, key: str) -> Drift:
        """Compare, report and repair once; returns what was found. `key` is the id of the agent's key in charon.

        Raises:
            DriverError: charon does not answer, or refuses the repair.
        """
        await self._loader.shunts.audit()
        self._loader.held = {sa.handle for record in self._records.values() for sa in record.sas if sa.handle}
        if self._correct:
            await self._loader.reload_doubtful()
        events, keys, pools = (
            await self._charon.connection_events(),
            await self._charon.keys(),
            await self._charon.pools(),
        )
        expected = self._expected(key)
        # With a hundred tunnels, parsing and comparing what is as it was would take more than all else in a report.
        compared = hash((*events, keys, pools)), expected
        foreign = self._foreign()
        if compared == self._agreed and not self._loader.unlisted and not foreign:
            await self._forget_former()
            return Drift()
        self._agreed = None
        held = CharonHoldings(ListedConnections(events), keys, pools, foreign)
        drift = compare(expected, held)
        self._remember(held, drift)
        self._report_rivals(rivals(held, expected, self._ledger.owns))
        if not drift:
            self._reported.clear()
            self._explain({})
            await self._forget_former()
            self._agreed = compared
            return drift
        found = {name: text for name, record in self._records.items() if (text := _text(drift, record))}
        corrected = False
        try:
            if self._correct:
                await self._repair(drift)
                corrected = True
        finally:
            self._report(drift, found, corrected)
        return drift

    async def _forget_former(self) -> None:
        """Forget former connections without SAs; all of charon's are read, since deleted tunnels may have some."""
        if self._ledger.has_former:
            held = {sa.handle for sa in await self._charon.sas() if sa.handle is not None}
            self._ledger.forget_former(held | self._loader.loaded)

    def _expected(self, key: str) -> Expected:
        loaded, levels = {}, {}
        for name, record in self._records.items():
            entry = self._ledger.get(name)
            if record.config is not None and entry is not None and record.reason is not ReasonCode.CONFIG_REFUSED:
                connection, children = handles(name, entry)
                loaded[connection] = children
                levels[connection] = entry.ike
        pools = frozenset(it for record in self._records.values() if record.config for it in build_pools(record.config))
        known = frozenset(record.desired.connection for record in self._records.values())
        return Expected(loaded, key, pools, known, self._loader.references, levels)

    def _foreign(self) -> dict[HandleName, str]:
        """The connections whose SAs have algorithms that they do not allow, and these. One is renewed for the same ones once:
        what charon does with our own configuration is not drift."""
        found = {}
        for name, record in self._records.items():
            used = foreign_algorithms(record.config, record.sas, record.desired) if record.config else ""
            if used and self._renewed.get(name) != used:
                found[record.desired.connection] = used
            elif not used:
                self._renewed.pop(name, None)
        return found

    def _remember(self, held: CharonHoldings, drift: Drift) -> None:
        """How connections are listed that were loaded since the last comparison, and are as they should be."""
        for handle in self._loader.unlisted - {*drift.missing, *drift.altered}:
            if (listed := held.connections.get(str(handle))) is not None:
                self._loader.remember(handle, digest(listed))
        self._loader.unlisted.clear()

    async def _repair(self, drift: Drift) -> None:
        if drift.key_missing:
            await self._repairs.reload_key()
        for handle in (*drift.missing, *drift.altered):
            await self._loader.reload(self._records[handle.tunnel])
        for handle in drift.altered:  # what was altered may have been negotiated
            await self._repairs.replace_narrowed(self._records[handle.tunnel])
        for handle, used in drift.negotiated.items():
            self._renewed[handle.tunnel] = used
            await self._repairs.renew(self._records[handle.tunnel])
        for pool in drift.pools:
            await self._loader.load_pool(pool)
        for handle in drift.leftover:
            log.warning("strongswan.leftover_unloaded", connection=str(handle))
            await self._charon.unload_connection(handle)
            self._loader.loaded.discard(handle)

    def _report(self, drift: Drift, found: Mapping[str, str], corrected: bool) -> None:
        fresh = {name: text for name, text in found.items() if self._reported.get(name) != text}
        self._reported = {} if corrected else dict(found)
        if fresh or drift.leftover:
            log.warning(
                "strongswan.drift", missing=len(drift.missing), altered=len(drift.altered),
                negotiated=len(drift.negotiated), leftover=len(drift.leftover),
                key_missing=drift.key_missing, cause=drift.cause, corrected=corrected,
            )  # fmt: skip
        if not self._correct:
            self._explain(found)
        for name, text in fresh.items():
            self._emit(DriftFound(name, ReasonCode.CONFIG_DRIFT, text, corrected))

    def _explain(self, found: Mapping[str, str]) -> None:
        """While drift is only reported, it is the reason of its tunnels."""
        for name, record in self._records.items():
            if name in found:
                record.explain(ReasonCode.CONFIG_DRIFT, found[name])
            elif record.reason is ReasonCode.CONFIG_DRIFT:
                record.clear_reason()

    def _report_rivals(self, found: dict[str, tuple[str, ...]]) -> None:
        for name, connections in found.items():
            if self._rivals.get(name) != connections:
                listed = ", ".join(connections)
                log.warning("strongswan.rival_connections", tunnel=name, connections=listed)
                detail = f"loaded by others with the same selectors: {listed}; unload it, or take it over with `warren-agent adopt`"
                self._emit(DriftFound(name, ReasonCode.RIVAL_CONNECTION, detail, corrected=False))
        self._rivals = found


def _text(drift: Drift, record: TunnelRecord) -> str:
    if record.config is None:
        return ""
    return drift.of_tunnel(record.name, build_pools(record.config))
