"""The tunnels that charon is to hold: how one is created, replaced, renewed and deleted.

The caller holds `CharonPresence.configuring`.
"""

from collections.abc import Callable
from datetime import datetime

from warren_agent.domain.health import find_narrowed
from warren_agent.drivers.addresses import Owns, with_own_addresses
from warren_agent.drivers.port import ApplyEffect
from warren_agent.drivers.strongswan.checks import check
from warren_agent.drivers.strongswan.connections import build_pools
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.ledger import handles
from warren_agent.drivers.strongswan.presence import CharonPresence, Parts
from warren_agent.drivers.strongswan.reader import SaReader
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.errors import UnknownTunnelError
from warren_contracts.tunnel import Tunnel


class TunnelConfiguration:
    """Records, ledger and charon's connections in step. SAs that a tunnel has lost are left to `start_tunnel`."""

    def __init__(
        self, parts: Parts, presence: CharonPresence, reader: SaReader, refresher: Refresher, owns: Owns,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._parts = parts
        self._presence = presence
        self._reader = reader
        self._refresher = refresher
        self._owns = owns
        self._now = now
        self._records = parts.table.tunnels

    async def put(self, given: Tunnel) -> ApplyEffect:
        """Have charon hold a tunnel; nothing is sent for an unchanged one.

        Raises:
            ConfigRefusedError: charon cannot express it, or refuses it.
            DriverUnavailableError: charon does not answer.
        """
        abilities = self._presence.present()
        config = with_own_addresses(given, self._owns)
        check(config, abilities)
        loader = self._parts.loader
        effect, sent = await loader.put(config, abilities)
        before = self._records.get(config.name)
        unused = build_pools(before.config).keys() - build_pools(config).keys() if before and before.config else ()
        record = self.track(config.name, config)
        record.last_reported = ()
        if sent:
            record.clear_reason()
            await loader.unload(config.name, keep=record.desired.connection)
            await loader.unload_pools(unused)
        self._refresher.mark(config.name)
        return effect

    async def delete(self, name: str) -> None:
        """Unload a tunnel and close its SAs."""
        self._presence.present()
        loader = self._parts.loader
        record = self._records.get(name)
        await loader.unload(name)
        if record is not None and record.config is not None:
            await loader.unload_pools(build_pools(record.config).keys(), but=name)
        await self._parts.closer.close_all(name, await self._reader.of(name))
        self._parts.leftovers.lost([record] if record is not None else [])
        self._records.pop(name, None)
        loader.forget(name)

    async def renew(self, record: TunnelRecord) -> None:
        """Load a tunnel in a new generation, so that its next start makes new SAs."""
        if record.config is not None:
            await self._parts.loader.renew(record.config, self._presence.present())
            self.track(record.name, record.config)
            await self._parts.loader.unload(record.name, keep=record.desired.connection)
            self._refresher.mark(record.name)

    async def renew_lost(self, name: str) -> None:
        """The same for a tunnel whose peer has lost its SAs."""
        self._presence.present()
        record = self.known(name)
        if record.config is not None and record.sas:
            self._parts.closer.presume_dead(record.sas)
            await self.renew(record)

    async def replace_narrowed(self, record: TunnelRecord) -> None:
        """The initiator makes SAs with all selectors next to those that lack some; the other end closes these, so that it does."""
        if record.config is None or not any(find_narrowed(record.config, record.status(self._now()))):
            return
        if record.desired.owner:
            await self.renew(record)
        else:
            await self._parts.closer.close_all(record.name, record.sas)

    def track(self, name: str, config: Tunnel | None = None) -> TunnelRecord:
        """The record of a tunnel, with the newest names of the ledger."""
        entry = self._parts.ledger.get(name)
        assert entry is not None
        desired = DesiredHandles(*handles(name, entry), owner=config is not None and config.initiator)
        record = self._records.setdefault(name, TunnelRecord(name, desired))
        record.want(desired, config)
        return record

    def known(self, name: str) -> TunnelRecord:
        """The record of a tunnel. UnknownTunnelError if there is none."""
        record = self._records.get(name)
        if record is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return record
