"""The strongSwan driver: tunnels in, charon's connections and SAs out, with nothing in between on disk but the ledger.

Nothing is sent for a tunnel whose configuration has not changed. A changed one is loaded next to or into what runs, and
what runs is left alone until `start_tunnel` has brought up its successor (see connections.py and convergence.py).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime

import structlog

from warren_agent.drivers.addresses import Owns, host_owns, with_own_addresses
from warren_agent.drivers.port import Bypassed, DaemonDown, DaemonUp, DriverEvent, Effect, KernelGuard
from warren_agent.drivers.strongswan.adopter import Adopter
from warren_agent.drivers.strongswan.auditor import Auditor, Repairs, run_audits
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import Charon
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.cleanup import SaCloser
from warren_agent.drivers.strongswan.connections import build_pools, parse_handle
from warren_agent.drivers.strongswan.convergence import DesiredHandles, missing_children
from warren_agent.drivers.strongswan.error_notify import Notification
from warren_agent.drivers.strongswan.errors import ViciCommandError
from warren_agent.drivers.strongswan.ledger import Ledger, handles
from warren_agent.drivers.strongswan.leftovers import Leftovers
from warren_agent.drivers.strongswan.loading import Loader
from warren_agent.drivers.strongswan.monitor import Monitor
from warren_agent.drivers.strongswan.reader import FEW, SaReader
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import CONNECTING
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.tunnel_table import TunnelTable
from warren_agent.drivers.strongswan.vici_codec import Section, text
from warren_agent.errors import DriverUnavailableError, UnknownTunnelError
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, ReasonCode, TrafficStats, TunnelStatus
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger()

CUT_NAME = 63  # bytes, at which the error-notify plugin cuts a name


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
        self._monitor = Monitor(paths.vici, paths.notify_socket, self)
        self._charon = Charon(paths.vici, self._monitor.suspect, ledger.owns)
        self._configuring = asyncio.Lock()  # one at a time changes what charon holds, or compares it with the ledger
        self._refresher = Refresher(self._refresh)
        self._table = TunnelTable(self._refresher, clock, now)
        self._records = self._table.tunnels
        self._reader = SaReader(self._charon, self._records)
        self._seed = key_seed
        self._ledger = ledger
        self._now = now
        self._owns = owns
        self._loader = Loader(self._charon, ledger, self._records, correct_drift)
        self._closer = SaCloser(self._charon, self._refresher, clock)
        self._auditor = Auditor(
            self._charon, ledger, self._loader, self._records, Repairs(self._load_key, self._renew),
            self._table.events.put_nowait, correct_drift,
        )  # fmt: skip
        self._leftovers = Leftovers(self._records, self._charon.spis, clock, ledger.path)
        self._adopter = Adopter(self._charon, self._records, self.start_tunnel, self._refresh)
        self._audit_due = asyncio.Event()
        self._key = ""  # its id in charon
        self._abilities: CharonAbilities | None = None
        self._last_abilities = CharonAbilities()
        self._tasks: list[asyncio.Task[None]] = []

    def use_guard(self, guard: KernelGuard | None) -> None:
        """Have this host's guard remove what a crashed charon has left in the kernel."""
        self._leftovers.guard = guard

    # the port

    async def initialize(self) -> None:
        self._ledger.load()
        self._leftovers.load()
        for name in self._ledger.names():
            self._track(name)
        auditing = run_audits(self._audit_due, self._audit, self._leftovers.sweep)
        self._tasks = [asyncio.create_task(it) for it in (self._monitor.run(), self._refresher.run(), auditing)]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def capabilities(self) -> DriverCapabilities:
        return self._present().document()

    def validate(self, config: Tunnel) -> None:
        check(config, self._abilities or self._last_abilities)

    async def pass_by(self, bypassed: Bypassed) -> bool:
        async with self._configuring:
            return await self._loader.shunts.put(bypassed, self._present())

    async def create_tunnel(self, config: Tunnel) -> Effect:
        async with self._configuring:
            return await self._put(config)

    async def update_tunnel(self, config: Tunnel) -> Effect:
        return await self.create_tunnel(config)

    async def delete_tunnel(self, name: str) -> None:
        async with self._configuring:
            self._present()
            record = self._records.get(name)
            await self._loader.unload(name)
            if record is not None and record.config is not None:
                await self._loader.unload_pools(build_pools(record.config).keys(), but=name)
            await self._closer.close_all(name, await self._reader.of(name))
            self._leftovers.lost([record] if record is not None else [])
            self._records.pop(name, None)
            self._loader.forget(name)

    async def start_tunnel(self, name: str) -> None:
        abilities = self._present()
        record = self._known(name)
        async with self._configuring:
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
            await self._audit()  # somebody has unloaded it
            await self._initiate(record)
        self._refresher.mark(name)

    async def _initiate(self, record: TunnelRecord) -> None:
        for child in missing_children(record.sas, record.desired):
            await self._charon.initiate(record.desired.connection, child)

    async def renew_tunnel(self, name: str) -> None:
        async with self._configuring:
            self._present()
            record = self._known(name)
            if record.config is None or not record.sas:
                return
            self._closer.presume_dead(record.sas)
            await self._renew(record)
        await self._refresh({name})

    async def _renew(self, record: TunnelRecord) -> None:
        """Load a tunnel in a new generation, so that its next start makes new SAs."""
        if record.config is not None:
            await self._loader.renew(record.config, self._present())
            self._track(record.name, record.config)
            await self._loader.unload(record.name, keep=record.desired.connection)
            self._refresher.mark(record.name)

    async def adopt(self, connection: str) -> str:
        self._present()
        return await self._adopter.adopt(connection)

    async def give_up(self, name: str, force: bool = False) -> bool:
        self._present()
        record = self._known(name)
        await self._refresh({name})
        if record.converged:
            return True
        if not force and any(sa.state in CONNECTING and sa.initiator and sa.answered for sa in record.sas):
            return False
        record.explain(ReasonCode.PEER_UNREACHABLE, "no answer to IKE_SA_INIT yet", over=True)
        await self._closer.close_stuck(record)
        self._refresher.mark(name)
        return True

    async def stop_tunnel(self, name: str, *, force: bool = False) -> None:
        self._present()
        self._known(name).clear_reason()
        await self._closer.close_all(name, await self._reader.of(name), force=force)
        self._refresher.mark(name)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        self._present()
        record = self._known(name)
        await self._refresh({name})
        return record.status(self._now())

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        self._audit_due.set()
        if self._abilities is not None:
            self._table.observe_all(await self._charon.sas(noblock=True), partial=True)
        now = self._now()
        return tuple(record.status(now) for record in self._records.values())

    async def statistics(self, name: str) -> TrafficStats:
        return (await self.tunnel_status(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return (await self.tunnel_status(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if teardown and self._abilities is not None:
            for name in list(self._records):
                await self.delete_tunnel(name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._loader.save()
        self._leftovers.save()
        await self._charon.close()

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            event = await self._table.events.get()
            if isinstance(event, BaseException):
                raise event
            yield event

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Pass on the defect that ended a task: without it the driver would stay silent."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._table.events.put_nowait(error)

    # configuration

    async def _put(self, given: Tunnel) -> Effect:
        abilities = self._present()
        config = with_own_addresses(given, self._owns)
        check(config, abilities)
        effect, sent = await self._loader.put(config, abilities)
        before = self._records.get(config.name)
        unused = build_pools(before.config).keys() - build_pools(config).keys() if before and before.config else ()
        record = self._track(config.name, config)
        record.last_reported = ()
        if sent:
            record.clear_reason()
            await self._loader.unload(config.name, keep=record.desired.connection)
            await self._loader.unload_pools(unused)
        self._refresher.mark(config.name)
        return effect

    def _track(self, name: str, config: Tunnel | None = None) -> TunnelRecord:
        """The record tunnel, with the newest names of the ledger."""
        entry = self._ledger.get(name)
        assert entry is not None
        desired = DesiredHandles(*handles(name, entry), owner=config is not None and config.initiator)
        record = self._records.setdefault(name, TunnelRecord(name, desired))
        record.want(desired, config)
        return record

    def _known(self, name: str) -> TunnelRecord:
        record = self._records.get(name)
        if record is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return record

    def _present(self) -> CharonAbilities:
        if self._abilities is None:
            raise DriverUnavailableError("charon does not answer; its tunnels are taken up again when it returns")
        return self._abilities

    # events of charon (monitor.Listener)

    async def came_up(self) -> None:
        async with self._configuring:
            await self._take_up()

    async def _take_up(self) -> None:
        abilities = await self._charon.abilities()
        self._key = await self._charon.load_key(self._seed, abilities)
        self._loader.find_loaded(await self._charon.list_connections())
        found = await self._charon.sas(foreign=True)
        for handle in (sa.handle for sa in found if sa.handle):
            self._ledger.saw_generation(handle.generation)
        sas = [sa for sa in found if sa.handle and self._ledger.owns(sa.handle)]
        self._loader.held = {sa.handle for sa in sas if sa.handle}
        for record in self._records.values():
            record.clear_reason()
        reloaded = await self._loader.resume(abilities)
        await self._closer.close_unknown(sas, self._records)
        self._abilities = self._last_abilities = abilities
        self._leftovers.returned()
        self._audit_due.set()
        self._table.observe_all(sas)
        log.info("strongswan.connected", version=abilities.version, tunnels=len(self._records), reloaded=reloaded)
        self._table.events.put_nowait(DaemonUp(abilities.version, str(self._charon.path), abilities.plugin_names))

    def went_down(self, detail: str, step: str) -> None:
        self._abilities = None
        self._leftovers.lost(self._records.values())
        log.warning("strongswan.unreachable", step=step, detail=detail)
        self._table.all_unreachable(detail)
        self._table.events.put_nowait(DaemonDown(detail, step))

    def handle_event(self, event: str, message: Section) -> None:
        foreign = [name for name in message if self._is_foreign(name)]
        if not foreign and not self._is_foreign(text(message, "ikesa-name")):
            self._table.handle_event(event, message)

    def _is_foreign(self, connection: str) -> bool:
        """Whether a name in an event looks like ours and is another's. A name that charon has cut cannot be distinguished."""
        handle = parse_handle(connection) if len(connection) < CUT_NAME else None
        return handle is not None and not self._ledger.owns(handle)

    async def _audit(self) -> None:
        """Compare what charon holds with the ledger; nothing while it is unreachable."""
        async with self._configuring:
            if self._abilities is not None:
                await self._auditor.audit(self._key)

    async def _load_key(self) -> None:
        self._key = await self._charon.load_key(self._seed, self._present())

    def handle_notification(self, notification: Notification) -> None:
        if self._is_foreign(notification.connection):
            return
        if notification.reason is ReasonCode.LOCAL_AUTH_FAILED:
            self._audit_due.set()  # the key may be missing
        self._table.handle_notification(notification)

    # SAs

    async def _refresh(self, names: Iterable[str]) -> None:
        """Read these tunnels again, report what changed, and close what is surplus."""
        if self._abilities is None:
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
