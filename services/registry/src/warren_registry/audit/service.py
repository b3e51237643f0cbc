"""Write and list the audit log."""

from datetime import datetime

from warren_contracts.audit import AuditEntry, AuditLog
from warren_contracts.commands import OperatorCommand
from warren_contracts.problems import InvalidField, InvalidInputError
from warren_contracts.scope import ListAudit
from warren_registry.ports import Tables


async def record(tables: Tables, action: str, subject: str, command: OperatorCommand, now: datetime) -> None:
    """Add an accepted command, in its own transaction: one that fails leaves no entry, and no other is without one."""
    detail = command.model_dump_json(exclude={"actor", "client"})
    await tables.audit.add(
        AuditEntry(
            seq=1, at=now, actor=command.actor, client=command.client, action=action, subject=subject, detail=detail
        )
    )


async def list_audit(tables: Tables, page: ListAudit) -> AuditLog:
    """A page of the log. Raises InvalidInputError unless `after` is the number of an entry."""
    if page.after and not (page.after.isascii() and page.after.isdecimal() and len(page.after) <= 18):
        message = "must be the number of an entry"
        raise InvalidInputError(f"after: {message}", (InvalidField(field="after", message=message),))
    entries = await tables.audit.page(int(page.after or 0), page.limit, page.scope)
    return AuditLog(entries=entries, next_after=str(entries[-1].seq) if len(entries) == page.limit else None)
