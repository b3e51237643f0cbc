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


class PolicyAuditEntry(Document):
    """One revision of the policies. `detail`: JSON with the version and the SHA-256 of each policy; `hash`: of this row and all before."""

    seq: int = Field(ge=1)
    at: datetime
    actor: str
    action: str  # apply, delete, epoch
    epoch: int
    revision: int
    trace_id: str
    detail: str
    hash: str  # hexadecimal SHA-256: SHA-256(hash of the row before || JSON of this row)


class PolicyAuditLog(Document):
    """A page of the policies' audit log, oldest first; `next_after` is the number after which the next page begins."""

    entries: tuple[PolicyAuditEntry, ...]
    next_after: str | None = None


class AuditVerification(Document):
    """Whether the hash chain of the policies' audit log is whole; `broken_at` is the first row that does not fit, with `reason`."""

    ok: bool
    rows: int
    hash: str  # of the last row, to be compared with one that was noted elsewhere
    broken_at: int | None = None
    reason: str = ""
