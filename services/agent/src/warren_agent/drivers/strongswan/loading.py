"""What charon was given: connections, children and pools, with the ledger that remembers them on disk."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

import structlog

from warren_agent.drivers.port import ApplyEffect
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import (
    HandleName,
    build_connection,
    build_pools,
    fingerprint,
    is_marked,
    offset,
    parse_handle,
)
from warren_agent.drivers.strongswan.ledger import Ledger, LedgerEntry, handles, next_entry
from warren_agent.drivers.strongswan.shunts import Shunts
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.vici_codec import Section
from warren_agent.errors import ConfigRefusedError, DriverError, DriverUnavailableError
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger()

# s; the ledger is written this long after a change, once for all changes of a run. If the agent is killed within it, the
# tunnels changed last are re-created next to the old ones, without a gap.
SAVE_AFTER = 0.2


class Loader:
    """Loads configurations into charon and unloads them; SAs are not touched. `records` are the driver's tunnels by name.

    With `correct` false nothing is loaded again only because somebody may have altered it.
    """

    def __init__(
        self, charon: CharonClient, ledger: Ledger, records: Mapping[str, TunnelRecord], correct: bool = True
    ) -> None:
        self._correct = correct
        self._charon = charon
        self._ledger = ledger
        self._records = records
        self.shunts = Shunts(charon)
        self.loaded: set[HandleName] = set()  # connections
        self.held: set[HandleName] = set()  # connections of which charon has IKE_SAs, by the last reading
        self.references: dict[HandleName, str] = {}  # how list-conns lists them (see drift.digest)
        self.unlisted: set[HandleName] = set()  # loaded since the last comparison
        self._abilities = CharonAbilities()  # of the charon that holds them
        self._saving: asyncio.TimerHandle | None = None

    def is_loaded(self, name: str, entry: LedgerEntry) -> bool:
        """Whether charon holds the connection of a ledger entry."""
        return handles(name, entry)[0] in self.loaded

    async def put(self, config: Tunnel, abilities: CharonAbilities) -> tuple[ApplyEffect, bool]:
        """Load a configuration unless charon holds it already; returns the effect and whether anything was sent.

        Raises:
            ConfigRefusedError: charon refuses it; the ledger is unchanged.
        """
        old = self._ledger.get(config.name)
        levels = fingerprint(config, abilities)
        fitting = old if old is not None and old.levels == levels else None
        if fitting is not None and self.is_loaded(config.name, fitting):
            return ApplyEffect.UNCHANGED, False
        entry = fitting or next_entry(old, levels, self._new_generation(config.name))
        assert entry is not None
        await self._load(config, entry, abilities)
        if fitting is None:
            self._ledger.put(config.name, entry)
            self._save_soon()
        else:
            self._detach(config.name)
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

    async def _load(self, config: Tunnel, entry: LedgerEntry, abilities: CharonAbilities) -> None:
        connection, children = handles(config.name, entry)
        for name, pool in build_pools(config).items():
            await self._charon.load_pool(name, pool)
        await self._charon.load_connection(build_connection(config, connection, children, abilities))
        self._abilities = abilities
        self.loaded.add(connection)
        self.unlisted.add(connection)
        self.references.pop(connection, None)

    async def reload(self, record: TunnelRecord) -> None:
        """Load a tunnel again that somebody else has unloaded or altered.

        Raises:
            DriverError: charon refuses it; the reason is in the record.
        """
        self.loaded.discard(record.desired.connection)
        await self.load_missing(record, self._abilities)

    async def reload_doubtful(self) -> None:
        """Load the tunnels again whose proposals a peer has refused: list-conns does not show whether somebody altered them.

        Raises:
            DriverUnavailableError: charon does not answer.
        """
        for record in [it for it in self._records.values() if it.doubtful]:
            with contextlib.suppress(ConfigRefusedError):  # the reason is in the record
                await self.load_missing(record, self._abilities)

    def _detach(self, name: str) -> None:
        """The connection of a tunnel was loaded again: IKE_SAs of it that are up keep to the former one."""
        entry = self._ledger.get(name)
        if entry is not None and handles(name, entry)[0] in self.held:
            self._ledger.detach(name)
            self._save_soon()

    async def load_pool(self, name: str) -> None:
        """Load a pool again that somebody else has unloaded."""
        for record in self._records.values():
            pools = build_pools(record.config) if record.config is not None else {}
            if name in pools:
                await self._charon.load_pool(name, pools[name])
                return

    async def renew(self, config: Tunnel, abilities: CharonAbilities) -> None:
        """Load an unchanged configuration in a new generation, so that its next start makes new SAs next to those that run."""
        generation = self._new_generation(config.name)
        entry = next_entry(None, fingerprint(config, abilities), generation)
        assert entry is not None
        await self._load(config, entry, abilities)
        self._ledger.put(config.name, entry)
        self._save_soon()

    async def unload(self, name: str, keep: HandleName | None = None) -> None:
        """Unload the connections of a tunnel, all but `keep`: a peer that negotiates again finds the newest one only."""
        for handle in [handle for handle in self.loaded if handle.tunnel == name and handle != keep]:
            if handle.generation > self._ledger.saved_generation:
                self.save()  # as in `find_loaded`: from now on, the ledger alone says whose its SAs are
            await self._charon.unload_connection(handle)
            self.loaded.discard(handle)
            self.references.pop(handle, None)

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
        if record.doubtful and self._correct:
            record.doubtful = False
            self.loaded.discard(record.desired.connection)
        if record.config is None or entry is None or record.desired.connection in self.loaded:
            return
        try:
            check(record.config, abilities)
            await self._load(record.config, entry, abilities)
            self._detach(record.name)
        except DriverUnavailableError:
            raise
        except DriverError as error:
            record.explain(ReasonCode.CONFIG_REFUSED, str(error))
            raise
        if record.reason is ReasonCode.CONFIG_REFUSED:
            record.clear_reason()

    def find_loaded(self, listed: Mapping[str, Section]) -> None:
        """Take note of the connections that charon holds, as list-conns lists them.

        Ours are those that the ledger or the marker says to be ours; all others are nobody's business here.
        """
        found = {handle: it for name, it in listed.items() if (handle := parse_handle(name)) is not None}
        for handle, it in found.items():
            self._ledger.saw_generation(handle.generation)
            if is_marked(it):
                self._ledger.take_over(handle)
        known = {handle: self.references.get(handle) or self._ledger.reference(handle) for handle in found}
        self.references, self.unlisted = {handle: it for handle, it in known.items() if it}, set()
        self.save()  # a marked connection that is unloaded now must not leave SAs that no ledger knows
        self.loaded = {handle for handle, it in found.items() if is_marked(it)}

    async def resume(self, abilities: CharonAbilities) -> int:
        """Load everything that charon, which has restarted or was found running, does not hold; returns how many tunnels.

        What it refuses now (it may be another version, or have lost a plugin) is reported for that tunnel, and the others
        are loaded all the same.
        """
        await self.shunts.resume()
        reloaded = 0
        for record in [it for it in self._records.values() if it.config and it.desired.connection not in self.loaded]:
            try:
                await self.load_missing(record, abilities)
                reloaded += 1
            except DriverUnavailableError:
                raise
            except DriverError as error:
                log.warning("tunnel.refused", tunnel=record.name, error=str(error))
        desired = {record.desired.connection for record in self._records.values()}
        for handle in self.loaded - desired:  # loaded by an agent that was killed before it wrote the ledger
            await self._charon.unload_connection(handle)
        self.loaded &= desired
        return reloaded

    def remember(self, handle: HandleName, digest: str) -> None:
        """How charon lists a connection that was loaded: what it lists later, also after a restart of the agent, is compared with it."""
        self.references[handle] = digest
        self._save_soon()

    def _save_soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_AFTER, self.save)

    def save(self) -> None:
        """Write the ledger now."""
        if self._saving is not None:
            self._saving.cancel()
        self._saving = None
        self._ledger.keep_references(self.references)
        try:
            self._ledger.save()
        except OSError as error:  # a full disk takes the memory of the next start, not the tunnels of this one
            log.error("strongswan.ledger_not_written", error=str(error))


def _effect(old: LedgerEntry | None, entry: LedgerEntry) -> ApplyEffect:
    if old is None:
        return ApplyEffect.CREATED
    if old.connection != entry.connection:
        return ApplyEffect.UPDATED_IKE
    return ApplyEffect.UPDATED_CHILD if old.children != entry.children else ApplyEffect.CREATED
