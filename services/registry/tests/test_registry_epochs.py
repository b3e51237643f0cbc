"""A restored database publishes nothing; a new epoch, announced and signed, publishes everything."""

import pytest

from warren_contracts.commands import AdvanceEpoch
from warren_contracts.problems import ConflictError, ForbiddenError, InvalidInputError, UnavailableError, WarrenError
from warren_registry.directory.model import RecordKey
from warren_registry.epoch.service import advance
from warren_registry.errors import DatabaseRolledBackError
from warren_service.restore_guard import RestoredFromBackupError
from warren_testkit.registry.workers import NOW, ROOT, Fleet
from warren_trust.signing import verify_trust


class Restored:
    """A fleet whose database was restored: the stream holds documents that the backup lacks."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.unknown = RecordKey("tag=hub", "spoke-9")

    async def begin(self) -> None:
        fleet = self.fleet
        await fleet.hubs_and_spokes()
        await fleet.settle()
        await fleet.digests.step(all_readers=True)
        fleet.stream.records[self.unknown] = ((1, 900), 900)
        fleet.epochs.request_comparison()
        with pytest.raises(RestoredFromBackupError, match="DIRECTORY holds epoch 1, revision 900"):
            await fleet.epochs.step()

    async def advance(self, to: int | None = None) -> int:
        fleet = self.fleet
        async with fleet.database.transaction() as tables:
            command = AdvanceEpoch(to=to, actor="ann")
            reply = await advance(tables, fleet.trust, command, fleet.epochs.newest, NOW)
        return reply.epoch


async def test_a_restored_database_publishes_nothing(fleet: Fleet) -> None:
    await Restored(fleet).begin()
    said, digests = len(fleet.stream.published), len(fleet.stream.digests)
    await fleet.add("spoke-2", "branch")
    for _ in range(2):  # also when the count has gone on
        with pytest.raises(RestoredFromBackupError):
            await fleet.reconciler.step()
        with pytest.raises(RestoredFromBackupError):
            await fleet.digests.step(all_readers=True)
    assert (len(fleet.stream.published), len(fleet.stream.digests)) == (said, digests)


async def test_a_new_epoch_is_announced_to_policy_and_withdraws_what_only_the_stream_has(fleet: Fleet) -> None:
    restored = Restored(fleet)
    await restored.begin()
    before = fleet.held()
    assert await restored.advance() == 2
    fleet.service.unavailable = True
    with pytest.raises(UnavailableError):
        await fleet.epochs.step()
    with pytest.raises(UnavailableError, match="not published in epoch 2 yet"):
        await fleet.reconciler.step()
    with pytest.raises(
        UnavailableError, match="not published in epoch 2 yet"
    ):  # it would void the policies that agents hold
        await fleet.digests.step(all_readers=True)
    fleet.service.unavailable = False
    await fleet.epochs.step()
    (followed,) = fleet.service.followed
    assert verify_trust(ROOT.public_key, followed.trust).epoch == 2
    fleet.publish(2, "tag=hub", "tag=branch", epoch=2)
    await fleet.epochs.step()
    await fleet.settle()
    assert len(fleet.service.followed) == 1
    assert fleet.held() == before
    newest = {record.place: record for record in fleet.stream.published}
    assert {record.epoch for record in newest.values()} == {2}
    assert newest[restored.unknown].withdrawn
    await fleet.digests.step(all_readers=True)
    digest = fleet.digests.of("tag=hub")
    assert digest is not None
    assert (digest.epoch, digest.policy_revision) == (2, 2)
    assert await fleet.reconciler.step() == 0
    async with fleet.database.transaction() as tables:
        (event,) = (it for it in await tables.after_commit.pending_events(99) if ".epoch." in it.subject)
    assert (event.subject, event.type) == ("warren.v1.event.registry.epoch.2", "warren.epoch.advanced.v1")


async def test_an_epoch_is_higher_than_everything_that_was_published(fleet: Fleet) -> None:
    restored = Restored(fleet)
    await restored.begin()
    fleet.publish(
        2, "tag=hub", "tag=branch", epoch=6
    )  # policies were in a later epoch than this backup of the registry
    for to in (2, 6):
        with pytest.raises(InvalidInputError, match="higher than epoch 6, which was published already"):
            await restored.advance(to)
    fleet.policies.complete = False
    with pytest.raises(UnavailableError, match="policies have not been read yet"):
        await restored.advance()
    fleet.policies.complete = True
    assert await restored.advance() == 7
    assert await restored.advance(40) == 40


async def test_a_registry_that_was_restored_alone_is_detected_by_the_policies(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    fleet.publish(2, "tag=hub", "tag=branch", epoch=2)
    with pytest.raises(RestoredFromBackupError, match="the policies are of epoch 2, the directory of epoch 1"):
        await fleet.epochs.step()


async def test_the_epoch_is_announced_again_to_a_restored_policy_database(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    async with fleet.database.transaction() as tables:
        await tables.fleet.set_epoch(3)
    await fleet.epochs.step()
    await fleet.epochs.step()
    assert len(fleet.service.followed) == 2  # until all sets are of this epoch
    fleet.publish(2, "tag=hub", "tag=branch", epoch=3)
    await fleet.epochs.step()
    assert len(fleet.service.followed) == 2


@pytest.mark.parametrize(
    ("refusal", "raised", "said"),
    [
        (
            ForbiddenError("not announced by the trust root"),
            UnavailableError,
            "does not follow to epoch 2: not announced",
        ),
        (
            ConflictError("epoch 2 is over: policies are at epoch 5"),
            RestoredFromBackupError,
            "epoch 2 is over.*warren epoch advance",
        ),
    ],
)
async def test_a_refusal_of_the_policy_service_is_retried(
    fleet: Fleet, refusal: WarrenError, raised: type[UnavailableError], said: str
) -> None:
    async with fleet.database.transaction() as tables:
        await tables.fleet.set_epoch(2)
    fleet.service.refuses = refusal
    with pytest.raises(raised, match=said):
        await fleet.epochs.step()
    assert bool(fleet.epochs.restored) is (raised is RestoredFromBackupError)
    fleet.service.refuses = None
    await fleet.epochs.step()
    assert fleet.epochs.restored == ""


async def test_a_database_that_is_restored_while_the_registry_runs_ends_it(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.epochs.step()
    older = Fleet()
    await older.add("hub-1", "hub")
    fleet.epochs._database = older.database
    with pytest.raises(DatabaseRolledBackError, match="restored while we ran"):
        await fleet.epochs.step()
