"""When charon is audited: at every report, and when a start or an authentication fails."""

import structlog

from warren_agent.drivers.strongswan.auditor import Auditor
from warren_agent.drivers.strongswan.leftovers import Leftovers
from warren_agent.drivers.strongswan.presence import CharonPresence
from warren_agent.drivers.strongswan.routes import RouteAudit
from warren_agent.errors import DriverError

log = structlog.get_logger()


class AuditLoop:
    """The audits of a driver, one after the other, whenever `CharonPresence.audit_due` is set."""

    def __init__(self, presence: CharonPresence, auditor: Auditor, leftovers: Leftovers, routes: RouteAudit) -> None:
        self._presence = presence
        self._auditor = auditor
        self._leftovers = leftovers
        self._routes = routes

    async def run(self) -> None:
        """Audit forever; ends by cancellation."""
        while True:
            await self._presence.audit_due.wait()
            self._presence.audit_due.clear()
            try:
                await self.compare()
                await self._leftovers.sweep()
                await self._routes.audit(self._presence.abilities)
            except DriverError as error:
                # Should charon be unavailable, everything is read again when it is back; a refusal is repeated at the next report.
                log.warning("strongswan.audit_failed", error=str(error))

    async def compare(self) -> None:
        """Compare what charon holds with the ledger; nothing while it is unreachable.

        Raises:
            DriverError: charon does not answer, or refuses the repair.
        """
        async with self._presence.configuring:
            if self._presence.abilities is not None:
                await self._auditor.audit(self._presence.key)
