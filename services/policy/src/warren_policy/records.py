"""What was stored: differences of versions, deleted policies, the policies at an instant, and the audit log with its chain."""

from collections.abc import Callable
from datetime import datetime

from warren_contracts.audit import AuditVerification, PolicyAuditEntry, PolicyAuditLog
from warren_contracts.base import BIGINT_MAX
from warren_contracts.commands import Page
from warren_contracts.plans import DiffPolicy, PolicyDiff
from warren_contracts.policy_history import DeletedPolicies, PolicyVersion
from warren_contracts.problems import InvalidField, InvalidInputError, NotFoundError
from warren_contracts.tunnel_history import PoliciesAtQuery, PoliciesDesired
from warren_intent.policy_diff import changes
from warren_policy.domain import audit
from warren_policy.domain.audit import AuditRow
from warren_policy.errors import AuditChainBrokenError
from warren_policy.ports import PastStore

LOOKED_AT = 500  # versions in which a diff looks for those that were named


class PolicyRecords:
    """Reads what the store holds of the past."""

    def __init__(self, store: PastStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def diff(self, command: DiffPolicy) -> PolicyDiff:
        """Raises NotFoundError for a policy or a version that there never was."""
        found = await self._store.history(command.id, BIGINT_MAX, LOOKED_AT)
        if not found:
            raise NotFoundError(f"no policy {command.id}, now or before: list the policies to see what there is")
        after = found[0] if not command.to_version else _version(found, command.to_version, command.id)
        before: PolicyVersion | None
        if command.from_version:
            before = _version(found, command.from_version, command.id)
        else:
            before = next((it for it in found if it.revision < after.revision), None)
        differing = changes(before.policy if before else None, after.policy)
        return PolicyDiff(
            id=command.id, from_version=before.version if before else 0, to_version=after.version,
            changes=tuple(differing),
        )  # fmt: skip

    async def policies_at(self, query: PoliciesAtQuery) -> PoliciesDesired:
        """The policies that were stored at an instant. Raises InvalidInputError for one in the future."""
        if query.at > self._now():
            message = "is in the future: give a time that has passed"
            raise InvalidInputError(f"at: {message}", (InvalidField(field="at", message=message),))
        return await self._store.policies_at(query.at)

    async def deleted(self, page: Page) -> DeletedPolicies:
        """A page of the policies that were deleted and not created again."""
        found = await self._store.deleted(page.after, page.limit + 1)
        shown = found[: page.limit]
        return DeletedPolicies(policies=shown, next_after=shown[-1].id if len(found) > len(shown) else None)

    async def audit(self, page: Page) -> PolicyAuditLog:
        """A page of the audit log. Raises InvalidInputError unless `after` is the number of an entry."""
        if page.after and not (page.after.isascii() and page.after.isdecimal() and len(page.after) <= 18):
            message = "must be the number of an entry"
            raise InvalidInputError(f"after: {message}", (InvalidField(field="after", message=message),))
        rows = await self._store.audit_page(int(page.after or 0), page.limit)
        entries = tuple(_entry(row) for row in rows)
        return PolicyAuditLog(entries=entries, next_after=str(entries[-1].seq) if len(entries) == page.limit else None)

    async def verify_audit(self) -> AuditVerification:
        """Compute the whole chain again."""
        rows, head = await self._store.audit()
        try:
            count = audit.verify(rows, head)
        except AuditChainBrokenError as error:
            return AuditVerification(
                ok=False, rows=len(rows), hash=head.hash.hex(), broken_at=error.seq, reason=error.why
            )
        return AuditVerification(ok=True, rows=count, hash=head.hash.hex())


def _version(found: tuple[PolicyVersion, ...], version: int, policy: str) -> PolicyVersion:
    held = next((it for it in found if it.version == version and it.action != "deleted"), None)
    if held is None:
        raise NotFoundError(f"{policy} has no version {version}: its history lists them")
    return held


def _entry(row: AuditRow) -> PolicyAuditEntry:
    entry = row.entry
    return PolicyAuditEntry(
        seq=entry.seq, at=entry.at, actor=entry.actor, action=entry.action, epoch=entry.epoch, revision=entry.revision,
        trace_id=entry.trace_id, detail=entry.detail, hash=row.hash.hex(),
    )  # fmt: skip
