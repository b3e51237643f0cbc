"""The store and the outbox queue on PostgreSQL."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from warren_contracts.base import LENIENT
from warren_contracts.commands import StoredPolicy
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.policy_history import DeletedPolicy, PolicyVersion
from warren_contracts.subjects import Audience
from warren_contracts.tunnel_history import PoliciesDesired, PolicyAt
from warren_policy.domain import audit
from warren_policy.domain.audit import AuditHead, AuditRow, PolicyAuditRecord
from warren_policy.domain.revisions import PolicySnapshot
from warren_policy.errors import OutboxBusyError, RevisionMovedError
from warren_policy.ports import Commit, Outbox, OutboxSet, RevisionEvent
from warren_store import Connection, Queries, Store, load_migrations, load_queries
from warren_trust.signing import Version

if TYPE_CHECKING:
    from asyncpg import Record

SCHEMA = "policy"
CHANNEL = "warren_policy_outbox"  # the NOTIFY of each commit; the payload is the revision


def make_store(dsn: str) -> Store:
    """The service's schema with its migrations; nothing connects yet."""
    return Store(dsn, schema=SCHEMA, migrations=load_migrations("warren_policy"))


def _queries() -> Queries:
    return load_queries("warren_policy", "queries.sql")


class PostgresPolicies:
    """`PolicyStore` on PostgreSQL."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = _queries()

    async def snapshot(self, known: PolicySnapshot | None = None) -> PolicySnapshot:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            head = await connection.fetchrow(self._sql["head"])
            assert head is not None  # the first migration inserts it
            if known is not None and (known.epoch, known.revision) == (head["epoch"], head["revision"]):
                return known
            rows = await connection.fetch(self._sql["policies"])
            versions = await connection.fetch(self._sql["versions"])
        published = [_published(row["revision"], row["document"]) for row in rows]
        return PolicySnapshot(
            head["epoch"], head["revision"],
            MappingProxyType({item.policy.id: item for item in published}),
            MappingProxyType({row["policy"]: row["version"] for row in versions}),
        )  # fmt: skip

    async def version(self) -> Version:
        async with self._store.connection() as connection:
            head = await connection.fetchrow(self._sql["head"])
        assert head is not None
        return head["epoch"], head["revision"]

    async def commit(self, commit: Commit) -> None:
        outbox = commit.outbox
        async with self._store.transaction() as connection:
            head = await connection.fetchrow(self._sql["lock_head"])
            assert head is not None
            if (head["epoch"], head["revision"]) != commit.base:
                raise RevisionMovedError
            if outbox.epoch > head["epoch"]:
                await connection.execute(self._sql["void_sets"])
            await connection.execute(
                self._sql["insert_revision"],
                outbox.revision, outbox.epoch, outbox.at, commit.actor, outbox.traceparent,
            )  # fmt: skip
            await self._write_policies(connection, commit)
            end = await self._write_audit(connection, commit, AuditHead(head["audit_seq"], head["audit_hash"]))
            await self._write_outbox(connection, outbox)
            await connection.execute(self._sql["move_head"], outbox.epoch, outbox.revision, end.seq, end.hash)
            await connection.execute(self._sql["notify"], str(outbox.revision))

    async def get(self, policy: str) -> StoredPolicy | None:
        async with self._store.connection() as connection:
            row = await connection.fetchrow(self._sql["policy"], policy)
        return None if row is None else _stored(row)

    async def page(self, after: str, limit: int) -> tuple[StoredPolicy, ...]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(self._sql["policy_page"], after, limit)
        return tuple(_stored(row) for row in rows)

    async def audit(self) -> tuple[tuple[AuditRow, ...], AuditHead]:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            head = await connection.fetchrow(self._sql["audit_head"])
            rows = await connection.fetch(self._sql["audit"])
        assert head is not None
        return tuple(_audit_row(row) for row in rows), AuditHead(head["audit_seq"], head["audit_hash"])

    async def deleted(self, after: str, limit: int) -> tuple[DeletedPolicy, ...]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(self._sql["deleted_page"], after, limit)
        return tuple(
            DeletedPolicy(id=row["policy"], version=row["version"], revision=row["revision"], at=row["at"], actor=row["actor"])
            for row in rows
        )  # fmt: skip

    async def history(self, policy: str, before: int, limit: int) -> tuple[PolicyVersion, ...]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(self._sql["history"], policy, before, limit)
        return tuple(
            PolicyVersion(
                version=row["version"], revision=row["revision"], action=row["action"], at=row["at"], actor=row["actor"],
                policy=None if row["document"] is None else Policy.model_validate_json(row["document"], context=LENIENT),
            )
            for row in rows
        )  # fmt: skip

    async def policies_at(self, at: datetime) -> PoliciesDesired:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            head = await connection.fetchrow(self._sql["revision_at"], at)
            rows = await connection.fetch(self._sql["policies_at"], at)
        if head is None:
            return PoliciesDesired(at=at)
        return PoliciesDesired(
            at=at, epoch=head["epoch"], revision=head["revision"], stored_at=head["at"], actor=head["actor"],
            policies=tuple(
                PolicyAt(
                    id=row["policy"], version=row["version"], revision=row["revision"],
                    enabled=Policy.model_validate_json(row["document"], context=LENIENT).enabled,
                )
                for row in rows
            ),
        )  # fmt: skip

    async def audit_page(self, after: int, limit: int) -> tuple[AuditRow, ...]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(self._sql["audit_page"], after, limit)
        return tuple(_audit_row(row) for row in rows)

    async def ready(self) -> bool:
        return await self._store.ready()

    async def _write_policies(self, connection: Connection, commit: Commit) -> None:
        outbox, change = commit.outbox, commit.change
        for action, ids in (("created", change.created), ("updated", change.updated)):
            for id_ in ids:
                policy = change.after[id_].policy
                document = policy.model_dump_json()
                await connection.execute(
                    self._sql["put_policy"], id_, policy.version, outbox.revision, document, outbox.at, commit.actor
                )
                await connection.execute(
                    self._sql["insert_history"], outbox.revision, id_, policy.version, action, document
                )
                await connection.execute(self._sql["put_version"], id_, policy.version)
        for id_ in change.deleted:
            version = change.before[id_].policy.version
            await connection.execute(self._sql["delete_policy"], id_)
            await connection.execute(self._sql["insert_history"], outbox.revision, id_, version, "deleted", None)

    async def _write_audit(self, connection: Connection, commit: Commit, head: AuditHead) -> AuditHead:
        entry = audit_entry(commit, head)
        end = audit.append(head, entry)
        await connection.execute(
            self._sql["insert_audit"], entry.seq, entry.at, entry.actor, entry.action, entry.epoch, entry.revision,
            entry.trace_id, entry.detail, end.hash,
        )  # fmt: skip
        return end

    async def _write_outbox(self, connection: Connection, outbox: Outbox) -> None:
        await connection.executemany(
            self._sql["insert_outbox_set"],
            [(outbox.revision, n, item.reader, item.event_id, item.payload) for n, item in enumerate(outbox.sets)],
        )
        await connection.executemany(
            self._sql["insert_outbox_event"],
            [
                (outbox.revision, n, item.subject, item.type, item.event_id, item.payload)
                for n, item in enumerate(outbox.events)
            ],
        )


class PostgresTicket:
    """One unpublished revision inside a transaction that holds the relay's lock."""

    def __init__(self, connection: Connection, sql: Queries, outbox: Outbox) -> None:
        self._connection = connection
        self._sql = sql
        self._outbox = outbox

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    async def done(self) -> None:
        for name in ("keep_sets", "clear_outbox_sets", "clear_outbox_events", "mark_published"):
            await self._connection.execute(self._sql[name], self._outbox.revision)


class PostgresOutbox:
    """`OutboxQueue` on PostgreSQL. One transaction spans one try to publish, which the publisher limits in time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = _queries()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[PostgresTicket | None]:
        async with self._store.transaction() as connection:
            if not await connection.fetchval(self._sql["try_relay_lock"]):
                raise OutboxBusyError
            row = await connection.fetchrow(self._sql["oldest_unpublished"])
            if row is None:
                yield None
                return
            sets = await connection.fetch(self._sql["outbox_sets"], row["revision"])
            events = await connection.fetch(self._sql["outbox_events"], row["revision"])
            outbox = Outbox(
                row["epoch"], row["revision"], row["at"], row["traceparent"],
                tuple(OutboxSet(item["reader"], item["event_id"], item["payload"]) for item in sets),
                tuple(RevisionEvent(item["subject"], item["type"], item["event_id"], item["payload"]) for item in events),
            )  # fmt: skip
            yield PostgresTicket(connection, self._sql, outbox)

    async def pending(self) -> int:
        async with self._store.connection() as connection:
            return int(await connection.fetchval(self._sql["pending"]))

    async def published(self) -> Mapping[Audience, Version]:
        async with self._store.connection() as connection:
            rows = await connection.fetch(self._sql["published"])
        return {row["reader"]: (row["epoch"], row["revision"]) for row in rows}

    async def published_set(self, reader: Audience) -> Outbox:
        async with self._store.connection() as connection:
            row = await connection.fetchrow(self._sql["published_set"], reader)
        if row is None:
            raise KeyError(reader)
        return Outbox(
            row["epoch"], row["revision"], row["at"], row["traceparent"],
            (OutboxSet(reader, row["event_id"], row["payload"]),), (),
        )  # fmt: skip


def audit_entry(commit: Commit, head: AuditHead) -> PolicyAuditRecord:
    """The row that `commit` adds after `head`."""
    outbox = commit.outbox
    return PolicyAuditRecord(
        head.seq + 1, outbox.at, commit.actor, commit.action, outbox.epoch, outbox.revision, commit.trace_id,
        audit.detail_of(commit.change),
    )  # fmt: skip


def _published(revision: int, document: str) -> PublishedPolicy:
    return PublishedPolicy(revision=revision, policy=Policy.model_validate_json(document, context=LENIENT))


def _stored(row: "Record") -> StoredPolicy:
    policy = Policy.model_validate_json(row["document"], context=LENIENT)
    return StoredPolicy(policy=policy, revision=row["revision"], updated_at=row["updated_at"], actor=row["actor"])


def _audit_row(row: "Record") -> AuditRow:
    fields = dict(row)
    return AuditRow(hash=fields.pop("hash"), entry=PolicyAuditRecord(**fields))
