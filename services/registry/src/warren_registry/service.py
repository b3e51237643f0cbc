"""The registry's RPC verbs but those of tokens (`token_service`): each is one transaction, and wakes the workers after its commit."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from warren_contracts import subjects
from warren_contracts.audit import AuditLog
from warren_contracts.bus_queries import FleetTrust
from warren_contracts.commands import (
    AdvanceEpoch,
    EpochReply,
    FleetDirectory,
    OrderTunnel,
    PeerChange,
    PeerList,
    ReadDirectory,
    RevokePeer,
    SetPriority,
    TunnelOrdered,
)
from warren_contracts.documents import (
    AnnounceReply,
    DirectoryPage,
    DirectoryPageRequest,
    EnrolReply,
    EnrolRequest,
    ReaderDigest,
    Whoami,
)
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement, PeerHost, PeerSummary
from warren_contracts.problems import ConflictError, ForbiddenError, InvalidInputError, UnavailableError
from warren_contracts.scope import ListAudit, ListPeers, ListScopedPeers, ScopedPeers
from warren_contracts.subjects import Audience
from warren_contracts.verdicts import identity_in_use
from warren_intent.claims import PolicyClaims
from warren_process.token_bucket import RateLimiter
from warren_registry.audit.service import list_audit, record
from warren_registry.directory.pages import read_page
from warren_registry.enrolment.service import enrol_peer
from warren_registry.epoch.service import FIRST, advance
from warren_registry.epoch.trust import Trust
from warren_registry.errors import IdentityInUseError
from warren_registry.peers import membership, queries
from warren_registry.peers.announcement import BURST, RATE
from warren_registry.peers.orders import order_tunnel
from warren_registry.ports import Database, Tables
from warren_registry.presence.connections import UNKNOWN_HOST, ConnectionHost
from warren_registry.presence.tracker import PresenceTracker
from warren_registry.scopes import service as scopes
from warren_service.restore_guard import RestoreGuard

log = structlog.get_logger(__name__)


class DigestSource(Protocol):
    @property
    def epoch(self) -> int: ...
    def of(self, reader: Audience) -> ReaderDigest | None: ...


class EpochSource(Protocol):
    """The published epochs."""

    @property
    def newest(self) -> int: ...


@dataclass(frozen=True, slots=True)
class FollowedStreams:
    """What the service knows of the streams that it follows: its own of the directory, and that of the policies."""

    restore_guard: RestoreGuard
    epochs: EpochSource
    digests: DigestSource
    policy_claims: Callable[[], PolicyClaims]


class BackgroundWork(Protocol):
    """What the service does between the calls: a call wakes it, or waits for it."""

    def committed(self) -> None:
        """A transaction has changed something that is to be published."""

    def epoch_announced(self, actor: str) -> None:
        """An operator has advanced the epoch."""

    async def confirm_connections(self, peer: PeerId) -> None:
        """Ask the bus for the connections of a peer: the end of one may not have been reported yet."""


class Registry:
    """The calls of the registry. The callers are verified before."""

    def __init__(
        self, database: Database, trust: Trust, streams: FollowedStreams, presence: PresenceTracker, work: BackgroundWork, *,
        clock: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._database = database
        self._trust = trust
        self._streams = streams
        self._presence = presence
        self._work = work
        self._clock = clock
        self._rate_limiter = RateLimiter(BURST, RATE)

    @asynccontextmanager
    async def _current(self) -> AsyncIterator[Tables]:
        """A transaction that assigns or reads revisions; RestoredFromBackupError if the database is older than its stream."""
        await self._streams.restore_guard.compared()
        async with self._database.transaction() as tables:
            self._streams.restore_guard.check((await tables.fleet.state()).epoch)
            yield tables

    async def enrol(self, nkey: str, request: EnrolRequest) -> EnrolReply:
        now = self._clock()
        async with self._current() as tables:
            decision = await enrol_peer(tables, request, nkey, self._streams.policy_claims(), now)
            trust = await self._trust.document(tables)
        peer = decision.peer
        self._work.committed()
        log.info("peer.enrolled", peer=peer.id, tags=peer.tags, join=peer.join_token, repeated=not decision.fresh)
        return EnrolReply(
            peer=peer.id, tags=peer.tags, epoch=trust.epoch, root=self._trust.root_key, trust=trust,
            enrolled_at=peer.enrolled_at,
        )  # fmt: skip

    async def whoami(self, peer: PeerId) -> Whoami:
        async with self._database.transaction() as tables:
            found = await membership.find_member(tables, peer)
            trust = await self._trust.document(tables)
        if (
            trust.epoch > FIRST and self._streams.digests.epoch != trust.epoch
        ):  # agents change to it when all is published
            raise UnavailableError(f"epoch {trust.epoch} is being published: repeat the call")
        digests = (self._streams.digests.of(reader) for reader in subjects.readers_of(peer, found.tags))
        return Whoami(
            peer=peer, epoch=trust.epoch, revision=found.version, tags=found.tags, trust=trust,
            digests=tuple(digest for digest in digests if digest is not None),
        )  # fmt: skip

    async def announce(
        self, peer: PeerId, announcement: Announcement, caller: ConnectionHost = UNKNOWN_HOST
    ) -> AnnounceReply:
        """Raises IdentityInUseError for another host than the one that has the peer's record."""
        await self._refuse_other_host(peer, caller)
        try:
            async with self._current() as tables:
                found, changed, refused = await membership.announce(
                    tables, peer, announcement, self._streams.policy_claims(), self._clock(), self._rate_limiter
                )
        except (InvalidInputError, ConflictError) as error:
            self._presence.announced(peer, error.problem().line)
            raise
        self._presence.announced(peer, "; ".join(f"{it.field}: {it.message}" for it in refused))
        self._presence.holders.accept(peer, caller)
        if changed:
            self._work.committed()
            log.info("peer.announced", peer=peer, revision=found.version, refused=[it.message for it in refused])
        return AnnounceReply(revision=found.version, changed=changed, refused=refused)

    async def _refuse_other_host(self, peer: PeerId, caller: ConnectionHost) -> None:
        holders = self._presence.holders
        if holders.other_holder(peer, caller) is None:
            return
        await self._work.confirm_connections(peer)
        if (holder := holders.other_holder(peer, caller)) is None:
            return
        holders.refused(peer)
        hosts = (PeerHost(name=it.name, address=it.address, holds_record=it is holder) for it in (holder, caller))
        raise IdentityInUseError(identity_in_use(tuple(hosts)))

    async def directory_page(self, peer: PeerId, request: DirectoryPageRequest) -> DirectoryPage:
        """A page of one of the peer's own readers; ForbiddenError for another's."""
        async with self._current() as tables:
            found = await membership.find_member(tables, peer)
            if request.reader not in subjects.readers_of(peer, found.tags):
                raise ForbiddenError(f"{peer} does not read {request.reader}")
            return await read_page(tables, request)

    async def records(self, request: DirectoryPageRequest) -> DirectoryPage:
        """A page of any reader, for operators and other systems."""
        async with self._current() as tables:
            return await read_page(tables, request)

    async def fleet_trust(self) -> FleetTrust:
        """The root's public key, and the trust document of now."""
        async with self._database.transaction() as tables:
            return FleetTrust(root=self._trust.root_key, trust=await self._trust.document(tables))

    async def peers(self, page: ListPeers) -> PeerList:
        async with self._database.transaction() as tables:
            return await queries.list_peers(tables, page, self._presence)

    async def scoped_peers(self, page: ListScopedPeers) -> ScopedPeers:
        async with self._database.transaction() as tables:
            return await scopes.list_scoped_peers(tables, page)

    async def peer(self, peer: PeerId) -> PeerSummary:
        async with self._database.transaction() as tables:
            found = await membership.find(tables, peer)
            return queries.summary_of(found, (await tables.fleet.state()).epoch, self._presence)

    async def retag(self, command: PeerChange) -> PeerSummary:
        now = self._clock()
        async with self._current() as tables:
            found = await membership.retag(tables, command.peer, command.tags, command.actor, now)
            await record(tables, "retag", command.peer, command, now)
            epoch = (await tables.fleet.state()).epoch
        self._work.committed()
        log.info("peer.retagged", peer=found.id, tags=found.tags, actor=command.actor)
        return queries.summary_of(found, epoch, self._presence)

    async def set_priority(self, command: SetPriority) -> PeerSummary:
        async with self._current() as tables:
            now = self._clock()
            found = await membership.set_priority(tables, command.peer, command.priority, command.actor, now)
            await record(tables, "set_priority", command.peer, command, now)
            epoch = (await tables.fleet.state()).epoch
        self._work.committed()
        log.info("peer.priority_changed", peer=found.id, priority=found.priority, actor=command.actor)
        return queries.summary_of(found, epoch, self._presence)

    async def order_tunnel(self, command: OrderTunnel) -> TunnelOrdered:
        async with self._current() as tables:
            now = self._clock()
            await order_tunnel(tables, command, now)
            await record(tables, f"{command.action}_tunnel", command.tunnel, command, now)
        self._work.committed()
        log.info(
            "tunnel.ordered", peer=command.peer, tunnel=command.tunnel, action=command.action.value, sa=command.sa or "",
            actor=command.actor,
        )  # fmt: skip
        return TunnelOrdered(peer=command.peer, tunnel=command.tunnel, action=command.action, sa=command.sa, at=now)

    async def revoke(self, command: RevokePeer) -> PeerSummary:
        async with self._current() as tables:
            now = self._clock()
            found = await membership.revoke(tables, command.peer, command.actor, now)
            await record(tables, "revoke", command.peer, command, now)
            epoch = (await tables.fleet.state()).epoch
        self._presence.revoked([found.id])
        self._work.committed()
        log.info("peer.revoked", peer=found.id, actor=command.actor)
        return queries.summary_of(found, epoch, self._presence)

    async def fleet_directory(self, page: ReadDirectory) -> FleetDirectory:
        async with self._database.transaction() as tables:
            return await queries.fleet_directory(tables, page, self._clock())

    async def advance_epoch(self, command: AdvanceEpoch) -> EpochReply:
        """Advance the epoch. Raises NotComparedError until the published epochs are known."""
        await self._streams.restore_guard.compared()
        now = self._clock()
        async with self._database.transaction() as tables:
            reply = await advance(tables, self._trust, command, self._streams.epochs.newest, now)
            await record(tables, "advance_epoch", str(reply.epoch), command, now)
        self._work.committed()
        self._work.epoch_announced(command.actor)
        log.warning("epoch.advanced", epoch=reply.epoch, before=reply.before, actor=command.actor)
        return reply

    async def audit(self, page: ListAudit) -> AuditLog:
        async with self._database.transaction() as tables:
            return await list_audit(tables, page)
