"""The audit log of a fleet in memory: the operators' commands that were executed."""

from collections.abc import Collection, Iterable
from datetime import datetime

from pydantic import BaseModel

from warren_contracts.audit import AuditEntry, AuditLog
from warren_contracts.commands import OperatorCommand, Page


def audit_log(
    calls: Iterable[tuple[str, str, BaseModel]], page: Page, now: datetime, only: Collection[str] | None = None
) -> AuditLog:
    """A page of it, as the registry replies. `only`: what was done to these peers, or at them to a tunnel."""
    commands = [(verb, command) for _, verb, command in calls if isinstance(command, OperatorCommand)]
    entries = [
        AuditEntry(
            seq=number, at=now, actor=command.actor, client=command.client, action=verb, subject="-",
            detail=command.model_dump_json(exclude={"actor", "client"}),
        )
        for number, (verb, command) in enumerate(commands, 1)
        if only is None or getattr(command, "peer", None) in only
    ]  # fmt: skip
    shown = tuple(it for it in entries if it.seq > int(page.after or 0))[: page.limit]
    return AuditLog(entries=shown, next_after=str(shown[-1].seq) if len(shown) == page.limit else None)
