"""charon as it comes and goes: what is read when it appears, and what it reports meanwhile."""

import asyncio
from typing import NamedTuple

import structlog

from warren_agent.drivers.port import DaemonDown, DaemonUp
from warren_agent.drivers.strongswan.capabilities import CharonAbilities
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.cleanup import SaCloser
from warren_agent.drivers.strongswan.connections import parse_handle
from warren_agent.drivers.strongswan.error_notify import Notification
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.leftovers import Leftovers
from warren_agent.drivers.strongswan.loading import Loader
from warren_agent.drivers.strongswan.tunnel_table import TunnelTable
from warren_agent.drivers.strongswan.vici_codec import Section, text
from warren_agent.errors import DriverUnavailableError
from warren_contracts.status import ReasonCode

log = structlog.get_logger()

CUT_NAME = 63  # bytes, at which the error-notify plugin cuts a name


class Parts(NamedTuple):
    """What presence and configuration work with."""

    charon: CharonClient
    ledger: Ledger
    table: TunnelTable
    loader: Loader
    closer: SaCloser
    leftovers: Leftovers


class CharonPresence:
    """The listener of the monitor (monitor.Listener). `key_seed` is this host's raw Ed25519 IKE key (32 bytes)."""

    def __init__(self, parts: Parts, key_seed: bytes) -> None:
        self._parts = parts
        self._seed = key_seed
        self.configuring = asyncio.Lock()  # one at a time changes what charon holds, or compares it with the ledger
        self.audit_due = asyncio.Event()
        self.key = ""  # its id in charon
        self.abilities: CharonAbilities | None = None  # None: it does not answer
        self.last_abilities = CharonAbilities()

    def present(self) -> CharonAbilities:
        """The abilities of the charon that answers. DriverUnavailableError if none does."""
        if self.abilities is None:
            raise DriverUnavailableError("charon does not answer; its tunnels are resumed when it returns")
        return self.abilities

    async def load_key(self) -> None:
        """Give charon the agent's key again."""
        self.key = await self._parts.charon.load_key(self._seed, self.present())

    async def came_up(self) -> None:
        """Read everything in charon, and load what it does not hold."""
        async with self.configuring:
            await self._take_up()

    async def _take_up(self) -> None:
        charon, ledger, table, loader, closer, leftovers = self._parts
        abilities = await charon.abilities()
        self.key = await charon.load_key(self._seed, abilities)
        loader.find_loaded(await charon.list_connections())
        found = await charon.sas(foreign=True)
        for handle in (sa.handle for sa in found if sa.handle):
            ledger.saw_generation(handle.generation)
        sas = [sa for sa in found if sa.handle and ledger.owns(sa.handle)]
        loader.held = {sa.handle for sa in sas if sa.handle}
        for record in table.tunnels.values():
            record.clear_reason()
        reloaded = await loader.resume(abilities)
        await closer.close_unknown(sas, table.tunnels)
        self.abilities = self.last_abilities = abilities
        leftovers.returned()
        self.audit_due.set()
        table.observe_all(sas)
        log.info("strongswan.connected", version=abilities.version, tunnels=len(table.tunnels), reloaded=reloaded)
        table.events.put_nowait(DaemonUp(abilities.version, str(charon.path), abilities.plugin_names))

    def went_down(self, detail: str, step: str) -> None:
        """It does not answer any more, or not yet."""
        self.abilities = None
        table = self._parts.table
        self._parts.leftovers.lost(table.tunnels.values())
        log.warning("strongswan.unreachable", step=step, detail=detail)
        table.all_unreachable(detail)
        table.events.put_nowait(DaemonDown(detail, step))

    def handle_event(self, event: str, message: Section) -> None:
        """Take an event, unless it is of a connection of others."""
        foreign = [name for name in message if self._is_foreign(name)]
        if not foreign and not self._is_foreign(text(message, "ikesa-name")):
            self._parts.table.handle_event(event, message)

    def handle_notification(self, notification: Notification) -> None:
        """The same for a record of the error-notify plugin."""
        if self._is_foreign(notification.connection):
            return
        if notification.reason is ReasonCode.LOCAL_AUTH_FAILED:
            self.audit_due.set()  # the key may be missing
        self._parts.table.handle_notification(notification)

    def _is_foreign(self, connection: str) -> bool:
        """Whether a name in an event looks like ours and is another's. A name that charon has cut cannot be distinguished."""
        handle = parse_handle(connection) if len(connection) < CUT_NAME else None
        return handle is not None and not self._parts.ledger.owns(handle)
