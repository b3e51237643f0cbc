"""Ports of the registry. Adapters are in `adapters/`, fakes in `testing/`; both pass one contract suite."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from warren_contracts.addresses import IPNetwork
from warren_contracts.audit import AuditEntry
from warren_contracts.documents import SignedDocument
from warren_contracts.names import PeerId, PublicKey, Scope, Tag
from warren_contracts.subjects import Audience
from warren_registry.directory.model import PublishedState, RecordKey
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.operators.model import OperatorRow
from warren_registry.peers.address_claims import AddressClaim
from warren_registry.peers.model import Peer
from warren_registry.presence.model import PeerPresence
from warren_service.outbox import OutboxEvent


class FleetState(NamedTuple):
    """The one row of the fleet."""

    epoch: int
    revision: int
    tombstones_reclaimed: int = 0
    stream_incarnation: str = ""


class TrustRow(NamedTuple):
    """The content of a trust document."""

    epoch: int
    revision: int
    policy: PublicKey
    registry: PublicKey
    servers: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()


class KickRow(NamedTuple):
    """A user whose connections are to be closed."""

    id: int
    user: str


class SignedRecord(NamedTuple):
    """The next state of a record, signed."""

    place: RecordKey
    state: PublishedState
    payload: str
    signature: str


class PendingRecord(NamedTuple):
    """A record that the relay has not published yet; `sequence` is the last known one of its subject."""

    place: RecordKey
    epoch: int
    revision: int
    withdrawn: bool
    payload: str
    signature: str
    sequence: int
    changed_at: datetime


class PublishedRecord(NamedTuple):
    """A record that the stream has stored, and its sequence."""

    place: RecordKey
    revision: int
    sequence: int


class FleetRows(Protocol):
    """The fleet's counters and its trust."""

    async def state(self) -> FleetState: ...
    async def next_revision(self, count: int = 1) -> int:
        """Assign `count` revisions, return the last, and block every other change until the commit."""
        ...

    async def set_epoch(self, epoch: int) -> None: ...
    async def set_stream_incarnation(self, incarnation: str) -> None: ...
    async def set_tombstones_reclaimed(self, revision: int) -> None: ...
    async def last_trust(self) -> TrustRow | None: ...
    async def add_trust(self, row: TrustRow) -> None: ...


class PeerRows(Protocol):
    """Peers, revoked or not, and revoked keys."""

    async def by_id(self, peer: PeerId) -> Peer | None: ...
    async def by_nkey(self, nkey: str) -> Peer | None:
        """The member of this key; never a revoked one."""
        ...

    async def key_revoked(self, nkey: str) -> bool: ...
    async def identity_holder(self, identity: str, other_than: PeerId) -> PeerId | None: ...
    async def overlapping(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]: ...
    async def endpoints_within(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]:
        """Endpoint addresses of other members within any of these networks."""
        ...

    async def save(self, peer: Peer, tagged_at: datetime | None = None) -> None:
        """Write the row, its networks and addresses, and (when it is revoked) its revoked key.

        `tagged_at`: since when it has carried those of its tags that are new; None: its tags are those that are stored.
        """
        ...

    async def page(self, after: str, limit: int, *, revoked: bool, scope: Scope | None = None) -> tuple[Peer, ...]: ...
    async def changed_since(self, version: int) -> tuple[Peer, ...]: ...


class ScopeRows(Protocol):
    """Which peers carry which tags, and since when; `PeerRows.save` writes it."""

    async def holders(self, scope: Scope, after: str, limit: int) -> tuple[tuple[PeerId, datetime], ...]:
        """The peers that carry a tag of a scope, revoked ones too, in order, each with the moment since when."""
        ...


class JoinTokenRows(Protocol):
    """Join tokens, by their hashes."""

    async def join_token(self, identifier: str) -> JoinTokenRow | None: ...
    async def add_join_token(self, row: JoinTokenRow) -> None: ...
    async def spend(self, identifier: str) -> None: ...
    async def join_token_page(self, after: str, limit: int) -> tuple[JoinTokenRow, ...]: ...
    async def remove_join_token(self, identifier: str) -> JoinTokenRow | None: ...
    async def known_tags(self, now: datetime) -> tuple[Tag, ...]:
        """Tags that a peer carries, or that a usable join token would give."""
        ...


class OperatorRows(Protocol):
    """Operators' tokens, by their hashes."""

    async def operator(self, digest: bytes) -> OperatorRow | None: ...
    async def add_operator(self, row: OperatorRow) -> bool:
        """Add a row; returns False when the name is taken."""
        ...

    async def operator_page(self, after: str, limit: int) -> tuple[OperatorRow, ...]: ...
    async def remove_operator(self, name: str) -> OperatorRow | None: ...
    async def valid_operators(self, now: datetime) -> frozenset[str]: ...


class DirectoryRows(Protocol):
    """The records of the directory, and which of them are published."""

    async def published_states(self) -> Mapping[RecordKey, PublishedState]: ...
    async def save(self, records: Iterable[SignedRecord], now: datetime) -> None: ...
    async def pending(self, limit: int) -> tuple[PendingRecord, ...]: ...
    async def mark_published(self, published: Iterable[PublishedRecord]) -> None: ...
    async def publish_all_again(self) -> None: ...
    async def last_sequence(self) -> int: ...
    async def page(self, reader: Audience, after: str, limit: int) -> tuple[SignedDocument, ...]: ...
    async def reclaim(self, before: datetime) -> int:
        """Delete older published withdrawals; returns their highest revision, 0 for none."""
        ...


class AfterCommit(Protocol):
    """Work after a commit: events to publish, connections to close."""

    async def add_event(self, event: OutboxEvent) -> None: ...
    async def pending_events(self, limit: int) -> tuple[OutboxEvent, ...]: ...
    async def events_done(self, ids: Iterable[int]) -> None: ...
    async def add_kick(self, user: str, now: datetime) -> None: ...
    async def pending_kicks(self, limit: int) -> tuple[KickRow, ...]: ...
    async def kicks_done(self, ids: Iterable[int]) -> None: ...


class PresenceRows(Protocol):
    """Presence as it was when it last changed."""

    async def all(self) -> Mapping[PeerId, PeerPresence]: ...
    async def save(self, presences: Mapping[PeerId, PeerPresence]) -> None: ...


class AuditRows(Protocol):
    """The audit log."""

    async def add(self, entry: AuditEntry) -> None:
        """Add an entry; its number is given by the table."""
        ...

    async def page(self, after: int, limit: int, scope: Scope | None = None) -> tuple[AuditEntry, ...]:
        """With a scope: what was done to its peers and their tunnels, since they have carried a tag of it."""
        ...


class Tables(Protocol):
    """The rows of one transaction."""

    @property
    def audit(self) -> AuditRows: ...
    @property
    def fleet(self) -> FleetRows: ...
    @property
    def peers(self) -> PeerRows: ...
    @property
    def scopes(self) -> ScopeRows: ...
    @property
    def join_tokens(self) -> JoinTokenRows: ...
    @property
    def operators(self) -> OperatorRows: ...
    @property
    def directory(self) -> DirectoryRows: ...
    @property
    def after_commit(self) -> AfterCommit: ...
    @property
    def presence(self) -> PresenceRows: ...


class Database(Protocol):
    """Transactions: all or nothing. Raises UnavailableError while PostgreSQL is unavailable."""

    def transaction(self) -> AbstractAsyncContextManager[Tables]: ...
    async def ready(self) -> bool: ...
