"""The verified documents of one peer, and the rule by which one replaces another: (epoch, revision) only. No I/O, no clock."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from warren_bus.feed.state import FeedIdentity, FeedState, SealedBundle, agrees, version_of
from warren_contracts.documents import ReaderDigest, TrustDocument, Whoami
from warren_contracts.names import PeerId
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PolicySet
from warren_contracts.subjects import Audience, readers_of
from warren_trust.signing import Verifier, Version


@dataclass(slots=True)
class PageRun:
    """A directory that is being read page by page: the records so far, and the oldest page's version."""

    records: dict[PeerId, PeerRecord]
    version: Version

    def add(self, records: Iterable[PeerRecord], version: Version) -> bool:
        """Add a page's records; whether any of them is new (if not, the pages repeat)."""
        before = len(self.records)
        self.records.update((record.peer, record) for record in records)
        self.version = min(self.version, version)
        return len(self.records) > before


class VerifiedState:
    """Verified documents of one peer. `changes` counts the changes that are visible in a FeedState."""

    def __init__(self, identity: FeedIdentity, trust: TrustDocument, saved: FeedState | None = None) -> None:
        if saved is not None and saved.peer != identity.peer:
            raise ValueError(f"the saved state belongs to {saved.peer}, not to {identity.peer}")
        self.peer = identity.peer
        self.trust = saved.trust if saved is not None and _newer(saved.trust, trust) else trust
        self.verifier = Verifier(self.trust)
        self.tags = saved.tags if saved else ()
        self.readers = readers_of(self.peer, self.tags)
        self.whoami: Version | None = (saved.epoch, saved.revision) if saved else None
        self.policies: dict[Audience, PolicySet] = dict(saved.policies) if saved else {}
        self.records: dict[Audience, dict[PeerId, PeerRecord]] = dict(saved.records) if saved else {}
        self.floors: dict[Audience, Version] = dict(saved.floors) if saved else {}
        self.secret: SealedBundle | None = saved.secret if saved else None
        self.digests: dict[Audience, ReaderDigest] = {}
        self.required: dict[Audience, Version] = {}  # the versions that the batches seen so far demand
        self.changes = 0

    def state(self) -> FeedState:
        """A snapshot that never changes afterwards (inner mappings are replaced, not edited)."""
        epoch, revision = self.whoami or (self.trust.epoch, 0)
        return FeedState.model_construct(
            peer=self.peer,
            tags=self.tags,
            epoch=epoch,
            revision=revision,
            trust=self.trust,
            policies=dict(self.policies),
            records=dict(self.records),
            floors=dict(self.floors),
            secret=self.secret,
        )

    def accept_whoami(self, whoami: Whoami, trust: TrustDocument) -> None:
        """Replace identity, tags and trust, and drop what we may no longer read."""
        before = (self.tags, self.trust)
        self.tags = tuple(sorted(set(whoami.tags)))
        self.readers = readers_of(self.peer, self.tags)
        self.whoami = (whoami.epoch, whoami.revision)
        if trust != self.trust:
            self.trust, self.verifier = trust, Verifier(trust)
        readers = frozenset(self.readers)
        for held in (self.policies, self.records, self.floors, self.digests, self.required):
            for reader in [reader for reader in held if reader not in readers]:
                del held[reader]
        for digest in whoami.digests:
            if digest.reader in readers:
                self.digests[digest.reader] = digest
                self._drop_voided(digest)
        self.changes += before != (self.tags, self.trust)

    def policy_version(self, reader: Audience) -> Version | None:
        held = self.policies.get(reader)
        return version_of(held) if held else None

    def record_version(self, reader: Audience, peer: PeerId) -> Version | None:
        """What a record must be newer than: the record held, or the last complete snapshot, which did not hold it."""
        held = self.records.get(reader, {}).get(peer)
        return version_of(held) if held else self.floors.get(reader)

    def put_policy(self, policy_set: PolicySet) -> None:
        self.policies[policy_set.reader] = policy_set
        version = version_of(policy_set)
        for reader in frozenset(self.readers).intersection(policy_set.batch):
            self.required[reader] = max(version, self.required.get(reader, version))
        self.changes += 1

    def put_record(self, reader: Audience, record: PeerRecord) -> None:
        self.records[reader] = {**self.records.get(reader, {}), record.peer: record}
        self.changes += 1

    def put_secret(self, bundle: SealedBundle) -> None:
        self.secret = bundle
        self.changes += 1

    def put_pages(self, reader: Audience, found: Mapping[PeerId, PeerRecord], version: Version) -> None:
        """Replace a reader's directory by a complete one as of `version`: what it lacks and is not newer is removed."""
        held = self.records.get(reader, {})
        merged = {peer: record for peer, record in held.items() if version_of(record) > version}
        for peer, record in found.items():
            if peer not in held or version_of(record) >= version_of(held[peer]):
                merged[peer] = record
            else:
                merged[peer] = held[peer]
        self.floors[reader] = version
        if merged != held:
            self.changes += 1
        self.records[reader] = merged

    def put_digest(self, digest: ReaderDigest) -> None:
        self.digests[digest.reader] = digest
        self._drop_voided(digest)

    def _drop_voided(self, digest: ReaderDigest) -> None:
        """After a restore (a new epoch) a digest without a policy voids the set of the epoch before."""
        held = self.policies.get(digest.reader)
        if held is not None and digest.epoch > held.epoch and digest.policy_revision == 0:
            del self.policies[digest.reader]
            self.changes += 1

    def trust_is_behind(self, reader: Audience) -> bool:
        """Whether the reader's digest names a newer trust document than the one held."""
        digest = self.digests.get(reader)
        return digest is not None and digest.epoch == self.trust.epoch and digest.trust_revision > self.trust.revision

    def policy_is_behind(self, reader: Audience) -> bool:
        """Whether the reader's digest names a newer set than the one held."""
        digest = self.digests.get(reader)
        if digest is None or digest.policy_revision == 0 or digest.epoch != self.trust.epoch:
            return False
        held = self.policy_version(reader)
        return held is None or held < (digest.epoch, digest.policy_revision)

    def directory_agrees(self, reader: Audience) -> bool:
        """Whether the records held of a reader are those of its digest."""
        digest = self.digests.get(reader)
        return digest is not None and digest.epoch == self.trust.epoch and agrees(digest, self.records.get(reader, {}))

    def missing_of_batches(self) -> frozenset[Audience]:
        """Own readers whose sets are older than a batch that a set of ours belonged to, also if that set was replaced since."""
        behind = []
        for reader, version in self.required.items():
            held = self.policy_version(reader)
            if held is None or held < version:
                behind.append(reader)
        return frozenset(behind)

    def waive_batches(self) -> None:
        """Wait for no batch that began before now."""
        self.required.clear()


def _newer(saved: TrustDocument, given: TrustDocument) -> bool:
    return (saved.epoch, saved.revision) > (given.epoch, given.revision)
