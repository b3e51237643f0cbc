"""Keeps the fleet in one epoch: compares the stream with the database, and takes the policy service along.

A step compares after every connect. While the database is older than what was published from it, it fails with the remedy,
and nothing is published. After an operator has announced a new epoch, it informs the policy service of it, with the trust
document that the root signed, until everything that is published is of this epoch.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from warren_contracts.commands import EpochFollowed, FollowEpoch
from warren_contracts.documents import SignedDocument
from warren_contracts.problems import ConflictError, UnavailableError, WarrenError
from warren_registry.directory.model import RecordKey
from warren_registry.directory.reconciler import PolicySource
from warren_registry.epoch.service import FIRST
from warren_registry.epoch.trust import Trust
from warren_registry.errors import DatabaseRolledBackError
from warren_registry.ports import Database, FleetState
from warren_service.restore_guard import REMEDY, RestoredFromBackupError, RestoreGuard
from warren_trust.signing import Version


class HeldStream(Protocol):
    """The stream DIRECTORY."""

    async def declare(self) -> None: ...
    async def held(self) -> Mapping[str, Version]: ...


class PolicyService(Protocol):
    """The policy service, which follows the epoch."""

    async def follow(self, command: FollowEpoch) -> EpochFollowed: ...


class Epochs:
    """What the stream held, and which epoch the policy service has followed to."""

    def __init__(
        self, database: Database, stream: HeldStream, restore_guard: RestoreGuard, policies: PolicySource, trust: Trust,
        service: PolicyService,
    ) -> None:  # fmt: skip
        self._database = database
        self._stream = stream
        self._standing = restore_guard
        self._policies = policies
        self._trust = trust
        self._service = service
        self._due = True
        self._version: Version = (0, 0)  # of the database, when it was last looked at
        self._followed = FIRST
        self.places: Mapping[RecordKey, Version] = {}
        self.restored = ""  # why nothing may be published; empty: it may
        self.actor = "registry"  # who announced the epoch, as far as this process knows

    def compare_again(self) -> None:
        """The stream may be another one, or the database."""
        self._due = True

    @property
    def newest(self) -> int:
        """The highest epoch of anything that is published; Unavailable until that is known."""
        if not self._policies.complete:
            raise UnavailableError("the published policies have not been read yet: repeat the call")
        return max(self._standing.newest[0], *self._policies.view.epochs, 0)

    async def step(self) -> None:
        """Compare if that is due; inform the policy service if it lags. Raises RestoredFromBackupError and Unavailable; and
        DatabaseRolledBackError, which ends the process."""
        if self._due:
            await self._compare()
            self._due = False
        async with self._database.transaction() as tables:
            state = await tables.fleet.state()
            trust = await self._trust.document(tables)
        self._refuse_older(state)
        epoch = state.epoch
        published = self._policies.view.epochs
        self.restored = self._standing.blocked_reason(epoch) or _lagging(epoch, published)
        if self.restored:
            raise RestoredFromBackupError(self.restored)
        if self._followed != epoch or any(other < epoch for other in published):
            await self._tell(trust)

    def _refuse_older(self, state: FleetState) -> None:
        """A database that goes back was restored under us, and nothing that this process knows of it is true any more."""
        version = (state.epoch, state.revision)
        if version < self._version:
            raise DatabaseRolledBackError(
                f"the database was at {self._version} and is at {version}: restored while we ran"
            )
        self._version = version

    async def _tell(self, trust: SignedDocument) -> None:
        try:
            followed = await self._service.follow(FollowEpoch(trust=trust, actor=self.actor))
        except ConflictError as error:  # it was in a later epoch, of which nothing is published any more
            self.restored = f"{error}: after a restore from a backup {REMEDY}"
            raise RestoredFromBackupError(self.restored) from None
        except WarrenError as error:
            raise UnavailableError(f"the policy service does not follow to epoch {trust.epoch}: {error}") from None
        self._followed = followed.epoch

    async def _compare(self) -> None:
        await self._stream.declare()
        held = await self._stream.held()
        async with self._database.transaction() as tables:
            state = await tables.fleet.state()
        self.places = {place: version for subject, version in held.items() if (place := place_of(subject)) is not None}
        self._standing.compare(held.values(), (state.epoch, state.revision))


def _lagging(epoch: int, published: Collection[int]) -> str:
    newest = max(published, default=0)
    if newest <= epoch:
        return ""
    return f"the policies are of epoch {newest}, the directory of epoch {epoch}: after a restore from a backup {REMEDY}"


def place_of(subject: str) -> RecordKey | None:
    """The place of a record by its subject; None for a digest."""
    tokens = subject.split(".")
    return RecordKey(tokens[3], tokens[4]) if len(tokens) == 5 and tokens[2] == "directory" else None
