"""The strongSwan driver: tunnels in, charon's connections and SAs out, with nothing in between on disk but the ledger.

Nothing is sent for a tunnel whose configuration has not changed. A changed one is loaded next to or into what runs, and
what runs is left alone until `start_tunnel` has brought up its successor (see connections.py and convergence.py).
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime

import structlog

from warren_agent.drivers.addresses import Owns, host_owns
from warren_agent.drivers.port import ApplyEffect, Bypassed, Children, DriverEvent, KernelGuard
from warren_agent.drivers.strongswan.adopter import Adopter
from warren_agent.drivers.strongswan.audit_loop import AuditLoop
from warren_agent.drivers.strongswan.auditor import Auditor, Repairs
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.cleanup import SaCloser
from warren_agent.drivers.strongswan.configuration import TunnelConfiguration
from warren_agent.drivers.strongswan.convergence import missing_children
from warren_agent.drivers.strongswan.errors import ViciCommandError
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.leftovers import Leftovers
from warren_agent.drivers.strongswan.loading import Loader
from warren_agent.drivers.strongswan.monitor import Monitor
from warren_agent.drivers.strongswan.presence import CharonPresence, Parts
from warren_agent.drivers.strongswan.reader import FEW, SaReader
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.routes import RouteAudit
from warren_agent.drivers.strongswan.sas import CONNECTING
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.tunnel_table import TunnelTable
from warren_agent.drivers.tasks import DriverTasks
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, ReasonCode, TrafficStats, TunnelStatus
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger()


class StrongswanDriver:
    """See `warren_agent.drivers.port.Driver`. `key_seed` is this host's raw Ed25519 IKE key (32 bytes)."""

    def __init__(
        self,
        paths: StrongswanPaths,
        key_seed: bytes,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        owns: Owns = host_owns,
        correct_drift: bool = True,
    ) -> None:
        self._charon = CharonClient(paths.vici, lambda error: self._monitor.suspect(error), ledger.owns)
        self._refresher = Refresher(self._refresh)
        self._table = TunnelTable(self._refresher, clock, now)
        self._records = self._table.tunnels
        self._reader = SaReader(self._charon, self._records)
        self._ledger = ledger
        self._now = now
        self._loader = Loader(self._charon, ledger, self._records, correct_drift)
        self._closer = SaCloser(self._charon, self._refresher, clock)
        self._leftovers = Leftovers(self._records, self._charon.spis, clock, ledger.path)
        parts = Parts(self._charon, ledger, self._table, self._loader, self._closer, self._leftovers)
        self._presence = CharonPresence(parts, key_seed)
        self._monitor = Monitor(paths.vici, paths.notify_socket, self._presence)
        self._tunnels = TunnelConfiguration(parts, self._presence, self._reader, self._refresher, owns, now)
        repairs = Repairs(self._presence.load_key, self._tunnels.renew, self._tunnels.replace_narrowed)
        auditor = Auditor(
            self._charon, ledger, self._loader, self._records, repairs, self._table.events.put_nowait, correct_drift
        )
        self._routes = RouteAudit(
            self._records,
            self._reader.read,
            self._closer.close_children,
            self._table.events.put_nowait,
            correct=correct_drift,
        )
        self._audits = AuditLoop(self._presence, auditor, self._leftovers, self._routes)
        self._adopter = Adopter(self._charon, self._records, self.start_tunnel, self._refresh)
        self._tasks = DriverTasks(self._table.events)

    def use_guard(self, guard: KernelGuard | None) -> None:
        """Have this host's guard remove what a crashed charon has left in the kernel, and list the routes into tunnels."""
        self._leftovers.guard = self._routes.guard = guard

    # the port

    async def initialize(self) -> None:
        self._ledger.load()
        self._leftovers.load()
        for name in self._ledger.names():
            self._tunnels.track(name)
        self._tasks.start("charon-monitor", self._monitor.run())
        self._tasks.start("charon-reader", self._refresher.run())
        self._tasks.start("charon-audit", self._audits.run())

    async def capabilities(self) -> DriverCapabilities:
        return self._presence.present().document()

    def validate(self, config: Tunnel) -> None:
        check(config, self._presence.abilities or self._presence.last_abilities)

    async def pass_by(self, bypassed: Bypassed) -> bool:
        async with self._presence.configuring:
            return await self._loader.shunts.put(bypassed, self._presence.present())

    def routes_changed(self) -> None:
        self._routes.due = True
        self._presence.audit_due.set()

    async def create_tunnel(self, config: Tunnel) -> ApplyEffect:
        async with self._presence.configuring:
            return await self._tunnels.put(config)

    async def update_tunnel(self, config: Tunnel) -> ApplyEffect:
        return await self.create_tunnel(config)

    async def delete_tunnel(self, name: str) -> None:
        async with self._presence.configuring:
            await self._tunnels.delete(name)

    async def start_tunnel(self, name: str) -> None:
        abilities = self._presence.present()
        record = self._tunnels.known(name)
        async with self._presence.configuring:
            await self._loader.load_missing(record, abilities)
        await self._refresh({name})
        if record.converged:
            return  # it came up meanwhile: another initiate would make a second CHILD_SA
        await self._closer.close_stuck(record)
        record.attempt_explained = False
        try:
            await self._initiate(record)
        except ViciCommandError as error:
            if "not found" not in error.errmsg:
                raise
            await self._audits.compare()  # somebody has unloaded it
            await self._initiate(record)
        self._refresher.mark(name)

    async def _initiate(self, record: TunnelRecord) -> None:
        for child in missing_children(record.sas, record.desired):
            await self._charon.initiate(record.desired.connection, child)

    async def renew_tunnel(self, name: str) -> None:
        async with self._presence.configuring:
            await self._tunnels.renew_lost(name)
        await self._refresh({name})

    async def rekey_tunnel(self, name: str, *, ike: bool = True, children: Children = None) -> None:
        self._presence.present()
        await self._refresh({name})
        record = self._tunnels.known(name)
        due = [("child", child.unique_id) for sa in record.sas for child in sa.carrying_of(children)]
        due += [("ike", sa.unique_id) for sa in record.sas if ike and sa.up]
        record.ordered = dict.fromkeys(due)
        for place, (kind, unique_id) in enumerate(due):
            if place == 0:
                record.ordered[kind, unique_id] = self._table.clock()
            await self._charon.rekey(kind, unique_id)
        self._refresher.mark(name)

    async def adopt(self, connection: str) -> str:
        self._presence.present()
        return await self._adopter.adopt(connection)

    async def give_up(self, name: str, force: bool = False) -> bool:
        self._presence.present()
        record = self._tunnels.known(name)
        await self._refresh({name})
        if record.converged:
            return True
        if not force and any(sa.state in CONNECTING and sa.initiator and sa.answered for sa in record.sas):
            return False
        record.explain(ReasonCode.PEER_UNREACHABLE, "no answer to IKE_SA_INIT yet", over=True)
        await self._closer.close_stuck(record)
        self._refresher.mark(name)
        return True

    async def stop_tunnel(self, name: str, *, force: bool = False, children: Children = None) -> None:
        self._presence.present()
        record = self._tunnels.known(name)
        if children is not None:
            await self._closer.close_children(name, await self._reader.of(name), children, force=force)
            return
        record.clear_reason()
        await self._closer.close_all(name, await self._reader.of(name), force=force)
        self._refresher.mark(name)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        self._presence.present()
        record = self._tunnels.known(name)
        await self._refresh({name})
        return record.status(self._now())

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        self._presence.audit_due.set()
        if self._presence.abilities is not None:
            self._table.observe_all(await self._charon.sas(noblock=True), partial=True)
        now = self._now()
        return tuple(record.status(now) for record in self._records.values())

    async def statistics(self, name: str) -> TrafficStats:
        return (await self.tunnel_status(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return (await self.tunnel_status(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if teardown and self._presence.abilities is not None:
            for name in list(self._records):
                await self.delete_tunnel(name)
        await self._tasks.stop()
        self._loader.save()
        self._leftovers.save()
        await self._charon.close()

    def events(self) -> AsyncIterator[DriverEvent]:
        return self._tasks.read_events()

    # SAs

    async def _refresh(self, names: Iterable[str]) -> None:
        """Read these tunnels again, report what changed, and close what is surplus."""
        if self._presence.abilities is None:
            return
        asked = frozenset(names)
        present = [name for name in asked if name in self._records]
        for some in [present] if len(present) > FEW else [[name] for name in present]:
            for name, sas in (await self._reader.read(some)).items():
                if name in self._records:
                    self._table.observe(self._records[name], sas)
        for name in present:
            if name in self._records:
                await self._closer.close_surplus(self._records[name])
        self._leftovers.save_soon()
        await self._closer.force(asked - self._records.keys())
