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
from warren_agent.drivers.port import DaemonDown, DaemonUp, DriverEvent, Effect
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import Charon
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import HandleName, build_connection, build_pools, fingerprint
from warren_agent.drivers.strongswan.convergence import (
    DesiredHandles,
    Termination,
    has_surplus,
    missing_children,
    surplus,
)
from warren_agent.drivers.strongswan.error_notify import Notification
from warren_agent.drivers.strongswan.ledger import Entry, Ledger, handles, next_entry
from warren_agent.drivers.strongswan.monitor import Monitor
from warren_agent.drivers.strongswan.observer import SURPLUS_CHECK, TunnelTable
from warren_agent.drivers.strongswan.reader import FEW, SaReader
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import CONNECTING, IkeSa
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.drivers.strongswan.tracking import TunnelRecord
from warren_agent.drivers.strongswan.vici_codec import Section
from warren_agent.errors import DriverError, DriverUnavailableError, UnknownTunnelError
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, ReasonCode, TrafficStats, TunnelStatus
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger()

# s; the ledger is written this long after a change, once for all changes of a round. Should the agent be killed within
# it, the tunnels changed last are re-created next to the old ones, without a gap.
SAVE_AFTER = 0.2
# s for the peer of a deleted tunnel to answer the goodbye; charon itself would wait 165 s
GOODBYE_LIMIT = 3.0


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
    ) -> None:
        self._charon = Charon(paths.vici)
        self._monitor = Monitor(paths.vici, paths.notify_socket, self)
        self._refresher = Refresher(self._refresh)
        self._observer = TunnelTable(self._refresher, clock, now)
        self._tracked = self._observer.tunnels
        self._reader = SaReader(self._charon, self._tracked)
        self._seed = key_seed
        self._ledger = ledger
        self._clock = clock
        self._now = now
        self._owns = owns
        self._loaded: set[HandleName] = set()
        self._abilities: CharonAbilities | None = None
        self._last_abilities = CharonAbilities()
        self._tasks: list[asyncio.Task[None]] = []
        self._saving: asyncio.TimerHandle | None = None

    # the port

    async def initialize(self) -> None:
        self._ledger.load()
        for name in self._ledger.names():
            self._track(name)
        self._tasks = [
            asyncio.create_task(self._monitor.run(), name="vici-monitor"),
            asyncio.create_task(self._refresher.run(), name="vici-refresher"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def capabilities(self) -> DriverCapabilities:
        return self._present().document()

    def validate(self, config: Tunnel) -> None:
        check(config, self._abilities or self._last_abilities)

    async def create_tunnel(self, config: Tunnel) -> Effect:
        return await self._put(config)

    async def update_tunnel(self, config: Tunnel) -> Effect:
        return await self._put(config)

    async def delete_tunnel(self, name: str) -> None:
        self._present()
        tracked = self._tracked.get(name)
        for handle in [handle for handle in self._loaded if handle.tunnel == name]:
            await self._charon.unload_connection(handle)
            self._loaded.discard(handle)
        if tracked is not None and tracked.config is not None:
            await self._unload_pools(build_pools(tracked.config).keys(), but=name)
        await self._terminate_all(name)
        self._tracked.pop(name, None)
        self._ledger.remove(name)
        self._save_soon()
        self._refresher.mark(name, after=GOODBYE_LIMIT)

    async def start_tunnel(self, name: str) -> None:
        abilities = self._present()
        tracked = self._known(name)
        await self._load_missing(tracked, abilities)
        await self._refresh({name})
        if tracked.settled:
            return  # it came up meanwhile: another initiate would make a second CHILD_SA
        # On a negotiation that is stuck, another initiate would queue a second CHILD_SA.
        for sa in tracked.sas:
            if sa.state in CONNECTING and sa.initiator:
                await self._charon.terminate(Termination("ike", sa.unique_id), force=True)
        tracked.attempt_explained = False
        for child in missing_children(tracked.sas, tracked.wanted):
            await self._charon.initiate(tracked.wanted.connection, child)
        self._refresher.mark(name)

    async def stop_tunnel(self, name: str) -> None:
        self._present()
        self._known(name).clear_reason()
        await self._terminate_all(name)
        self._refresher.mark(name)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        self._present()
        tracked = self._known(name)
        await self._refresh({name})
        return tracked.status(self._now())

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        if self._abilities is not None:
            self._observer.observe_all(await self._charon.sas(noblock=True), partial=True)
        now = self._now()
        return tuple(tracked.status(now) for tracked in self._tracked.values())

    async def statistics(self, name: str) -> TrafficStats:
        return (await self.tunnel_status(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return (await self.tunnel_status(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if teardown and self._abilities is not None:
            for name in list(self._tracked):
                await self.delete_tunnel(name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._saving is not None:
            self._saving.cancel()
        self._save()
        await self._charon.close()

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            event = await self._observer.events.get()
            if isinstance(event, BaseException):
                raise event
            yield event

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that ended by a defect: whoever reads the events learns of it, a blind driver would be worse."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer.events.put_nowait(error)

    # configuration

    async def _put(self, given: Tunnel) -> Effect:
        abilities = self._present()
        config = with_own_addresses(given, self._owns)
        check(config, abilities)
        old = self._ledger.get(config.name)
        levels = fingerprint(config, abilities)
        fitting = old if old is not None and old.levels == levels else None
        if fitting is not None and handles(config.name, fitting)[0] in self._loaded:
            self._track(config.name, config).told = ()
            self._refresher.mark(config.name)
            return Effect.UNCHANGED
        entry = fitting or next_entry(old, levels, self._ledger.new_generation())
        assert entry is not None
        await self._load(config, entry, abilities)
        self._ledger.put(config.name, entry)
        before = self._tracked.get(config.name)
        unused = build_pools(before.config).keys() - build_pools(config).keys() if before and before.config else ()
        tracked = self._track(config.name, config)
        tracked.clear_reason()
        tracked.told = ()
        self._save_soon()
        await self._unload_older(config.name)
        await self._unload_pools(unused)
        self._refresher.mark(config.name)
        return _effect(old, entry)

    async def _unload_pools(self, pools: Iterable[str], but: str = "") -> None:
        """Take away pools that no tunnel uses besides the tunnel `but`."""
        others = (it.config for it in self._tracked.values() if it.config is not None and it.name != but)
        used = {pool for config in others for pool in build_pools(config)}
        for pool in set(pools) - used:
            await self._charon.unload_pool(pool)

    async def _load(self, config: Tunnel, entry: Entry, abilities: CharonAbilities) -> None:
        connection, children = handles(config.name, entry)
        for name, pool in build_pools(config).items():
            await self._charon.load_pool(name, pool)
        await self._charon.load_connection(build_connection(config, connection, children, abilities))
        self._loaded.add(connection)

    async def _unload_older(self, name: str) -> None:
        """A peer that negotiates again shall find the newest connection only; SAs of the older ones stay."""
        wanted = self._tracked[name].wanted.connection
        for handle in [handle for handle in self._loaded if handle.tunnel == name and handle != wanted]:
            await self._charon.unload_connection(handle)
            self._loaded.discard(handle)

    async def _terminate_all(self, name: str) -> None:
        for sa in await self._reader.of(name):
            await self._charon.terminate(Termination("ike", sa.unique_id), force=not sa.up)

    def _track(self, name: str, config: Tunnel | None = None) -> TunnelRecord:
        """The tracked tunnel, with the newest names of the ledger."""
        entry = self._ledger.get(name)
        assert entry is not None
        wanted = DesiredHandles(*handles(name, entry), owner=config is not None and config.initiator)
        tracked = self._tracked.setdefault(name, TunnelRecord(name, wanted))
        tracked.want(wanted, config)
        return tracked

    def _known(self, name: str) -> TunnelRecord:
        tracked = self._tracked.get(name)
        if tracked is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return tracked

    def _present(self) -> CharonAbilities:
        if self._abilities is None:
            raise DriverUnavailableError("charon does not answer; its tunnels are taken up again when it returns")
        return self._abilities

    def _save_soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_AFTER, self._save)

    def _save(self) -> None:
        self._saving = None
        try:
            self._ledger.save()
        except OSError as error:  # a full disk takes the memory of the next start, not the tunnels of this one
            log.error("strongswan.ledger_not_written", error=str(error))

    # what charon tells (monitor.Listener)

    async def came_up(self) -> None:
        abilities = await self._charon.abilities()
        await self._charon.load_key(self._seed)
        self._loaded = await self._charon.connections()
        sas = await self._charon.sas()
        for handle in [*self._loaded, *(sa.handle for sa in sas if sa.handle)]:
            self._ledger.saw_generation(handle.generation)
        for tracked in self._tracked.values():
            tracked.clear_reason()
        reloaded = await self._reload(abilities)
        await self._unload_unknown(sas)
        self._abilities = self._last_abilities = abilities
        self._observer.observe_all(sas)
        log.info("strongswan.connected", version=abilities.version, tunnels=len(self._tracked), reloaded=reloaded)
        self._observer.events.put_nowait(DaemonUp(abilities.version))

    async def _reload(self, abilities: CharonAbilities) -> int:
        """Give a charon that has restarted everything it had. What it refuses now (it may be another version, or have
        lost a plugin) is told of that tunnel, and keeps no other from being loaded."""
        reloaded = 0
        for tracked in [it for it in self._tracked.values() if it.config and it.wanted.connection not in self._loaded]:
            try:
                await self._load_missing(tracked, abilities)
                reloaded += 1
            except DriverUnavailableError:
                raise
            except DriverError as error:
                log.warning("tunnel.refused", tunnel=tracked.name, error=str(error))
        return reloaded

    async def _load_missing(self, tracked: TunnelRecord, abilities: CharonAbilities) -> None:
        """Load a tunnel that charon does not hold. DriverError, noted as the tunnel's reason, when it will not."""
        entry = self._ledger.get(tracked.name)
        if tracked.config is None or entry is None or tracked.wanted.connection in self._loaded:
            return
        try:
            check(tracked.config, abilities)
            await self._load(tracked.config, entry, abilities)
        except DriverUnavailableError:
            raise
        except DriverError as error:
            tracked.explain(ReasonCode.CONFIG_REFUSED, str(error))
            raise
        if tracked.reason is ReasonCode.CONFIG_REFUSED:
            tracked.clear_reason()

    async def _unload_unknown(self, sas: list[IkeSa]) -> None:
        """What an agent that was killed in between had loaded, and no ledger knows.

        With an empty ledger (a first start, or a lost one) SAs stay: a tunnel that is wanted takes them over.
        """
        known = {tracked.wanted.connection for tracked in self._tracked.values()}
        for handle in self._loaded - known:
            await self._charon.unload_connection(handle)
        self._loaded &= known
        for sa in sas if self._tracked else []:
            if sa.handle is not None and sa.handle.tunnel not in self._tracked:
                await self._charon.terminate(Termination("ike", sa.unique_id))

    def went_down(self, detail: str) -> None:
        self._abilities = None
        log.warning("strongswan.unreachable", detail=detail)
        self._observer.all_away(detail)
        self._observer.events.put_nowait(DaemonDown(detail))

    def heard(self, event: str, message: Section) -> None:
        self._observer.heard(event, message)

    def notified(self, notification: Notification) -> None:
        self._observer.notified(notification)

    # what charon holds

    async def _refresh(self, names: Iterable[str]) -> None:
        """Read these tunnels again, tell what changed, and close what is surplus."""
        if self._abilities is None:
            return
        asked = frozenset(names)
        present = [name for name in asked if name in self._tracked]
        for some in [present] if len(present) > FEW else [[name] for name in present]:
            for name, sas in (await self._reader.read(some)).items():
                if name in self._tracked:
                    self._observer.observe(self._tracked[name], sas)
        for name in present:
            if name in self._tracked:
                await self._close_surplus(self._tracked[name])
        await self._force_gone(asked - self._tracked.keys())

    async def _force_gone(self, names: frozenset[str]) -> None:
        """Deleted tunnels whose peer has not answered the goodbye."""
        for sa in await self._charon.sas() if names else []:
            if sa.handle is not None and sa.handle.tunnel in names:
                await self._charon.terminate(Termination("ike", sa.unique_id), force=True)

    async def _close_surplus(self, tracked: TunnelRecord) -> None:
        for termination in surplus(tracked.sas, tracked.wanted, tracked.settled_for(self._clock())):
            log.info(
                "tunnel.superseded_sa_closed", tunnel=tracked.name, kind=termination.kind, id=termination.unique_id
            )
            await self._charon.terminate(termination)
        if has_surplus(tracked.sas, tracked.wanted):
            self._refresher.mark(tracked.name, after=SURPLUS_CHECK)


def _effect(old: Entry | None, entry: Entry) -> Effect:
    if old is None:
        return Effect.CREATED
    if old.connection != entry.connection:
        return Effect.UPDATED_IKE
    return Effect.UPDATED_CHILD if old.children != entry.children else Effect.CREATED
