"""A fleet's truth and its signatures, without a bus: what policy and registry would publish and answer."""

from typing import NamedTuple

from warren_bus.feed.state import FeedIdentity, present
from warren_contracts import subjects
from warren_contracts.directory_hash import directory_hash
from warren_contracts.documents import (
    TRUST_SUBJECT,
    DirectoryPage,
    DirectoryPageRequest,
    ReaderDigest,
    SignedDocument,
    SignerRole,
    TrustDocument,
    Whoami,
)
from warren_contracts.names import PeerId, PolicyId
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Mesh, Policy, PolicySet, PublishedPolicy
from warren_contracts.subjects import Audience, readers_of
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer


class SignedBytes(NamedTuple):
    """A signed message ready to be sent."""

    subject: str
    headers: dict[str, str]
    payload: bytes


class Fleet:
    """Keys, policy sets by reader, records by reader, tags by peer. Every change has the next revision."""

    def __init__(self, page_size: int = 200) -> None:
        self.keys = {role: KeyPair(KeyKind.SIGNING, bytes([number]) * 32) for number, role in enumerate(SignerRole, 1)}
        self.signers = {role: Signer(key, role) for role, key in self.keys.items()}
        self.epoch = 1
        self.trust_revision = 1
        self.revision = 0
        self.page_size = page_size
        self.sets: dict[Audience, PolicySet] = {}
        self.records: dict[Audience, dict[PeerId, PeerRecord]] = {}
        self.tags: dict[PeerId, tuple[str, ...]] = {}
        self.rows: dict[PeerId, int] = {}

    @property
    def trust(self) -> TrustDocument:
        return TrustDocument(
            epoch=self.epoch,
            revision=self.trust_revision,
            policy=self.keys[SignerRole.POLICY].public_base64,
            registry=self.keys[SignerRole.REGISTRY].public_base64,
        )

    def trust_document(self) -> SignedDocument:
        text = self.trust.model_dump_json()
        return self.signers[SignerRole.ROOT].document(TRUST_SUBJECT, self.epoch, self.trust_revision, text)

    def identity(self, peer: PeerId) -> FeedIdentity:
        return FeedIdentity(peer, self.keys[SignerRole.ROOT].public_base64)

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def enrol(self, peer: PeerId, *tags: str) -> None:
        """Add a peer, or change its tags."""
        self.tags[peer] = tags
        self.rows[peer] = self.next_revision()

    def new_epoch(self) -> None:
        """As after a restore from backup: revisions begin again."""
        self.epoch += 1
        self.trust_revision += 1
        self.revision = 0
        self.sets.clear()
        self.records.clear()
        for peer in self.rows:
            self.rows[peer] = self.next_revision()

    def assign(self, sets: dict[Audience, tuple[PolicyId, ...]]) -> list[SignedBytes]:
        """One revision in which these readers' sets become these policies: one batch."""
        revision = self.next_revision()
        batch = tuple(sorted(sets))
        messages = []
        for reader in batch:
            held = {item.policy.id: item for item in self.sets[reader].policies} if reader in self.sets else {}
            policies = tuple(held.get(name) or self.published(name, revision) for name in sets[reader])
            self.sets[reader] = PolicySet(
                reader=reader, epoch=self.epoch, revision=revision, batch=batch, policies=policies
            )
            messages.append(self.signed_set(reader))
        return messages

    @staticmethod
    def published(name: PolicyId, revision: int) -> PublishedPolicy:
        return PublishedPolicy(
            revision=revision, policy=Policy(id=name, topology=Mesh(kind="mesh", members=("tag=hub",)))
        )

    def signed_set(self, reader: Audience) -> SignedBytes:
        held = self.sets[reader]
        return self.sign(subjects.policy(reader), held.epoch, held.revision, held.model_dump_json(), SignerRole.POLICY)

    def put_record(self, reader: Audience, peer: PeerId, *, withdrawn: bool = False) -> SignedBytes:
        """A new or changed record of a peer for a reader, or its tombstone."""
        record = PeerRecord(
            peer=peer, epoch=self.epoch, revision=self.next_revision(), identity=peer, withdrawn=withdrawn
        )
        self.records.setdefault(reader, {})[peer] = record
        return self.signed_record(reader, peer)

    def signed_record(self, reader: Audience, peer: PeerId) -> SignedBytes:
        record = self.records[reader][peer]
        subject = subjects.directory(reader, peer)
        return self.sign(subject, record.epoch, record.revision, record.model_dump_json())

    def digest(self, reader: Audience) -> ReaderDigest:
        revisions = present(self.records.get(reader, {}).values())
        policy = self.sets.get(reader)
        return ReaderDigest(
            reader=reader,
            epoch=self.epoch,
            revision=self.next_revision(),
            policy_revision=policy.revision if policy else 0,
            directory_count=len(revisions),
            directory_hash=directory_hash(revisions),
        )

    def signed_digest(self, reader: Audience) -> SignedBytes:
        digest = self.digest(reader)
        return self.sign(subjects.digest(reader), digest.epoch, digest.revision, digest.model_dump_json())

    def whoami(self, peer: PeerId, *, digests: bool = True) -> SignedBytes:
        """The answer to whoami; `digests=False`: as from a registry that has none yet."""
        readers = readers_of(peer, self.tags[peer])
        answer = Whoami(
            peer=peer,
            epoch=self.epoch,
            revision=self.rows[peer],
            tags=self.tags[peer],
            trust=self.trust_document(),
            digests=tuple(self.digest(reader) for reader in readers) if digests else (),
        )
        return self.sign(subjects.rpc_agent(peer, "whoami"), self.epoch, answer.revision, answer.model_dump_json())

    def page(self, peer: PeerId, request: DirectoryPageRequest) -> SignedBytes:
        """The answer to a request for a page."""
        records = self.records.get(request.reader, {})
        names = sorted(name for name in records if name > request.after)
        chosen = names[: self.page_size]
        page = DirectoryPage(
            reader=request.reader,
            after=request.after,
            epoch=self.epoch,
            revision=self.revision,
            records=tuple(self._document(request.reader, name) for name in chosen),
            next_after=chosen[-1] if len(names) > len(chosen) else None,
        )
        return self.sign(subjects.rpc_agent(peer, "directory"), self.epoch, page.revision, page.model_dump_json())

    def _document(self, reader: Audience, peer: PeerId) -> SignedDocument:
        record = self.records[reader][peer]
        text = record.model_dump_json()
        return self.signers[SignerRole.REGISTRY].document(
            subjects.directory(reader, peer), record.epoch, record.revision, text
        )

    def sign(
        self, subject: str, epoch: int, revision: int, text: str, role: SignerRole = SignerRole.REGISTRY
    ) -> SignedBytes:
        payload = text.encode()
        return SignedBytes(subject, self.signers[role].headers(subject, epoch, revision, payload), payload)
