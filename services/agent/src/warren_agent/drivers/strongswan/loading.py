"""What charon was given: connections, children and pools, with the ledger that remembers them on disk."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from warren_agent.drivers.port import Effect
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import Charon
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import HandleName, build_connection, build_pools, fingerprint, offset
from warren_agent.drivers.strongswan.ledger import Entry, Ledger, handles, next_entry
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import DriverError, DriverUnavailableError
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger()

# s; the ledger is written this long after a change, once for all changes of a run. If the agent is killed within it, the
# tunnels changed last are re-created next to the old ones, without a gap.
SAVE_AFTER = 0.2


class Loader:
    """Loads configurations into charon and unloads them; SAs are not touched. `records` are the driver's tunnels by name."""

    def __init__(self, charon: Charon, ledger: Ledger, records: Mapping[str, TunnelRecord]) -> None:
        self._charon = charon
        self._ledger = ledger
        self._records = records
        self._loaded: set[HandleName] = set()  # connections
        self._saving: asyncio.TimerHandle | None = None

    def is_loaded(self, name: str, entry: Entry) -> bool:
        """Whether charon holds the connection of a ledger entry."""
        return handles(name, entry)[0] in self._loaded

    async def put(self, config: Tunnel, abilities: CharonAbilities) -> tuple[Effect, bool]:
        """Load a configuration unless charon holds it already; returns the effect and whether anything was sent.

        Raises:
            ConfigRefusedError: charon refuses it; the ledger is unchanged.
        """
        old = self._ledger.get(config.name)
        levels = fingerprint(config, abilities)
        fitting = old if old is not None and old.levels == levels else None
        if fitting is not None and self.is_loaded(config.name, fitting):
            return Effect.UNCHANGED, False
        entry = fitting or next_entry(old, levels, self._new_generation(config.name))
        assert entry is not None
        await self._load(config, entry, abilities)
        self._ledger.put(config.name, entry)
        self._save_soon()
        return _effect(old, entry), True

    def _new_generation(self, name: str) -> int:
        """The next generation, which charon distinguishes from those of every SA that the tunnel has."""
        record = self._records.get(name)
        sas = record.sas if record is not None else []
        held = [handle for sa in sas for handle in (sa.handle, *(it.handle for it in sa.children)) if handle]
        taken = {offset(handle.generation) for handle in held}
        while offset(generation := self._ledger.new_generation()) in taken:
            pass
        return generation

    async def _load(self, config: Tunnel, entry: Entry, abilities: CharonAbilities) -> None:
        connection, children = handles(config.name, entry)
        for name, pool in build_pools(config).items():
            await self._charon.load_pool(name, pool)
        await self._charon.load_connection(build_connection(config, connection, children, abilities))
        self._loaded.add(connection)

    async def unload(self, name: str, keep: HandleName | None = None) -> None:
        """Unload the connections of a tunnel, all but `keep`: a peer that negotiates again finds the newest one only."""
        for handle in [handle for handle in self._loaded if handle.tunnel == name and handle != keep]:
            await self._charon.unload_connection(handle)
            self._loaded.discard(handle)

    async def unload_pools(self, pools: Iterable[str], but: str = "") -> None:
        """Unload pools that no tunnel uses besides the tunnel `but`."""
        others = (it.config for it in self._records.values() if it.config is not None and it.name != but)
        used = {pool for config in others for pool in build_pools(config)}
        for pool in set(pools) - used:
            await self._charon.unload_pool(pool)

    def forget(self, name: str) -> None:
        """Remove a tunnel from the ledger."""
        self._ledger.remove(name)
        self._save_soon()

    async def load_missing(self, record: TunnelRecord, abilities: CharonAbilities) -> None:
        """Load a tunnel that charon does not hold.

        Raises:
            DriverError: charon refuses it; the reason is in the record.
        """
        entry = self._ledger.get(record.name)
        if record.config is None or entry is None or record.desired.connection in self._loaded:
            return
        try:
            check(record.config, abilities)
            await self._load(record.config, entry, abilities)
        except DriverUnavailableError:
            raise
        except DriverError as error:
            record.explain(ReasonCode.CONFIG_REFUSED, str(error))
            raise
        if record.reason is ReasonCode.CONFIG_REFUSED:
            record.clear_reason()

    async def resume(self, known: Iterable[HandleName], abilities: CharonAbilities) -> int:
        """Load everything that charon, which has restarted or was found running, does not hold; returns how many tunnels.

        What it refuses now (it may be another version, or have lost a plugin) is reported for that tunnel, and the others
        are loaded all the same. `known` are the names of its connections and SAs.
        """
        self._loaded = await self._charon.connections()
        for handle in (*self._loaded, *known):
            self._ledger.saw_generation(handle.generation)
        reloaded = 0
        for record in [it for it in self._records.values() if it.config and it.desired.connection not in self._loaded]:
            try:
                await self.load_missing(record, abilities)
                reloaded += 1
            except DriverUnavailableError:
                raise
            except DriverError as error:
                log.warning("tunnel.refused", tunnel=record.name, error=str(error))
        desired = {record.desired.connection for record in self._records.values()}
        for handle in self._loaded - desired:  # loaded by an agent that was killed before it wrote the ledger
            await self._charon.unload_connection(handle)
        self._loaded &= desired
        return reloaded

    def _save_soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_AFTER, self.save)

    def save(self) -> None:
        """Write the ledger now."""
        if self._saving is not None:
            self._saving.cancel()
        self._saving = None
        try:
            self._ledger.save()
        except OSError as error:  # a full disk takes the memory of the next start, not the tunnels of this one
            log.error("strongswan.ledger_not_written", error=str(error))


def _effect(old: Entry | None, entry: Entry) -> Effect:
    if old is None:
        return Effect.CREATED
    if old.connection != entry.connection:
        return Effect.UPDATED_IKE
    return Effect.UPDATED_CHILD if old.children != entry.children else Effect.CREATED
