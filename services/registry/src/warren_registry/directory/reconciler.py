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
from warren_registry.peers.address_claims import PolicyClaimsCache, withheld_from
from warren_registry.peers.model import Peer, record_of, tombstone
from warren_registry.ports import Database, FleetState, SignedRecord
from warren_service.policy_view import PolicyView
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
        stream_versions: Callable[[], Mapping[RecordKey, Version]] = lambda: MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._database = database
        self._policies = policies
        self._signer = signer
        self._restore_guard = restore_guard
        self._stream_versions = stream_versions  # what the stream held when it was compared
        self._clock = clock
        self._monotonic = monotonic
        self._policy_claims = PolicyClaimsCache(lambda: policies.view)
        self._withheld: dict[PeerId, str] = {}
        self._incomplete_since: float | None = None
        self._read_to = 0
        self._published: dict[RecordKey, PublishedState] | None = None
        self.peers: dict[PeerId, Peer] = {}
        self.fleet = FleetState(0, 0)
        self.epoch = 0  # of the last complete step; 0: none yet

    @property
    def published(self) -> Mapping[RecordKey, PublishedState]:
        """The last published state of every record; empty before the first step."""
        return self._published or {}

    async def step(self) -> int:
        """Write all due updates; return how many. Raises UnavailableError."""
        await self._read_changes()
        self._restore_guard.check(self.fleet.epoch)
        if not self._policies.complete:
            raise UnavailableError("the published policies have not been read yet")
        if self._policies.view.epochs - {self.fleet.epoch}:  # behind, or (after a restore of only this database) ahead
            raise UnavailableError(f"the policies are not published in epoch {self.fleet.epoch} yet")
        self._require_complete_batches()
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
            if self._published is None:
                self._published = dict(await tables.directory.published_states())
        for peer in changed:
            self.peers[peer.id] = peer
            self._read_to = max(self._read_to, peer.version)

    def _require_complete_batches(self) -> None:
        if self._policies.view.batches_complete():
            self._incomplete_since = None
            return
        now = self._monotonic()
        self._incomplete_since = self._incomplete_since if self._incomplete_since is not None else now
        if now - self._incomplete_since < BATCH_TIMEOUT:
            raise IncompleteBatchError
        log.warning("directory.incomplete_batch")  # used incomplete: the rest corrects it when it arrives

    def _updates(self, policies: tuple[PublishedPolicy, ...]) -> tuple[DirectoryUpdate, ...]:
        members = {peer.id: peer.tags for peer in self.peers.values() if not peer.revoked}
        wanted = desired(relations(policies, members), self.peers)
        claims = self._policy_claims()
        withheld = (
            {peer.id: text for peer in self.peers.values() if (text := withheld_from(claims, peer))} if claims else {}
        )
        for peer in sorted(withheld):
            if withheld[peer] != self._withheld.get(peer):
                log.warning("directory.withheld", peer=peer, withheld=withheld[peer])
        self._withheld = withheld
        published = {**self._unknown_records(), **self.published}
        return difference(wanted, published, self.fleet.epoch, self._signer.public_key, withheld)

    def _unknown_records(self) -> Mapping[RecordKey, PublishedState]:
        """Records of a former epoch that a restored database does not contain: they are withdrawn in this one."""
        return {
            place: PublishedState(*version, peer_version=0, withdrawn=False, signed_by="")
            for place, version in self._stream_versions().items()
            if version[0] < self.fleet.epoch and place not in self.published
        }

    async def _write(self, updates: tuple[DirectoryUpdate, ...]) -> None:
        try:
            async with self._database.transaction() as tables:
                last = await tables.fleet.next_revision(len(updates))
                epoch = (await tables.fleet.state()).epoch
                first = last - len(updates) + 1
                records = [self._sign(item, epoch, first + index) for index, item in enumerate(updates)]
                await tables.directory.save(records, self._clock())
        except UnavailableError:
            self._published = None  # the commit may have happened: read it again
            raise
        self._published = {**self.published, **{record.place: record.state for record in records}}

    def _sign(self, update: DirectoryUpdate, epoch: int, revision: int) -> SignedRecord:
        place, peer = update
        record = record_of(peer, epoch, revision) if peer is not None else tombstone(place.peer, epoch, revision)
        record = apply_claims(self._policy_claims(), {place.peer: record})[0][place.peer]
        payload = record.model_dump_json()
        headers = self._signer.headers(subjects.directory(*place), epoch, revision, payload.encode())
        version = peer.version if peer is not None else 0
        state = PublishedState(
            epoch,
            revision,
            version,
            peer is None,
            self._signer.public_key,
            self._withheld.get(place.peer, "") if peer else "",
        )
        return SignedRecord(place, state, payload, headers[HEADER_SIGNATURE])
