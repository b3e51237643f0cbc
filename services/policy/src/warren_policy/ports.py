"""The ports of the policy service: a store, the fleet's directory, a publisher."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from warren_contracts.bus_queries import EventPage, ReadEvents
from warren_contracts.commands import StoredPolicy
from warren_contracts.documents import SignedDocument
from warren_contracts.peers import PeerRecord
from warren_contracts.policy_history import DeletedPolicy, PolicyVersion
from warren_contracts.subjects import Audience
from warren_contracts.tunnel_history import PoliciesDesired
from warren_policy.domain.audit import AuditHead, AuditRow
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange
from warren_trust.signing import Version


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who wants it, and the W3C trace context that the call came with."""

    actor: str
    traceparent: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class OutboxSet:
    """The set of one reader, to be published on `warren.v1.policy.<reader>`. `event_id` is its CloudEvents id forever."""

    reader: Audience
    event_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class RevisionEvent:
    """An event, to be published after the sets of its revision."""

    subject: str
    type: str
    event_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Outbox:
    """Everything that one revision publishes. Its content never changes, so a repeat publishes the same bytes."""

    epoch: int
    revision: int
    at: datetime
    traceparent: str
    sets: tuple[OutboxSet, ...]
    events: tuple[RevisionEvent, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision, stored as a whole or not at all. `base` is the (epoch, revision) that it was computed from.

    In a new epoch the sets that wait from the one before are void: this revision holds the set of every reader.
    """

    base: Version
    action: str
    actor: str
    trace_id: str
    change: RevisionChange
    outbox: Outbox


class PolicyStore(Protocol):
    """The stored policies. Every method raises PostgresUnavailableError (an `Unavailable`) while PostgreSQL is unavailable."""

    async def snapshot(self, known: PolicySnapshot | None = None) -> PolicySnapshot:
        """The policies now; `known` is returned as it is when it still stands."""

    async def version(self) -> Version:
        """The newest (epoch, revision)."""

    async def commit(self, commit: Commit) -> None:
        """Store `commit` with its audit row and its outbox in one transaction; RevisionMovedError when `base` is not the newest."""

    async def get(self, policy: str) -> StoredPolicy | None:
        """One policy."""

    async def page(self, after: str, limit: int) -> tuple[StoredPolicy, ...]:
        """Policies after an id (exclusive), by id."""

    async def history(self, policy: str, before: int, limit: int) -> tuple[PolicyVersion, ...]:
        """The versions of one policy of revisions below `before`, the newest first."""

    async def audit(self) -> tuple[tuple[AuditRow, ...], AuditHead]:
        """The whole audit log and the recorded end of its chain."""

    async def ready(self) -> bool:
        """Whether the store answers."""


class PastStore(Protocol):
    """What was stored before. Every method raises PostgresUnavailableError while PostgreSQL is unavailable."""

    async def history(self, policy: str, before: int, limit: int) -> tuple[PolicyVersion, ...]:
        """See `PolicyStore.history`."""

    async def deleted(self, after: str, limit: int) -> tuple[DeletedPolicy, ...]:
        """The policies that were deleted and not created again, after an id (exclusive), by id."""

    async def policies_at(self, at: datetime) -> PoliciesDesired:
        """The policies as they were at an instant."""

    async def audit_page(self, after: int, limit: int) -> tuple[AuditRow, ...]:
        """Rows of the audit log after a number (exclusive), in order."""

    async def audit(self) -> tuple[tuple[AuditRow, ...], AuditHead]:
        """See `PolicyStore.audit`."""


class Ticket(Protocol):
    """The oldest unpublished revision, held against other relays."""

    @property
    def outbox(self) -> Outbox: ...

    async def done(self) -> None:
        """Record that all of it is published."""


class OutboxQueue(Protocol):
    """The unpublished revisions, and what was published last on each subject."""

    def next(self) -> AbstractAsyncContextManager[Ticket | None]:
        """Hold the oldest unpublished revision; None when there is none. Raises OutboxBusyError while another relay holds it."""

    async def pending(self) -> int:
        """How many revisions wait."""

    async def published(self) -> Mapping[Audience, Version]:
        """The (epoch, revision) of the newest published set of every reader there ever was."""

    async def published_set(self, reader: Audience) -> Outbox:
        """That set, as an outbox of one set and no events."""


class Publisher(Protocol):
    """The streams POLICY and EVENT. Raises NotPublishedError when a try failed: repeating is safe at any time."""

    async def publish_sets(self, outbox: Outbox) -> None:
        """Make every set of `outbox` the newest on its subject; what is there already is left alone."""

    async def publish_events(self, outbox: Outbox) -> None:
        """Append the events; a repeat within the stream's window of de-duplication appends nothing."""

    async def held(self) -> Mapping[Audience, Version]:
        """The (epoch, revision) that the stream holds of every reader there is on it."""


@dataclass(frozen=True, slots=True)
class FleetRecords:
    """The registry's view: all records that are not withdrawn, and the tags that a peer or a join token carries."""

    records: Mapping[str, PeerRecord]
    tags: frozenset[str]


class PublishedStreams(Protocol):
    """What the streams hold. Raises UnavailableError while they cannot be read."""

    async def policy_set(self, reader: Audience) -> SignedDocument | None:
        """The newest published set of a reader."""

    async def events(self, query: ReadEvents) -> EventPage:
        """Stored events by sequence."""


class Directory(Protocol):
    """The fleet's directory, asked again for every change."""

    async def fleet(self) -> FleetRecords:
        """The fleet now; raises UnavailableError that names the registry."""
