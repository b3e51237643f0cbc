"""The audit log is a hash chain: each row's SHA-256 covers the row before it.

    hash(n) = SHA-256(hash(n-1) || canonical JSON of row n)        hash(0) = 32 zero bytes

Canonical JSON is one array of the row's fields in the order of `PolicyAuditRecord`, UTF-8, no spaces. A holder of the last
hash can prove that no row was changed, removed, added or moved; `verify` names the first row that does not fit.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from warren_contracts.policy import PublishedPolicy
from warren_policy.domain.revisions import RevisionChange
from warren_policy.errors import AuditChainBrokenError

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class PolicyAuditRecord:
    """Who did what when. `detail` is JSON text: the policies with their versions and the SHA-256 of each document."""

    seq: int  # 1, 2, 3, ... without a gap
    at: datetime
    actor: str
    action: str  # apply, delete, epoch (every set was published again in a new epoch)
    epoch: int
    revision: int
    trace_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of the chain: the last row's number and hash."""

    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row as it is stored."""

    entry: PolicyAuditRecord
    hash: bytes


def entry_hash(previous: bytes, entry: PolicyAuditRecord) -> bytes:
    """The hash of `entry` after `previous` (32 bytes)."""
    fields = (
        entry.seq, entry.at.astimezone(UTC).isoformat(timespec="microseconds"), entry.actor, entry.action,
        entry.epoch, entry.revision, entry.trace_id, entry.detail,
    )  # fmt: skip
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(previous + text.encode()).digest()


def append(head: AuditHead, entry: PolicyAuditRecord) -> AuditHead:
    """The head after `entry`, whose seq must be the next one."""
    if entry.seq != head.seq + 1:
        raise ValueError(f"audit row {entry.seq} cannot follow row {head.seq}")
    return AuditHead(entry.seq, entry_hash(head.hash, entry))


def verify(rows: Iterable[AuditRow], head: AuditHead) -> int:
    """Prove that `rows` are the whole chain that ends in `head`; returns how many. Raises AuditChainBrokenError."""
    known = AuditHead()
    for row in rows:
        if row.entry.seq != known.seq + 1:
            raise AuditChainBrokenError(known.seq + 1, f"is missing (row {row.entry.seq} follows row {known.seq})")
        known = append(known, row.entry)
        if known.hash != row.hash:
            raise AuditChainBrokenError(
                row.entry.seq, "its content does not match its hash: it or a row before it was changed"
            )
    if known.seq != head.seq:
        raise AuditChainBrokenError(known.seq + 1, f"the chain ends at {known.seq}, but {head.seq} rows were written")
    if known.hash != head.hash:
        raise AuditChainBrokenError(known.seq, "the hash of the last row is not the recorded end of the chain")
    return known.seq


def detail_of(change: RevisionChange) -> str:
    """The `detail` of a change."""
    return json.dumps(
        {
            "created": _documents(change.created, change.after),
            "updated": _documents(change.updated, change.after),
            "deleted": _documents(change.deleted, change.before),
        },
        sort_keys=True, separators=(",", ":"),
    )  # fmt: skip


def document_hash(document: str) -> str:
    """Hexadecimal SHA-256 of a policy's JSON as it is stored."""
    return hashlib.sha256(document.encode()).hexdigest()


def _documents(ids: Iterable[str], policies: Mapping[str, PublishedPolicy]) -> dict[str, dict[str, object]]:
    return {
        id_: {
            "version": policies[id_].policy.version,
            "sha256": document_hash(policies[id_].policy.model_dump_json()),
        }
        for id_ in ids
    }
