"""The registry's workers over fakes, for the tests of each of them."""

from datetime import UTC, datetime
from ipaddress import ip_network

from warren_contracts.commands import EpochFollowed, FollowEpoch
from warren_contracts.documents import SignerRole
from warren_contracts.peers import Announcement
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.problems import UnavailableError, WarrenError
from warren_registry.directory.digests import Digests
from warren_registry.directory.model import RecordKey
from warren_registry.directory.reconciler import DirectoryReconciler
from warren_registry.directory.relay import DirectoryRelay
from warren_registry.epoch.trust import Trust
from warren_registry.epoch.worker import Epochs
from warren_registry.peers.model import Peer
from warren_service.restore_guard import RestoreGuard
from warren_testkit.registry.database import FakeDatabase
from warren_testkit.registry.streams import FakePolicies, FakeStream
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.REGISTRY)
ROOT = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.ROOT)
POLICY_KEY = KeyPair.generate(KeyKind.SIGNING).public_base64
HUB, SPOKE = RecordKey("tag=branch", "hub-1"), RecordKey("tag=hub", "spoke-1")


class FakePolicyService:
    """Follows every epoch that it receives, or is unavailable."""

    def __init__(self) -> None:
        self.unavailable = False
        self.refuses: WarrenError | None = None
        self.followed: list[FollowEpoch] = []

    async def follow(self, command: FollowEpoch) -> EpochFollowed:
        if self.unavailable:
            raise UnavailableError
        if self.refuses is not None:
            raise self.refuses
        self.followed.append(command)
        return EpochFollowed(epoch=command.trust.epoch, revision=1)


class Fleet:
    """A registry's workers over fakes."""

    def __init__(self) -> None:
        self.database = FakeDatabase()
        self.stream = FakeStream()
        self.policies = FakePolicies()
        self.now = NOW
        self.restore_guard = RestoreGuard("DIRECTORY")
        self.restore_guard.compare((), (1, 0))
        self.service = FakePolicyService()
        self.trust = Trust(ROOT, POLICY_KEY, SIGNER.public_key)
        self.epochs = Epochs(self.database, self.stream, self.restore_guard, self.policies, self.trust, self.service)
        self.reconciler = DirectoryReconciler(
            self.database, self.policies, SIGNER, self.restore_guard, lambda: self.now, self.seconds,
            lambda: self.epochs.stream_versions,
        )  # fmt: skip
        self.relay = DirectoryRelay(self.database, self.stream, self.restore_guard)
        self.digests = Digests(self.database, self.reconciler, self.policies, self.stream, self.restore_guard)

    def seconds(self) -> float:
        return (self.now - NOW).total_seconds()

    async def add(self, name: str, tag: str, *subnets: str) -> None:
        async with self.database.transaction() as tables:
            version = await tables.fleet.next_revision()
            nkey = "U" + name.upper().replace("-", "").ljust(55, "A")
            announcement = Announcement(subnets=tuple(ip_network(text) for text in subnets))
            await tables.peers.save(Peer(name, nkey, (tag,), version, "t", NOW, announcement=announcement))

    async def hubs_and_spokes(self) -> None:
        await self.add("hub-1", "hub", "10.0.0.0/16")
        await self.add("spoke-1", "branch", "10.1.0.0/16")
        self.publish(1, "tag=hub", "tag=branch")

    def publish(
        self, revision: int, *readers: str, related: bool = True, batch: tuple[str, ...] = (), epoch: int = 1
    ) -> None:
        policy = {
            "id": "p", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]},
        }  # fmt: skip
        published = PublishedPolicy.model_validate({"revision": revision, "policy": policy})
        for reader in readers:
            self.policies.view.accept(
                PolicySet(
                    reader=reader, epoch=epoch, revision=revision, batch=batch or readers,
                    policies=(published,) if related else (),
                )
            )  # fmt: skip

    async def settle(self) -> None:
        await self.reconciler.step()
        await self.relay.step()

    def held(self) -> set[RecordKey]:
        """The keys whose newest published record is not withdrawn."""
        newest = {record.place: record for record in self.stream.published}
        return {place for place, record in newest.items() if not record.withdrawn}
