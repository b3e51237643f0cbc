"""A new epoch, as the policy service follows it: every set again, also the emptied ones that only the stream knows of.

The registry announces it (docs/backup.md). What makes it true is the signature of the trust root, whose public key this
service was given: neither the registry nor anybody else who can call services is believed without it.
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Protocol

import structlog

from warren_contracts.commands import EpochFollowed, FollowEpoch
from warren_contracts.documents import TrustDocument
from warren_contracts.names import PublicKey
from warren_contracts.problems import ConflictError, ForbiddenError, UnavailableError
from warren_contracts.subjects import Audience
from warren_intent.relations import readers
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange
from warren_policy.domain.sets import every_set
from warren_policy.errors import RevisionMovedError
from warren_policy.ports import CallContext, Commit, Outbox, OutboxQueue, OutboxSet, PolicyStore
from warren_service.restore_guard import RestoreGuard
from warren_trust.errors import DocumentRefusedError
from warren_trust.signing import verify_trust

MAX_RACES = 8  # tries against other instances

log = structlog.get_logger(__name__)


class Relay(Protocol):
    """What publishes the sets that are stored here (`warren_policy.relay.PolicyRelay`)."""

    @property
    def held(self) -> Collection[Audience]:
        """The readers that the stream holds a set of."""

    def wake(self) -> None:
        """Publish what was stored."""

    def bus_returned(self) -> None:
        """Compare the stream with the database first."""


class EpochFollower:
    """Takes this service from one epoch to the next. `root` is the public key of the trust root."""

    def __init__(
        self, store: PolicyStore, queue: OutboxQueue, restore_guard: RestoreGuard, relay: Relay, root: PublicKey, *,
        now: Callable[[], datetime], new_id: Callable[[], str],
    ) -> None:  # fmt: skip
        self._store = store
        self._queue = queue
        self._restore_guard = restore_guard
        self._relay = relay
        self._root = root
        self._now = now
        self._new_id = new_id

    async def follow(self, command: FollowEpoch, caller: CallContext) -> EpochFollowed:
        """Publish everything in the epoch of the trust document, once. Forbidden: the root did not sign it; Conflict: that
        epoch is over; Unavailable: PostgreSQL or the bus is unavailable."""
        trust = self._believed(command)
        for _ in range(MAX_RACES):
            snapshot = await self._store.snapshot()
            if trust.epoch == snapshot.epoch:
                self._relay.bus_returned()  # a repeated announcement finds sets of another epoch
                return EpochFollowed(epoch=snapshot.epoch, revision=snapshot.revision)
            if trust.epoch < snapshot.epoch:
                raise ConflictError(f"epoch {trust.epoch} is over: policies are at epoch {snapshot.epoch}")
            await self._restore_guard.compared()  # else readers that only the stream knows of would be forgotten
            known = {*await self._queue.published(), *self._relay.held}
            commit = await asyncio.to_thread(self._commit_of, snapshot, trust.epoch, known, caller)
            try:
                await self._store.commit(commit)
            except RevisionMovedError:
                continue
            self._relay.wake()
            log.warning(
                "policy.epoch_followed", epoch=trust.epoch, before=snapshot.epoch, readers=len(commit.outbox.sets),
                actor=caller.actor,
            )  # fmt: skip
            return EpochFollowed(epoch=trust.epoch, revision=commit.outbox.revision)
        raise UnavailableError(
            f"{MAX_RACES} other changes were stored meanwhile: repeat the call"
        )  # no Conflict: it is not over

    def _believed(self, command: FollowEpoch) -> TrustDocument:
        try:
            return verify_trust(self._root, command.trust)
        except DocumentRefusedError as refusal:
            raise ForbiddenError(f"this epoch is not announced by the trust root: {refusal}") from None

    def _commit_of(
        self, snapshot: PolicySnapshot, epoch: int, known: Collection[Audience], caller: CallContext
    ) -> Commit:
        revision = snapshot.revision + 1
        sets = every_set(snapshot.policies, known, epoch, revision, readers)
        outbox = Outbox(
            epoch, revision, self._now(), caller.traceparent,
            tuple(OutboxSet(item.reader, self._new_id(), item.payload) for item in sets), (),
        )  # fmt: skip
        unchanged = RevisionChange(revision, snapshot.policies, snapshot.policies)
        base = (snapshot.epoch, snapshot.revision)
        return Commit(base, "epoch", caller.actor, caller.trace_id, unchanged, outbox)
