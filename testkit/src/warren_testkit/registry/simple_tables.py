"""Fakes of the tables that are one dictionary or list."""

import json
from collections.abc import Mapping
from datetime import datetime

from warren_contracts.audit import AuditEntry
from warren_contracts.names import PeerId, Scope, Tag
from warren_registry.presence.model import PeerPresence

Tagged = dict[str, dict[Tag, datetime]]
"""By peer: since when it has carried its tags."""

_OF_PEERS = ("retag", "set_priority", "revoke", "rekey_tunnel", "restart_tunnel")


def holders(tagged: Tagged, scope: Scope) -> dict[PeerId, datetime]:
    """The peers that carry a tag of a scope, in order, and since when."""
    found = {peer: [tags[tag] for tag in scope if tag in tags] for peer, tags in sorted(tagged.items())}
    return {peer: min(times) for peer, times in found.items() if times}


class FakeScopes:
    """`ports.ScopeRows` in memory."""

    def __init__(self, tagged: Tagged) -> None:
        self._tagged = tagged

    async def holders(self, scope: Scope, after: str, limit: int) -> tuple[tuple[PeerId, datetime], ...]:
        return tuple(row for row in holders(self._tagged, scope).items() if row[0] > after)[:limit]


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

    def __init__(self, entries: list[AuditEntry], tagged: Tagged) -> None:
        self._entries = entries
        self._tagged = tagged

    async def add(self, entry: AuditEntry) -> None:
        self._entries.append(entry.model_copy(update={"seq": len(self._entries) + 1}))

    async def page(self, after: int, limit: int, scope: Scope | None = None) -> tuple[AuditEntry, ...]:
        if scope is None:
            return tuple(self._entries[after : after + limit])
        since = holders(self._tagged, scope)
        return tuple(it for it in self._entries[after:] if _concerns(it, since))[:limit]


def _concerns(entry: AuditEntry, since: Mapping[PeerId, datetime]) -> bool:
    if entry.action not in _OF_PEERS:
        return False
    ends = entry.subject.split("+") if "+" in entry.subject else []
    return any(peer in since and since[peer] <= entry.at for peer in (json.loads(entry.detail).get("peer"), *ends))
