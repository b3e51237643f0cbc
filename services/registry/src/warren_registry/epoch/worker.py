"""Keep the fleet in one epoch: compare the stream with the database, and announce the epoch to the policy service.

A step compares after every connect. While the database is older than its stream, the step fails with the remedy, and nothing is
published. After an operator has advanced the epoch, it is announced to the policy service, with the trust document that the root
signed, until everything published is of this epoch.
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


class DocumentStream(Protocol):
    """The stream DIRECTORY."""

    async def wait_declared(self) -> None: ...
    async def held(self) -> Mapping[str, Version]: ...


class PolicyEpochClient(Protocol):
    """The policy service, which follows the epoch."""

    async def follow(self, command: FollowEpoch) -> EpochFollowed: ...


class Epochs:
    """The versions of the stream at the last comparison, and the epoch that the policy service has followed to."""

    def __init__(
        self, database: Database, stream: DocumentStream, restore_guard: RestoreGuard, policies: PolicySource, trust: Trust,
        service: PolicyEpochClient,
    ) -> None:  # fmt: skip
        self._database = database
        self._stream = stream
        self._restore_guard = restore_guard
        self._policies = policies
        self._trust = trust
        self._service = service
        self._due = True
        self._version: Version = (0, 0)  # of the database, when it was last looked at
        self._followed = FIRST
        self.stream_versions: Mapping[RecordKey, Version] = {}
        self.restored = ""  # why publishing is blocked; empty: it is allowed
        self.actor = "registry"  # the operator who announced the epoch, if it was this process that served the call

    def request_comparison(self) -> None:
        """Compare in the next step: the stream or the database may be another one."""
        self._due = True

    @property
    def newest(self) -> int:
        """The highest published epoch; UnavailableError until that is known."""
        if not self._policies.complete:
            raise UnavailableError("the published policies have not been read yet: repeat the call")
        return max(self._restore_guard.newest[0], *self._policies.view.epochs, 0)

    async def step(self) -> None:
        """Compare if that is due; announce the epoch to the policy service if it lags.

        Raises RestoredFromBackupError, UnavailableError, and DatabaseRolledBackError, which ends the process.
        """
        if self._due:
            await self._compare()
            self._due = False
        async with self._database.transaction() as tables:
            state = await tables.fleet.state()
            trust = await self._trust.document(tables)
        self._refuse_older(state)
        epoch = state.epoch
        published = self._policies.view.epochs
        self.restored = self._restore_guard.blocked_reason(epoch) or _lagging(epoch, published)
        if self.restored:
            raise RestoredFromBackupError(self.restored)
        if self._followed != epoch or any(other < epoch for other in published):
            await self._announce(trust)

    def _refuse_older(self, state: FleetState) -> None:
        """Raise DatabaseRolledBackError if the database was restored while we ran: all that this process has read is outdated."""
        version = (state.epoch, state.revision)
        if version < self._version:
            raise DatabaseRolledBackError(
                f"the database was at {self._version} and is at {version}: restored while we ran"
            )
        self._version = version

    async def _announce(self, trust: SignedDocument) -> None:
        try:
            followed = await self._service.follow(FollowEpoch(trust=trust, actor=self.actor))
        except ConflictError as error:  # the policy service is in a later epoch, of which nothing is published any more
            self.restored = f"{error}: after a restore from a backup {REMEDY}"
            raise RestoredFromBackupError(self.restored) from None
        except WarrenError as error:
            raise UnavailableError(f"the policy service does not follow to epoch {trust.epoch}: {error}") from None
        self._followed = followed.epoch

    async def _compare(self) -> None:
        await self._stream.wait_declared()
        held = await self._stream.held()
        async with self._database.transaction() as tables:
            state = await tables.fleet.state()
        self.stream_versions = {
            place: version for subject, version in held.items() if (place := record_key_of(subject)) is not None
        }
        self._restore_guard.compare(held.values(), (state.epoch, state.revision))


def _lagging(epoch: int, published: Collection[int]) -> str:
    newest = max(published, default=0)
    if newest <= epoch:
        return ""
    return f"the policies are of epoch {newest}, the directory of epoch {epoch}: after a restore from a backup {REMEDY}"


def record_key_of(subject: str) -> RecordKey | None:
    """The key of a record by its subject; None for a digest."""
    tokens = subject.split(".")
    return RecordKey(tokens[3], tokens[4]) if len(tokens) == 5 and tokens[2] == "directory" else None
