"""The workers of the registry over fakes: records, publication, digests, and retries after failures."""

import asyncio
from datetime import timedelta

import pytest

from warren_bus.errors import NotConnectedError, NotStoredError
from warren_contracts.documents import SignerRole, TrustDocument
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.problems import UnavailableError
from warren_contracts.subjects import readers_of
from warren_intent.claims import PolicyClaims
from warren_process.token_bucket import RateLimiter
from warren_registry.directory.model import RecordKey
from warren_registry.directory.reconciler import DirectoryReconciler, IncompleteBatchError
from warren_registry.directory.relay import TOMBSTONE_LIFETIME
from warren_registry.epoch.trust import Trust
from warren_registry.peers.membership import announce, retag, revoke
from warren_registry.presence.kicks import Kicks
from warren_service.worker import Worker
from warren_testkit.registry import FakeDatabase, FakePolicies
from warren_testkit.registry.workers import HUB, NOW, POLICY_KEY, ROOT, SIGNER, SPOKE, Fleet
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer, Verifier, from_document


async def test_a_policy_publishes_each_side_to_the_other(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    own = {RecordKey("peer=hub-1", "hub-1"), RecordKey("peer=spoke-1", "spoke-1")}
    assert fleet.held() >= {HUB, SPOKE}
    assert {place for place in fleet.held() if place.reader.startswith("peer=")} == own
    assert await fleet.reconciler.step() == 0
    assert await fleet.relay.step() == 0


async def test_every_record_is_signed_for_its_own_subject(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    verifier = Verifier(TrustDocument(epoch=1, revision=1, policy=POLICY_KEY, registry=SIGNER.public_key))
    async with fleet.database.transaction() as tables:
        (document, *_) = await tables.directory.page("tag=branch", "", 10)
    verifier.verify(from_document(document))
    record = PeerRecord.model_validate_json(document.payload)
    assert (record.peer, record.revision) == ("hub-1", document.revision)


async def test_a_network_that_a_policy_assigns_to_another_end_is_withheld(fleet: Fleet) -> None:
    """Announced before the policy came: the registry accepted it, and the record omits it from now on."""
    await fleet.hubs_and_spokes()
    await fleet.settle()

    async def networks() -> list[str]:
        async with fleet.database.transaction() as tables:
            documents = await tables.directory.page("tag=hub", "", 10)
        records = [PeerRecord.model_validate_json(document.payload) for document in documents]
        return [str(subnet) for record in records if record.peer == "spoke-1" for subnet in record.subnets]

    assert await networks() == ["10.1.0.0/16"]
    partner = {"identity": "partner", "public_key": "A" * 43 + "=", "subnets": ["10.1.7.0/24"]}
    tunnel = {"name": "t", "ends": [{"peer": "hub-1"}, partner]}
    for revision, enabled in ((2, True), (3, False)):
        gives = {"id": "gives", "tunnels": [tunnel], "enabled": enabled}
        published = PublishedPolicy.model_validate({"revision": revision, "policy": gives})
        fleet.policies.view.accept(
            PolicySet(reader="peer=hub-1", epoch=1, revision=revision, batch=(), policies=(published,))
        )
        await fleet.settle()
        assert await networks() == ([] if enabled else ["10.1.0.0/16"])
        assert await fleet.reconciler.step() == 0
    other = DirectoryReconciler(fleet.database, fleet.policies, SIGNER, fleet.restore_guard, lambda: NOW)
    assert await other.step() == 0  # a restarted registry knows what it published


async def test_a_peers_change_is_published_once_to_each_related_reader(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    before = len(fleet.stream.published)
    async with fleet.database.transaction() as tables:
        await announce(tables, "hub-1", Announcement(agent_version="2"), PolicyClaims(()), NOW, RateLimiter(32, 0.5))
    await fleet.settle()
    said = fleet.stream.published[before:]
    assert {record.place.peer for record in said} == {"hub-1"}
    assert HUB in {record.place for record in said}
    assert len(said) == len({record.place for record in said})


async def test_nothing_is_withdrawn_before_the_policies_are_known(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    unknown = FakePolicies()
    unknown.complete = False
    late = DirectoryReconciler(fleet.database, unknown, SIGNER, fleet.restore_guard, lambda: fleet.now)
    with pytest.raises(UnavailableError, match="policies have not been read yet"):
        await late.step()
    assert SPOKE in fleet.held()


async def test_an_incomplete_batch_is_used_after_a_timeout(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    fleet.publish(2, "tag=hub", related=False, batch=("tag=hub", "tag=branch"))
    with pytest.raises(IncompleteBatchError):
        await fleet.reconciler.step()
    fleet.now += timedelta(seconds=0.5)
    with pytest.raises(IncompleteBatchError):
        await fleet.reconciler.step()
    fleet.publish(2, "tag=branch", related=False, batch=("tag=hub", "tag=branch"))
    assert await fleet.reconciler.step() > 0
    fleet.publish(3, "tag=hub", related=True, batch=("tag=hub", "tag=branch"))
    with pytest.raises(IncompleteBatchError):
        await fleet.reconciler.step()
    fleet.now += timedelta(seconds=2)
    assert await fleet.reconciler.step() > 0


async def test_withdrawals_are_published_after_additions(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    async with fleet.database.transaction() as tables:
        await retag(tables, "spoke-1", ("other",), "ann", NOW)
    await fleet.add("spoke-2", "branch")
    await fleet.settle()
    withdrawn = [record.withdrawn for record in fleet.stream.published]
    first = withdrawn.index(True)
    assert not any(withdrawn[:first])
    assert all(withdrawn[first:])
    assert SPOKE not in fleet.held()
    assert RecordKey("tag=hub", "spoke-2") in fleet.held()


async def test_a_revoked_peer_is_withdrawn_from_every_reader(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    async with fleet.database.transaction() as tables:
        await revoke(tables, "hub-1", "ann", NOW)
    await fleet.settle()
    assert not {place for place in fleet.held() if place.peer == "hub-1"}


async def test_what_could_not_be_published_is_published_later(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.reconciler.step()
    fleet.stream.unavailable = True
    with pytest.raises(NotConnectedError):
        await fleet.relay.step()
    fleet.stream.unavailable = False
    fleet.stream.refused = {HUB}
    with pytest.raises(NotStoredError):
        await fleet.relay.step()
    assert SPOKE in fleet.held()  # what was stored is marked, though others failed
    fleet.stream.refused = set()
    assert await fleet.relay.step() == 1
    assert HUB in fleet.held()


async def test_a_lost_stream_gets_everything_again(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    everything = len(fleet.stream.records)
    fleet.stream.lose()
    fleet.relay.disconnected()
    assert await fleet.relay.step() == everything
    assert len(fleet.stream.records) == everything
    assert await fleet.relay.step() == 0


async def test_a_stream_of_an_older_backup_gets_everything_again(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    fleet.stream.records.pop(HUB)
    fleet.stream.last_sequence -= 1
    fleet.relay.disconnected()
    await fleet.relay.step()
    assert HUB in fleet.stream.records


async def test_a_database_that_fails_while_saving_is_read_again(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    fleet.database.unavailable = True
    with pytest.raises(UnavailableError):
        await fleet.reconciler.step()
    fleet.database.unavailable = False
    await fleet.settle()
    assert fleet.held() >= {HUB, SPOKE}


async def test_a_new_key_or_epoch_publishes_everything_again(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    other = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.REGISTRY)
    reconciler = DirectoryReconciler(fleet.database, fleet.policies, other, fleet.restore_guard, lambda: NOW)
    assert await reconciler.step() == len(fleet.stream.records)


async def test_a_digest_follows_every_change_once(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    assert fleet.digests.of("tag=hub") is None
    assert await fleet.digests.step(all_readers=False) > 0
    assert await fleet.digests.step(all_readers=False) == 0
    before = fleet.digests.of("tag=hub")
    assert before is not None
    assert (before.directory_count, before.policy_revision) == (
        len([p for p in fleet.held() if p.reader == "tag=hub"]),
        1,
    )
    fleet.publish(2, "tag=hub", "tag=branch", related=False)
    await fleet.settle()
    await fleet.digests.step(all_readers=False)
    after = fleet.digests.of("tag=hub")
    assert after is not None
    assert (after.directory_count, after.policy_revision) == (0, 2)
    assert after.revision > before.revision
    fleet.stream.digests.clear()
    assert await fleet.digests.step(all_readers=True) == len(fleet.stream.digests) > 0
    nobody = fleet.digests.of("tag=nobody")
    assert nobody is not None
    assert (nobody.directory_count, nobody.policy_revision) == (0, 0)


async def test_each_reader_of_a_peer_has_a_digest_also_without_records_and_policies(fleet: Fleet) -> None:
    """An agent that misses one of them reports that its intent is not confirmed."""
    await fleet.hubs_and_spokes()
    await fleet.add("lone", "spare")  # of no policy
    await fleet.settle()
    await fleet.digests.step(all_readers=True)
    published = {it.reader: it.directory_count for it in fleet.stream.digests}
    for peer, tag in (("hub-1", "hub"), ("spoke-1", "branch"), ("lone", "spare")):
        assert set(readers_of(peer, (tag,))) <= set(published)
    assert (published["all"], published["tag=spare"]) == (0, 0)


async def test_old_withdrawals_are_reclaimed_and_named_in_the_digest(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    await fleet.settle()
    fleet.publish(2, "tag=hub", "tag=branch", related=False)
    await fleet.settle()
    await fleet.relay.reclaim(NOW)
    await fleet.relay.reclaim(NOW + TOMBSTONE_LIFETIME + timedelta(days=1))
    await fleet.digests.step(all_readers=True)
    assert fleet.stream.digests[0].tombstones_reclaimed > 0


class FakeSystem:
    """Records the closed connections."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.unavailable = False

    async def kick(self, user: str) -> int:
        if self.unavailable:
            raise NotConnectedError
        self.ended.append(user)
        return 1


async def test_a_kick_is_done_once_and_not_lost(fleet: Fleet) -> None:
    await fleet.hubs_and_spokes()
    async with fleet.database.transaction() as tables:
        gone = await revoke(tables, "spoke-1", "ann", NOW)
        await revoke(tables, "spoke-1", "ann", NOW)
    system = FakeSystem()
    system.unavailable = True
    kicks = Kicks(fleet.database, system)
    with pytest.raises(ExceptionGroup) as failures:
        await kicks.step()
    assert failures.group_contains(NotConnectedError)
    system.unavailable = False
    await kicks.step()
    await kicks.step()
    assert system.ended == ["spoke-1", gone.nkey]


def test_trust_is_signed_by_the_root_and_counts_its_changes() -> None:
    async def documents() -> list[tuple[int, int]]:
        database = FakeDatabase()
        found = []
        for registry in ("A" * 43 + "=", "A" * 43 + "=", SIGNER.public_key):
            async with database.transaction() as tables:
                document = await Trust(ROOT, POLICY_KEY, registry).document(tables)
            found.append((document.epoch, document.revision))
        return found

    assert asyncio.run(documents()) == [(1, 1), (1, 1), (1, 2)]


async def test_a_worker_retries_and_reports_why_it_waits() -> None:
    tried = asyncio.Queue[int]()
    failures = [
        NotConnectedError("the bus is unavailable"),
        ExceptionGroup("several", [UnavailableError("PostgreSQL is unavailable")]),
    ]

    async def step() -> None:
        tried.put_nowait(1)
        if failures:
            raise failures.pop(0)

    loop = Worker("test", step, interval=60.0)
    task = asyncio.create_task(loop.run())
    async with asyncio.timeout(60):
        await tried.get()
        await tried.get()
        assert loop.failing
        await tried.get()
        await eventually(lambda: not loop.failing, what="success")
        loop.wake()
        await tried.get()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_ends_at_a_defect() -> None:
    async def step() -> None:
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        await Worker("test", step, interval=60.0).run()
