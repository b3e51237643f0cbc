"""Reconcile the published directory with the desired one.

A step reads the changed peers, computes the relations of the published policies, and writes the difference: one
signed row for each reader and peer, all in one transaction with their revisions. Nothing is withdrawn before all policies
are known: an empty view at the start would withdraw everything.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

import structlog

from warren_contracts import subjects
from warren_contracts.documents import HEADER_SIGNATURE
from warren_contracts.names import PeerId
from warren_contracts.policy import PublishedPolicy
from warren_contracts.problems import UnavailableError
from warren_intent.claims import apply_claims
from warren_intent.relations import relations
from warren_registry.directory.model import DirectoryUpdate, PublishedState, RecordKey, desired, difference
from warren_registry.directory.policies import PolicyView
from warren_registry.peers.address_claims import GivenByPolicies, withheld_of
from warren_registry.peers.model import Peer, record_of, tombstone
from warren_registry.ports import Database, FleetState, SignedRecord
from warren_service.restore_guard import RestoreGuard
from warren_trust.signing import Signer, Version

BATCH_TIMEOUT = 1.0  # s to wait for the rest of a batch of policies (agents wait as long)
MAX_ROWS = 2_000  # rows in one transaction: the first publication of a large fleet is split

log = structlog.get_logger(__name__)


class PolicySource(Protocol):
    """The published policies: a view, and whether it is complete."""

    @property
    def view(self) -> PolicyView: ...
    @property
    def complete(self) -> bool: ...


class IncompleteBatchError(UnavailableError):
    """Only a part of a batch of policies has arrived."""


class DirectoryReconciler:
    """The peers, their published records, and the step that reconciles both."""

    def __init__(
        self, database: Database, policies: PolicySource, signer: Signer, restore_guard: RestoreGuard,
        clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic,
        seen: Callable[[], Mapping[RecordKey, Version]] = lambda: MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._database = database
        self._policies = policies
        self._signer = signer
        self._standing = restore_guard
        self._seen = seen  # what the stream held when it was compared
        self._clock = clock
        self._monotonic = monotonic
        self._given = GivenByPolicies(lambda: policies.view)
        self._withheld: dict[PeerId, str] = {}
        self._half_since: float | None = None
        self._read_to = 0
        self._told: dict[RecordKey, PublishedState] | None = None
        self.peers: dict[PeerId, Peer] = {}
        self.fleet = FleetState(0, 0)
        self.epoch = 0  # of the last complete step; 0: none yet

    @property
    def told(self) -> Mapping[RecordKey, PublishedState]:
        """The last published state of every record; empty before the first step."""
        return self._told or {}

    async def step(self) -> int:
        """Write all due updates; return how many. Raises UnavailableError."""
        await self._read_changes()
        self._standing.check(self.fleet.epoch)
        if not self._policies.complete:
            raise UnavailableError("the published policies have not been read yet")
        if self._policies.view.epochs - {self.fleet.epoch}:  # behind, or (after a restore of only this database) ahead
            raise UnavailableError(f"the policies are not published in epoch {self.fleet.epoch} yet")
        self._require_whole()
        updates = self._updates(self._policies.view.policies())
        for start in range(0, len(updates), MAX_ROWS):
            await self._write(updates[start : start + MAX_ROWS])
        self.epoch = self.fleet.epoch
        if updates:
            log.info("directory.updated", records=len(updates), withdrawn=sum(item.peer is None for item in updates))
        return len(updates)

    async def _read_changes(self) -> None:
        async with self._database.transaction() as tables:
            self.fleet = await tables.fleet.state()
            changed = await tables.peers.changed_since(self._read_to)
            if self._told is None:
                self._told = dict(await tables.directory.told())
        for peer in changed:
            self.peers[peer.id] = peer
            self._read_to = max(self._read_to, peer.version)

    def _require_whole(self) -> None:
        if self._policies.view.whole():
            self._half_since = None
            return
        now = self._monotonic()
        self._half_since = self._half_since if self._half_since is not None else now
        if now - self._half_since < BATCH_TIMEOUT:
            raise IncompleteBatchError
        log.warning("directory.incomplete_batch")  # used as it is: the rest corrects it when it arrives

    def _updates(self, policies: tuple[PublishedPolicy, ...]) -> tuple[DirectoryUpdate, ...]:
        members = {peer.id: peer.tags for peer in self.peers.values() if not peer.revoked}
        wanted = desired(relations(policies, members), self.peers)
        given = self._given()
        withheld = (
            {peer.id: said for peer in self.peers.values() if (said := withheld_of(given, peer))} if given else {}
        )
        for peer in sorted(withheld):
            if withheld[peer] != self._withheld.get(peer):
                log.warning("directory.withheld", peer=peer, what=withheld[peer])
        self._withheld = withheld
        told = {**self._unknown_records(), **self.told}
        return difference(wanted, told, self.fleet.epoch, self._signer.public_key, withheld)

    def _unknown_records(self) -> Mapping[RecordKey, PublishedState]:
        """Records of a former epoch that a restored database does not contain: they are withdrawn in this one."""
        return {
            place: PublishedState(*version, peer_version=0, withdrawn=False, signed_by="")
            for place, version in self._seen().items()
            if version[0] < self.fleet.epoch and place not in self.told
        }

    async def _write(self, updates: tuple[DirectoryUpdate, ...]) -> None:
        try:
            async with self._database.transaction() as tables:
                last = await tables.fleet.next_revision(len(updates))
                epoch = (await tables.fleet.state()).epoch
                first = last - len(updates) + 1
                statements = [self._state(item, epoch, first + index) for index, item in enumerate(updates)]
                await tables.directory.tell(statements, self._clock())
        except UnavailableError:
            self._told = None  # the commit may have happened: read it again
            raise
        self._told = {**self.told, **{statement.place: statement.told for statement in statements}}

    def _state(self, update: DirectoryUpdate, epoch: int, revision: int) -> SignedRecord:
        place, peer = update
        record = record_of(peer, epoch, revision) if peer is not None else tombstone(place.peer, epoch, revision)
        record = apply_claims(self._given(), {place.peer: record})[0][place.peer]
        payload = record.model_dump_json()
        headers = self._signer.headers(subjects.directory(*place), epoch, revision, payload.encode())
        version = peer.version if peer is not None else 0
        told = PublishedState(
            epoch,
            revision,
            version,
            peer is None,
            self._signer.public_key,
            self._withheld.get(place.peer, "") if peer else "",
        )
        return SignedRecord(place, told, payload, headers[HEADER_SIGNATURE])
