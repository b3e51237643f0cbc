"""The fleet's counters, its trust, presence, and what happens after a commit."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from warren_contracts.names import PeerId
from warren_contracts.peers import PresenceState
from warren_registry.domain.presence import Presence
from warren_registry.ports import FleetState, KickRow, TrustRow
from warren_service.outbox import OutboxEvent
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry", "fleet.sql")


class PostgresFleet:
    """`ports.FleetRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def state(self) -> FleetState:
        row = await self._connection.fetchrow(SQL["fleet_state"])
        if row is None:
            raise RuntimeError("the table fleet has lost its row: restore the database")
        return FleetState(*row)

    async def next_revision(self, count: int = 1) -> int:
        return int(await self._connection.fetchval(SQL["next_revision"], count))

    async def set_epoch(self, epoch: int) -> None:
        await self._connection.execute(SQL["set_epoch"], epoch)

    async def set_stream_incarnation(self, incarnation: str) -> None:
        await self._connection.execute(SQL["set_stream_incarnation"], incarnation)

    async def set_tombstones_reclaimed(self, revision: int) -> None:
        await self._connection.execute(SQL["set_tombstones_reclaimed"], revision)

    async def last_trust(self) -> TrustRow | None:
        row = await self._connection.fetchrow(SQL["last_trust"])
        return TrustRow(*row) if row is not None else None

    async def add_trust(self, row: TrustRow) -> None:
        await self._connection.execute(SQL["add_trust"], *row)


class PostgresAfterCommit:
    """`ports.AfterCommit`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add_event(self, event: OutboxEvent) -> None:
        await self._connection.execute(
            SQL["add_event"],
            event.event_id,
            event.subject,
            event.type,
            event.payload,
            event.traceparent,
            event.created_at,
        )

    async def pending_events(self, limit: int) -> tuple[OutboxEvent, ...]:
        return tuple(OutboxEvent(**row) for row in await self._connection.fetch(SQL["pending_events"], limit))

    async def events_done(self, ids: Iterable[int]) -> None:
        await self._connection.execute(SQL["events_done"], list(ids))

    async def add_kick(self, user: str, now: datetime) -> None:
        await self._connection.execute(SQL["add_kick"], user, now)

    async def pending_kicks(self, limit: int) -> tuple[KickRow, ...]:
        return tuple(KickRow(*row) for row in await self._connection.fetch(SQL["pending_kicks"], limit))

    async def kicks_done(self, ids: Iterable[int]) -> None:
        await self._connection.execute(SQL["kicks_done"], list(ids))


class PostgresPresence:
    """`ports.PresenceRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def all(self) -> Mapping[PeerId, Presence]:
        return {
            row["peer"]: Presence(PresenceState(row["state"]), row["since"], row["last_seen"], row["reason"])
            for row in await self._connection.fetch(SQL["all_presence"])
        }

    async def save(self, presences: Mapping[PeerId, Presence]) -> None:
        await self._connection.executemany(
            SQL["save_presence"],
            [
                (peer, presence.state.value, presence.since, presence.last_seen, presence.reason)
                for peer, presence in presences.items()
            ],
        )
