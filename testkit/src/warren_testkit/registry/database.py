"""A database in memory: the fake of `ports.Database`, with the same transactions, constraints and order of changes."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network

from warren_contracts import subjects
from warren_contracts.addresses import IPNetwork
from warren_contracts.audit import AuditEntry
from warren_contracts.documents import SignedDocument, SignerRole
from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, Scope, Tag
from warren_contracts.networks import contains, overlap
from warren_contracts.subjects import Audience
from warren_registry.directory.model import PublishedState, RecordKey
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.operators.model import OperatorRow
from warren_registry.peers.address_claims import AddressClaim
from warren_registry.peers.model import Peer
from warren_registry.ports import (
    FleetState,
    KickRow,
    PendingRecord,
    PublishedRecord,
    SignedRecord,
    TrustRow,
)
from warren_registry.presence.model import PeerPresence
from warren_service.outbox import OutboxEvent
from warren_store import PostgresUnavailableError
from warren_testkit.registry.simple_tables import FakeAudit, FakePresence, FakeScopes, Tagged


@dataclass
class _RecordRow:
    statement: SignedRecord
    changed_at: datetime
    published: bool = False
    sequence: int = 0


@dataclass
class _State:
    """Everything that is stored. Rows are immutable or replaced, so copying the containers copies the state."""

    fleet: FleetState = field(default_factory=lambda: FleetState(epoch=1, revision=0))
    trust: list[TrustRow] = field(default_factory=list)
    peers: dict[str, Peer] = field(default_factory=dict)
    tagged: Tagged = field(default_factory=dict)  # by peer: since when it has carried its tags
    revoked_keys: set[str] = field(default_factory=set)
    join_tokens: dict[str, JoinTokenRow] = field(default_factory=dict)
    operators: dict[bytes, OperatorRow] = field(default_factory=dict)
    records: dict[RecordKey, _RecordRow] = field(default_factory=dict)
    events: list[OutboxEvent] = field(default_factory=list)
    kicks: list[KickRow] = field(default_factory=list)
    presence: dict[str, PeerPresence] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    counter: int = 0


class FakeFleet:
    """`ports.FleetRows` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    async def state(self) -> FleetState:
        return self._state.fleet

    async def next_revision(self, count: int = 1) -> int:
        self._state.fleet = self._state.fleet._replace(revision=self._state.fleet.revision + count)
        return self._state.fleet.revision

    async def set_epoch(self, epoch: int) -> None:
        self._state.fleet = self._state.fleet._replace(epoch=epoch)

    async def set_stream_incarnation(self, incarnation: str) -> None:
        self._state.fleet = self._state.fleet._replace(stream_incarnation=incarnation)

    async def set_tombstones_reclaimed(self, revision: int) -> None:
        highest = max(self._state.fleet.tombstones_reclaimed, revision)
        self._state.fleet = self._state.fleet._replace(tombstones_reclaimed=highest)

    async def last_trust(self) -> TrustRow | None:
        return max(self._state.trust, default=None)

    async def add_trust(self, row: TrustRow) -> None:
        self._state.trust.append(row)


class FakePeers:
    """`ports.PeerRows` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def _members(self) -> list[Peer]:
        return [peer for peer in self._state.peers.values() if not peer.revoked]

    async def by_id(self, peer: PeerId) -> Peer | None:
        return self._state.peers.get(peer)

    async def by_nkey(self, nkey: str) -> Peer | None:
        return next((peer for peer in self._members() if peer.nkey == nkey), None)

    async def key_revoked(self, nkey: str) -> bool:
        return nkey in self._state.revoked_keys

    async def identity_holder(self, identity: str, other_than: PeerId) -> PeerId | None:
        held = canonical(identity)
        return next(
            (peer.id for peer in self._members() if peer.canonical_identity == held and peer.id != other_than), None
        )

    async def endpoints_within(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]:
        called = (
            AddressClaim(peer.id, ip_network(endpoint.host))
            for peer in self._members() if peer.id != other_than and peer.announcement is not None
            for endpoint in peer.announcement.endpoints if not isinstance(endpoint.host, str)
        )  # fmt: skip
        found = (claim for claim in called if any(contains(subnet, claim.subnet) for subnet in subnets))
        return tuple(
            sorted(found, key=lambda claim: (claim.peer, claim.subnet.version, int(claim.subnet.network_address)))
        )

    async def overlapping(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]:
        found = {
            AddressClaim(peer.id, theirs, peer.allowed, peer.priority)
            for peer in self._members()
            if peer.id != other_than and peer.announcement is not None
            for theirs in peer.announcement.subnets
            if any(overlap(own, theirs) for own in subnets)
        }
        return tuple(sorted(found, key=lambda claim: (claim.peer, claim.subnet.version, claim.subnet)))

    async def save(self, peer: Peer, tagged_at: datetime | None = None) -> None:
        self._state.peers[peer.id] = peer
        if tagged_at is not None:
            held = self._state.tagged.get(peer.id, {})
            self._state.tagged[peer.id] = {tag: held.get(tag, tagged_at) for tag in peer.tags}
        if peer.revoked:
            self._state.revoked_keys.add(peer.nkey)

    async def page(self, after: str, limit: int, *, revoked: bool, scope: Scope | None = None) -> tuple[Peer, ...]:
        listed = self._state.peers.values() if revoked else self._members()
        found = (it for it in listed if it.id > after and (scope is None or not set(scope).isdisjoint(it.tags)))
        return tuple(sorted(found, key=lambda peer: peer.id)[:limit])

    async def changed_since(self, version: int) -> tuple[Peer, ...]:
        changed = (peer for peer in self._state.peers.values() if peer.version > version)
        return tuple(sorted(changed, key=lambda peer: peer.version))


class FakeJoinTokens:
    """`ports.JoinTokenRows` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    async def join_token(self, identifier: str) -> JoinTokenRow | None:
        return self._state.join_tokens.get(identifier)

    async def add_join_token(self, row: JoinTokenRow) -> None:
        self._state.join_tokens[row.id] = row

    async def spend(self, identifier: str) -> None:
        row = self._state.join_tokens[identifier]
        if row.used >= row.uses:
            raise ValueError("check constraint: limit of uses exceeded")
        self._state.join_tokens[identifier] = replace(row, used=row.used + 1)

    async def join_token_page(self, after: str, limit: int) -> tuple[JoinTokenRow, ...]:
        later = (row for row in self._state.join_tokens.values() if row.id > after)
        return tuple(sorted(later, key=lambda row: row.id)[:limit])

    async def remove_join_token(self, identifier: str) -> JoinTokenRow | None:
        return self._state.join_tokens.pop(identifier, None)

    async def known_tags(self, now: datetime) -> tuple[Tag, ...]:
        carried = {tag for peer in self._state.peers.values() if not peer.revoked for tag in peer.tags}
        tokens = self._state.join_tokens.values()
        given = {tag for row in tokens if row.used < row.uses and row.expires_at > now for tag in row.tags}
        return tuple(sorted(carried | given))


class FakeOperators:
    """`ports.OperatorRows` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    async def operator(self, digest: bytes) -> OperatorRow | None:
        return self._state.operators.get(digest)

    async def add_operator(self, row: OperatorRow) -> bool:
        if any(held.name == row.name for held in self.operators()):
            return False
        self._state.operators[row.digest] = row
        return True

    async def operator_page(self, after: str, limit: int) -> tuple[OperatorRow, ...]:
        later = (row for row in self.operators() if row.name > after)
        return tuple(sorted(later, key=lambda row: row.name)[:limit])

    async def remove_operator(self, name: str) -> OperatorRow | None:
        held = next((row for row in self.operators() if row.name == name), None)
        return None if held is None else self._state.operators.pop(held.digest)

    async def valid_operators(self, now: datetime) -> frozenset[str]:
        return frozenset(row.name for row in self.operators() if row.valid(now))

    def operators(self) -> tuple[OperatorRow, ...]:
        return tuple(self._state.operators.values())


class FakeDirectory:
    """`ports.DirectoryRows` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    async def published_states(self) -> Mapping[RecordKey, PublishedState]:
        return {place: row.statement.state for place, row in self._state.records.items()}

    async def save(self, records: Iterable[SignedRecord], now: datetime) -> None:
        for record in records:
            held = self._state.records.get(record.place)
            self._state.records[record.place] = _RecordRow(record, now, sequence=held.sequence if held else 0)

    async def pending(self, limit: int) -> tuple[PendingRecord, ...]:
        rows = [row for row in self._state.records.values() if not row.published]
        rows.sort(key=lambda row: (row.statement.state.withdrawn, row.statement.state.revision))
        return tuple(
            PendingRecord(
                row.statement.place, row.statement.state.epoch, row.statement.state.revision, row.statement.state.withdrawn,
                row.statement.payload, row.statement.signature, row.sequence, row.changed_at,
            )
            for row in rows[:limit]
        )  # fmt: skip

    async def mark_published(self, published: Iterable[PublishedRecord]) -> None:
        for place, revision, sequence in published:
            row = self._state.records[place]
            self._state.records[place] = replace(
                row, sequence=sequence, published=row.statement.state.revision == revision
            )

    async def publish_all_again(self) -> None:
        for place, row in self._state.records.items():
            self._state.records[place] = replace(row, published=False, sequence=0)

    async def last_sequence(self) -> int:
        return max((row.sequence for row in self._state.records.values()), default=0)

    async def page(self, reader: Audience, after: str, limit: int) -> tuple[SignedDocument, ...]:
        places = sorted(place for place in self._state.records if place.reader == reader and place.peer > after)
        rows = [row for row in map(self._state.records.__getitem__, places) if not row.statement.state.withdrawn]
        return tuple(
            SignedDocument(
                subject=subjects.directory(*row.statement.place), epoch=row.statement.state.epoch,
                revision=row.statement.state.revision, payload=row.statement.payload, signer=SignerRole.REGISTRY,
                signature=row.statement.signature,
            )
            for row in rows[:limit]
        )  # fmt: skip

    async def reclaim(self, before: datetime) -> int:
        old = [
            place
            for place, row in self._state.records.items()
            if row.published and row.statement.state.withdrawn and row.changed_at < before
        ]
        return max((self._state.records.pop(place).statement.state.revision for place in old), default=0)


class FakeAfterCommit:
    """`ports.AfterCommit` in memory."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def _next(self) -> int:
        self._state.counter += 1
        return self._state.counter

    async def add_event(self, event: OutboxEvent) -> None:
        self._state.events.append(replace(event, id=self._next()))

    async def pending_events(self, limit: int) -> tuple[OutboxEvent, ...]:
        return tuple(self._state.events[:limit])

    async def events_done(self, ids: Iterable[int]) -> None:
        done = set(ids)
        self._state.events = [event for event in self._state.events if event.id not in done]

    async def add_kick(self, user: str, now: datetime) -> None:
        self._state.kicks.append(KickRow(self._next(), user))

    async def pending_kicks(self, limit: int) -> tuple[KickRow, ...]:
        return tuple(self._state.kicks[:limit])

    async def kicks_done(self, ids: Iterable[int]) -> None:
        done = set(ids)
        self._state.kicks = [kick for kick in self._state.kicks if kick.id not in done]


class FakeTables:
    """`ports.Tables` in memory."""

    def __init__(self, state: _State) -> None:
        self.fleet = FakeFleet(state)
        self.peers = FakePeers(state)
        self.scopes = FakeScopes(state.tagged)
        self.join_tokens = FakeJoinTokens(state)
        self.operators = FakeOperators(state)
        self.directory = FakeDirectory(state)
        self.after_commit = FakeAfterCommit(state)
        self.presence = FakePresence(state.presence)
        self.audit = FakeAudit(state.audit, state.tagged)


class FakeDatabase:
    """`ports.Database` in memory. Set `unavailable` to make it unavailable."""

    def __init__(self) -> None:
        self.unavailable = False
        self._state = _State()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[FakeTables]:
        if self.unavailable:
            raise PostgresUnavailableError
        async with self._lock:
            state = copy.copy(self._state)
            for name, value in vars(state).items():
                if isinstance(value, dict | list | set):
                    setattr(state, name, value.copy())
            yield FakeTables(state)
            self._state = state

    async def ready(self) -> bool:
        return not self.unavailable
