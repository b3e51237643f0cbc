"""The audit log in PostgreSQL."""

from warren_contracts.audit import AuditEntry
from warren_contracts.names import Scope
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.audit", "audit.sql")


class PostgresAudit:
    """`ports.AuditRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, entry: AuditEntry) -> None:
        await self._connection.execute(
            SQL["add_audit"], entry.at, entry.actor, entry.client, entry.action, entry.subject, entry.detail
        )

    async def page(self, after: int, limit: int, scope: Scope | None = None) -> tuple[AuditEntry, ...]:
        if scope is None:
            rows = await self._connection.fetch(SQL["audit_page"], after, limit)
        else:
            rows = await self._connection.fetch(SQL["audit_page_of_scope"], after, limit, list(scope))
        return tuple(AuditEntry(**dict(row)) for row in rows)
