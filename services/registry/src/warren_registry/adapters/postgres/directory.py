"""The directory in PostgreSQL."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from warren_contracts import subjects
from warren_contracts.documents import SignedDocument, SignerRole
from warren_contracts.subjects import Audience
from warren_registry.directory.model import PublishedState, RecordKey
from warren_registry.ports import PendingRecord, PublishedRecord, SignedRecord
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.directory", "directory.sql")


class PostgresDirectory:
    """`ports.DirectoryRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def published_states(self) -> Mapping[RecordKey, PublishedState]:
        return {
            RecordKey(row["reader"], row["peer"]): PublishedState(
                row["epoch"],
                row["revision"],
                row["peer_version"],
                row["withdrawn"],
                row["signed_by"],
                row["withheld"],
            )
            for row in await self._connection.fetch(SQL["published_states"])
        }

    async def save(self, records: Iterable[SignedRecord], now: datetime) -> None:
        await self._connection.executemany(
            SQL["save_record"],
            [
                (
                    place.reader, place.peer, state.epoch, state.revision, state.peer_version, state.withdrawn, payload,
                    signature, state.signed_by, now, state.withheld,
                )
                for place, state, payload, signature in records
            ],
        )  # fmt: skip

    async def pending(self, limit: int) -> tuple[PendingRecord, ...]:
        return tuple(
            PendingRecord(
                RecordKey(row["reader"], row["peer"]), row["epoch"], row["revision"], row["withdrawn"], row["payload"],
                row["signature"], row["stream_sequence"], row["changed_at"],
            )
            for row in await self._connection.fetch(SQL["pending_records"], limit)
        )  # fmt: skip

    async def mark_published(self, published: Iterable[PublishedRecord]) -> None:
        await self._connection.executemany(
            SQL["record_published"],
            [(place.reader, place.peer, sequence, revision) for place, revision, sequence in published],
        )

    async def publish_all_again(self) -> None:
        await self._connection.execute(SQL["publish_all_again"])

    async def last_sequence(self) -> int:
        return int(await self._connection.fetchval(SQL["last_sequence"]))

    async def page(self, reader: Audience, after: str, limit: int) -> tuple[SignedDocument, ...]:
        return tuple(
            SignedDocument(
                subject=subjects.directory(row["reader"], row["peer"]), epoch=row["epoch"], revision=row["revision"],
                payload=row["payload"], signer=SignerRole.REGISTRY, signature=row["signature"],
            )
            for row in await self._connection.fetch(SQL["record_page"], reader, after, limit)
        )  # fmt: skip

    async def reclaim(self, before: datetime) -> int:
        rows = await self._connection.fetch(SQL["reclaim_tombstones"], before)
        return max((int(row["revision"]) for row in rows), default=0)
