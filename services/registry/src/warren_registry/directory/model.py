"""The desired directory, and its difference from the published one.

The directory is a function of the peers and of the published policies. The registry stores what it published (one row for each
reader and peer) and publishes the difference: additions and changes first, withdrawals last, so that no reader misses a peer in
the middle of a change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from warren_contracts.directory_hash import directory_hash
from warren_contracts.names import PeerId
from warren_contracts.subjects import Audience
from warren_registry.peers.model import Peer


class RecordKey(NamedTuple):
    """The key of a record: its reader and its peer."""

    reader: Audience
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PublishedState:
    """The last published state of a record."""

    epoch: int
    revision: int
    peer_version: int
    withdrawn: bool
    signed_by: str  # the public key: after a change of keys every record is published again
    withheld: str = ""  # what the record omits: see address_claims.withheld_from


class DirectoryUpdate(NamedTuple):
    """The next state of a record: the peer's record, or (None) its withdrawal."""

    place: RecordKey
    peer: Peer | None


def desired(relations: Mapping[Audience, Iterable[PeerId]], peers: Mapping[PeerId, Peer]) -> dict[RecordKey, Peer]:
    """The desired records. A peer without an announcement has no record, and neither has a revoked one."""
    return {
        RecordKey(reader, peer.id): peer
        for reader, members in relations.items()
        for peer in (peers.get(member) for member in members)
        if peer is not None and not peer.revoked and peer.announcement is not None
    }


def difference(
    wanted: Mapping[RecordKey, Peer], published: Mapping[RecordKey, PublishedState], epoch: int, signed_by: str,
    withheld: Mapping[PeerId, str],
) -> tuple[DirectoryUpdate, ...]:  # fmt: skip
    """The updates to publish, additions before removals, in a fixed order. `withheld` is what the records omit."""
    additions = [
        DirectoryUpdate(place, peer)
        for place, peer in wanted.items()
        if not _is_current(published.get(place), epoch, signed_by, peer.version, withheld.get(peer.id, ""))
    ]
    removals = [
        DirectoryUpdate(place, None)
        for place, last in published.items()
        if place not in wanted and not (last.withdrawn and last.epoch == epoch and last.signed_by == signed_by)
    ]
    return (*sorted(additions, key=lambda item: item.place), *sorted(removals, key=lambda item: item.place))


def _is_current(last: PublishedState | None, epoch: int, signed_by: str, version: int, withheld: str) -> bool:
    return (
        last is not None
        and not last.withdrawn
        and (last.epoch, last.signed_by, last.peer_version, last.withheld) == (epoch, signed_by, version, withheld)
    )


class Summary(NamedTuple):
    """The content of a reader's directory, as in its digest."""

    records: int
    digest: str


def summary(revisions: Mapping[PeerId, int]) -> Summary:
    """Summarise one reader's records that are not withdrawn: peer to revision (ReaderDigest.directory_hash)."""
    return Summary(len(revisions), directory_hash(revisions))


def summaries(published: Mapping[RecordKey, PublishedState]) -> dict[Audience, Summary]:
    """Summarise every reader that ever had a record: an emptied reader has the summary of no records."""
    held: dict[Audience, dict[PeerId, int]] = {}
    for place, last in published.items():
        of_reader = held.setdefault(place.reader, {})
        if not last.withdrawn:
            of_reader[place.peer] = last.revision
    return {reader: summary(revisions) for reader, revisions in held.items()}
