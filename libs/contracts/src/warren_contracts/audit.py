"""The registry's audit log: what operators have done to peers, tokens and epochs."""

from datetime import datetime

from pydantic import Field

from warren_contracts.base import Document


class AuditEntry(Document):
    """One command that was executed. `detail` is its JSON, without `actor` and `client`; no command holds a secret."""

    seq: int = Field(ge=1)
    at: datetime
    actor: str
    client: str  # the address that the request came from; empty: a process of the server's machine
    action: str  # the verb: `revoke`, `create_join_token`
    subject: str  # a peer, a token's id, an operator's name or an epoch
    detail: str


class AuditLog(Document):
    """A page of the audit log, oldest first; `next_after` is the number after which the next page begins."""

    entries: tuple[AuditEntry, ...]
    next_after: str | None = None
