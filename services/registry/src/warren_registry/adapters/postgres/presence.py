"""Presence in PostgreSQL."""

from collections.abc import Mapping

from warren_contracts.names import PeerId
from warren_contracts.peers import PresenceState
from warren_registry.presence.model import PeerPresence
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.presence", "presence.sql")


class PostgresPresence:
    """`ports.PresenceRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Mapping[PeerId, PeerPresence]:
        return {
            row["peer"]: PeerPresence(PresenceState(row["state"]), row["since"], row["last_seen"], row["reason"])
            for row in await self._connection.fetch(SQL["all_presence"])
        }

    async def save(self, presences: Mapping[PeerId, PeerPresence]) -> None:
        await self._connection.executemany(
            SQL["save_presence"],
            [
                (peer, presence.state.value, presence.since, presence.last_seen, presence.reason)
                for peer, presence in presences.items()
            ],
        )
