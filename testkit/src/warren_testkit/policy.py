"""Fakes of the policy service's ports. They pass the same contract suites as the real adapters."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from warren_contracts.commands import StoredPolicy
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.policy_history import DeletedPolicy, PolicyVersion
from warren_contracts.subjects import Audience
from warren_contracts.tunnel_history import PoliciesDesired, PolicyAt
from warren_policy.adapters.postgres import audit_entry
from warren_policy.domain import audit
from warren_policy.domain.audit import AuditHead, AuditRow
from warren_policy.domain.revisions import PolicySnapshot
from warren_policy.errors import NotPublishedError, OutboxBusyError, RegistryUnavailableError, RevisionMovedError
from warren_policy.ports import Commit, FleetRecords, Outbox
from warren_trust.signing import Version


class MemoryPolicies:
    """`PolicyStore` and `OutboxQueue` in memory."""

    def __init__(self) -> None:
        self._epoch = 1
        self._revision = 0
        self._policies: dict[str, StoredPolicy] = {}
        self._versions: dict[str, int] = {}
        self._rows: list[AuditRow] = []
        self._history: list[tuple[str, PolicyVersion]] = []
        self._head = AuditHead()
        self._queue: dict[int, Outbox] = {}
        self._published: dict[Audience, Outbox] = {}
        self._held = asyncio.Lock()

    async def snapshot(self, known: PolicySnapshot | None = None) -> PolicySnapshot:
        if known is not None and (known.epoch, known.revision) == (self._epoch, self._revision):
            return known
        published = {
            id_: PublishedPolicy(revision=stored.revision, policy=stored.policy)
            for id_, stored in self._policies.items()
        }
        return PolicySnapshot(
            self._epoch, self._revision, MappingProxyType(published), MappingProxyType(dict(self._versions))
        )

    async def version(self) -> Version:
        return self._epoch, self._revision

    async def commit(self, commit: Commit) -> None:
        change, outbox = commit.change, commit.outbox
        if (self._epoch, self._revision) != commit.base:
            raise RevisionMovedError
        if outbox.epoch > self._epoch:
            self._queue = {revision: replace(waiting, sets=()) for revision, waiting in self._queue.items()}
        for id_ in (*change.created, *change.updated):
            policy = change.after[id_].policy
            self._policies[id_] = StoredPolicy(
                policy=policy, revision=outbox.revision, updated_at=outbox.at, actor=commit.actor
            )
            self._versions[id_] = policy.version
            self._record(id_, policy, "created" if id_ in change.created else "updated", commit)
        for id_ in change.deleted:
            del self._policies[id_]
            self._record(id_, change.before[id_].policy, "deleted", commit)
        entry = audit_entry(commit, self._head)
        self._head = audit.append(self._head, entry)
        self._rows.append(AuditRow(entry, self._head.hash))
        self._queue[outbox.revision] = outbox
        self._epoch, self._revision = outbox.epoch, outbox.revision

    async def get(self, policy: str) -> StoredPolicy | None:
        return self._policies.get(policy)

    async def page(self, after: str, limit: int) -> tuple[StoredPolicy, ...]:
        return tuple(self._policies[id_] for id_ in sorted(self._policies) if id_ > after)[:limit]

    def _record(self, id_: str, policy: Policy, action: str, commit: Commit) -> None:
        entry = PolicyVersion.model_validate({
            "version": policy.version, "revision": commit.outbox.revision, "action": action, "at": commit.outbox.at,
            "actor": commit.actor, "policy": None if action == "deleted" else policy,
        })  # fmt: skip
        self._history.append((id_, entry))

    async def history(self, policy: str, before: int, limit: int) -> tuple[PolicyVersion, ...]:
        found = [entry for id_, entry in self._history if id_ == policy and entry.revision < before]
        return tuple(reversed(found))[:limit]

    async def deleted(self, after: str, limit: int) -> tuple[DeletedPolicy, ...]:
        newest = {id_: entry for id_, entry in self._history if id_ > after and id_ not in self._policies}
        return tuple(
            DeletedPolicy(id=id_, version=it.version, revision=it.revision, at=it.at, actor=it.actor)
            for id_, it in sorted(newest.items())
        )[:limit]

    async def policies_at(self, at: datetime) -> PoliciesDesired:
        known: dict[str, PolicyVersion] = {}
        for id_, entry in self._history:
            if entry.at <= at:
                known[id_] = entry
        newest = max(known.values(), key=lambda it: it.revision, default=None)
        if newest is None:
            return PoliciesDesired(at=at)
        return PoliciesDesired(
            at=at, epoch=self._epoch, revision=newest.revision, stored_at=newest.at, actor=newest.actor,
            policies=tuple(
                PolicyAt(id=id_, version=it.version, revision=it.revision, enabled=it.policy.enabled)
                for id_, it in sorted(known.items()) if it.policy is not None
            ),
        )  # fmt: skip

    async def audit_page(self, after: int, limit: int) -> tuple[AuditRow, ...]:
        return tuple(row for row in self._rows if row.entry.seq > after)[:limit]

    async def audit(self) -> tuple[tuple[AuditRow, ...], AuditHead]:
        return tuple(self._rows), self._head

    async def ready(self) -> bool:
        return True

    @asynccontextmanager
    async def next(self) -> AsyncIterator["MemoryTicket | None"]:
        if self._held.locked():
            raise OutboxBusyError
        async with self._held:
            oldest = min(self._queue, default=None)
            yield None if oldest is None else MemoryTicket(self._queue, self._published, self._queue[oldest])

    async def pending(self) -> int:
        return len(self._queue)

    async def published(self) -> Mapping[Audience, Version]:
        return {reader: (outbox.epoch, outbox.revision) for reader, outbox in self._published.items()}

    async def published_set(self, reader: Audience) -> Outbox:
        return self._published[reader]


class MemoryTicket:
    """`Ticket` in memory."""

    def __init__(self, queue: dict[int, Outbox], published: dict[Audience, Outbox], outbox: Outbox) -> None:
        self._queue = queue
        self._published = published
        self._outbox = outbox

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    async def done(self) -> None:
        outbox = self._queue.pop(self._outbox.revision)
        for item in outbox.sets:
            self._published[item.reader] = Outbox(
                outbox.epoch, outbox.revision, outbox.at, outbox.traceparent, (item,), ()
            )


class MemoryPublisher:
    """`Publisher` that writes down what was published. `failures` makes so many tries fail, after or before storing."""

    def __init__(self) -> None:
        self.sets: list[tuple[int, Audience, bytes]] = []
        self.events: list[tuple[int, str]] = []
        self.newest: dict[Audience, Version] = {}
        self.failures_before = 0
        self.failures_after = 0

    async def publish_sets(self, outbox: Outbox) -> None:
        if self.failures_before:
            self.failures_before -= 1
            raise NotPublishedError("the bus is unavailable")
        for item in outbox.sets:
            version = (outbox.epoch, outbox.revision)
            if self.newest.get(item.reader, (0, 0)) < version:
                self.sets.append((outbox.revision, item.reader, item.payload))
                self.newest[item.reader] = version
        if self.failures_after:
            self.failures_after -= 1
            raise NotPublishedError("stored, but the acknowledgement was lost")

    async def publish_events(self, outbox: Outbox) -> None:
        self.events.extend((outbox.revision, event.subject) for event in outbox.events)

    async def held(self) -> Mapping[Audience, Version]:
        return dict(self.newest)


class MemoryDirectory:
    """`Directory` that holds a fleet, or is unavailable."""

    def __init__(self, fleet: FleetRecords) -> None:
        self.value = fleet
        self.unavailable = False

    async def fleet(self) -> FleetRecords:
        if self.unavailable:
            raise RegistryUnavailableError
        return self.value
