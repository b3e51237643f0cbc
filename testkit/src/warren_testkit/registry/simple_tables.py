"""Fakes of the tables that are one dictionary or list."""

from collections.abc import Mapping

from warren_contracts.audit import AuditEntry
from warren_contracts.names import PeerId
from warren_registry.presence.model import PeerPresence


class FakePresence:
    """`ports.PresenceRows` in memory."""

    def __init__(self, rows: dict[str, PeerPresence]) -> None:
        self._rows = rows

    async def all(self) -> Mapping[PeerId, PeerPresence]:
        return dict(self._rows)

    async def save(self, presences: Mapping[PeerId, PeerPresence]) -> None:
        self._rows.update(presences)


class FakeAudit:
    """`ports.AuditRows` in memory."""

    def __init__(self, entries: list[AuditEntry]) -> None:
        self._entries = entries

    async def add(self, entry: AuditEntry) -> None:
        self._entries.append(entry.model_copy(update={"seq": len(self._entries) + 1}))

    async def page(self, after: int, limit: int) -> tuple[AuditEntry, ...]:
        return tuple(self._entries[after : after + limit])
