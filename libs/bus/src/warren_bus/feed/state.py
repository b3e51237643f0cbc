"""What a feed holds, as values: the state that it hands out and that an agent keeps on disk."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field

from warren_contracts.base import Document
from warren_contracts.documents import ReaderDigest, TrustDocument
from warren_contracts.names import PeerId, PublicKey, Tag
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.subjects import Audience, readers_of
from warren_trust.signing import Version


@dataclass(frozen=True, slots=True)
class FeedIdentity:
    """Who we are, and the root key that was pinned at enrolment."""

    peer: PeerId
    root: PublicKey


@dataclass(frozen=True, slots=True)
class Cause:
    """The live document that made a state: when it came (the machine's clock), and its headers."""

    held_at: float
    headers: Mapping[str, str] | None


class SealedBundle(Document):
    """The newest secret document: verified, and still sealed to our key."""

    epoch: int
    revision: int
    payload: str = Field(repr=False)


class FeedState(Document):
    """Everything verified that this peer reads. Frozen; its JSON is what an agent keeps on disk and hands back at start.

    `records` holds each reader's records, withdrawn ones too: they order what may still arrive. `floors` is the revision
    of the newest complete snapshot of each reader: a record up to it that the snapshot did not hold is history.
    """

    peer: PeerId
    tags: tuple[Tag, ...]
    epoch: int
    revision: int  # of our row: an older answer to whoami is refused
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
        """Whoever any of our readers sees: the newest record that is not withdrawn."""
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
        found: dict[str, tuple[Version, PublishedPolicy]] = {}
        for policy_set in self.policies.values():
            for published in policy_set.policies:
                version = (policy_set.epoch, published.revision)
                held = found.get(published.policy.id)
                if held is None or version > held[0]:
                    found[published.policy.id] = (version, published)
        return tuple(found[name][1] for name in sorted(found))

    @property
    def policy_revision(self) -> int:
        """The highest revision of our sets; 0 when there is none."""
        return max((held.revision for held in self.policies.values()), default=0)


def version_of(document: PeerRecord | PolicySet | ReaderDigest | SealedBundle) -> Version:
    """(epoch, revision): the only order of documents."""
    return (document.epoch, document.revision)


def directory_hash(records: Iterable[PeerRecord]) -> tuple[int, str]:
    """Count and hash of the records that are not withdrawn, as `ReaderDigest` tells them."""
    present = sorted((record.peer, record.revision) for record in records if not record.withdrawn)
    text = "".join(f"{peer} {revision}\n" for peer, revision in present)
    return len(present), hashlib.sha256(text.encode()).hexdigest()


def agrees(digest: ReaderDigest, records: Mapping[PeerId, PeerRecord]) -> bool:
    """Whether these records are what the digest tells, all of the digest's epoch."""
    if any(record.epoch != digest.epoch for record in records.values()):
        return False
    return directory_hash(records.values()) == (digest.directory_count, digest.directory_hash)
