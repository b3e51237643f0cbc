"""Values of the feed: the state that it hands out and that an agent stores on disk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field

from warren_contracts.base import Document
from warren_contracts.directory_hash import directory_hash
from warren_contracts.documents import ReaderDigest, TrustDocument
from warren_contracts.names import PeerId, PublicKey, Tag
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.policy_union import unite
from warren_contracts.subjects import Audience, readers_of
from warren_trust.signing import Version


@dataclass(frozen=True, slots=True)
class FeedIdentity:
    """Our peer id, and the root key that was pinned at enrolment."""

    peer: PeerId
    root: PublicKey


@dataclass(frozen=True, slots=True)
class StateCause:
    """The live document that made a state: when it arrived (the machine's clock), and its headers."""

    arrived_at: float
    headers: Mapping[str, str] | None


class SealedBundle(Document, defer_build=True):
    """The newest secret document: verified, and still sealed to our key."""

    epoch: int
    revision: int
    payload: str = Field(repr=False)


class FeedState(Document):
    """Everything verified that this peer reads. Frozen; an agent stores its JSON on disk and hands it back at start.

    `records` holds each reader's records, withdrawn ones too: an older record may still arrive. `floors` is the version of the
    newest complete snapshot of each reader: a record up to it that the snapshot did not hold is outdated.
    """

    peer: PeerId
    tags: tuple[Tag, ...]
    epoch: int
    revision: int  # of our row: an older reply to whoami is refused
    trust: TrustDocument
    policies: dict[Audience, PolicySet] = Field(default_factory=dict)
    records: dict[Audience, dict[PeerId, PeerRecord]] = Field(default_factory=dict)
    floors: dict[Audience, tuple[int, int]] = Field(default_factory=dict)  # (epoch, revision)
    secret: SealedBundle | None = None

    @property
    def readers(self) -> tuple[Audience, ...]:
        return readers_of(self.peer, self.tags)

    @cached_property
    def directory(self) -> dict[PeerId, PeerRecord]:
        """The peers that any of our readers sees: of each the newest record that is not withdrawn."""
        found: dict[PeerId, PeerRecord] = {}
        for records in self.records.values():
            for peer, record in records.items():
                held = found.get(peer)
                if not record.withdrawn and (held is None or version_of(record) > version_of(held)):
                    found[peer] = record
        return found

    @cached_property
    def published(self) -> tuple[PublishedPolicy, ...]:
        """The intent: the union of our sets by policy id, of which the highest revision wins; in order of ids."""
        return unite(self.policies.values())

    @property
    def policy_revision(self) -> int:
        """The highest revision of our sets; 0 when there is none."""
        return max((held.revision for held in self.policies.values()), default=0)


def version_of(document: PeerRecord | PolicySet | ReaderDigest | SealedBundle) -> Version:
    """(epoch, revision): the only order of documents."""
    return (document.epoch, document.revision)


def present(records: Iterable[PeerRecord]) -> dict[PeerId, int]:
    """The revisions of the records that are not withdrawn, for `directory_hash`."""
    return {record.peer: record.revision for record in records if not record.withdrawn}


def agrees(digest: ReaderDigest, records: Mapping[PeerId, PeerRecord]) -> bool:
    """Whether these records are the ones of the digest, all of the digest's epoch."""
    if any(record.epoch != digest.epoch for record in records.values()):
        return False
    revisions = present(records.values())
    return (len(revisions), directory_hash(revisions)) == (digest.directory_count, digest.directory_hash)
