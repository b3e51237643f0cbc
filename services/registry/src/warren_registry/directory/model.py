"""Which record each reader must hold, and what has to be said so that it does.

The directory is a function of the peers and of the published policies. The registry keeps what it said (one row for each
reader and peer) and says the difference: additions and changes first, withdrawals last, so that nobody loses sight of
a peer in the middle of a change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from warren_contracts.directory_hash import directory_hash
from warren_contracts.names import PeerId
from warren_contracts.subjects import Audience
from warren_registry.peers.model import Peer


class RecordKey(NamedTuple):
    """One record's place: who reads it, and whom it is about."""

    reader: Audience
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PublishedState:
    """What was last said at a place."""

    epoch: int
    revision: int
    peer_version: int
    withdrawn: bool
    signed_by: str  # the public key: a new key means that everything is said again
    withheld: str = ""  # what the record omits: see address_claims.withheld_of


class DirectoryUpdate(NamedTuple):
    """What is to be said at a place: the peer's record, or (None) its withdrawal."""

    place: RecordKey
    peer: Peer | None


def desired(relations: Mapping[Audience, Iterable[PeerId]], peers: Mapping[PeerId, Peer]) -> dict[RecordKey, Peer]:
    """The record of each place. A peer that has announced nothing yet has no record, nor has a revoked one."""
    return {
        RecordKey(reader, peer.id): peer
        for reader, members in relations.items()
        for peer in (peers.get(member) for member in members)
        if peer is not None and not peer.revoked and peer.announcement is not None
    }


def difference(
    wanted: Mapping[RecordKey, Peer], told: Mapping[RecordKey, PublishedState], epoch: int, signed_by: str,
    withheld: Mapping[PeerId, str],
) -> tuple[DirectoryUpdate, ...]:  # fmt: skip
    """What to say, additions before removals, in a fixed order. `withheld` is what records are to be told without."""
    additions = [
        DirectoryUpdate(place, peer)
        for place, peer in wanted.items()
        if not _says(told.get(place), epoch, signed_by, peer.version, withheld.get(peer.id, ""))
    ]
    removals = [
        DirectoryUpdate(place, None)
        for place, last in told.items()
        if place not in wanted and not (last.withdrawn and last.epoch == epoch and last.signed_by == signed_by)
    ]
    return (*sorted(additions, key=lambda item: item.place), *sorted(removals, key=lambda item: item.place))


def _says(last: PublishedState | None, epoch: int, signed_by: str, version: int, withheld: str) -> bool:
    return (
        last is not None
        and not last.withdrawn
        and (last.epoch, last.signed_by, last.peer_version, last.withheld) == (epoch, signed_by, version, withheld)
    )


class Summary(NamedTuple):
    """What a reader should hold, as its digest tells it."""

    records: int
    digest: str


def summary(revisions: Mapping[PeerId, int]) -> Summary:
    """Of the records of one reader that are not withdrawn: peer to revision (ReaderDigest.directory_hash)."""
    return Summary(len(revisions), directory_hash(revisions))


def summaries(told: Mapping[RecordKey, PublishedState]) -> dict[Audience, Summary]:
    """Of every reader that was ever told something: an emptied reader has the summary of nothing."""
    held: dict[Audience, dict[PeerId, int]] = {}
    for place, last in told.items():
        of_reader = held.setdefault(place.reader, {})
        if not last.withdrawn:
            of_reader[place.peer] = last.revision
    return {reader: summary(revisions) for reader, revisions in held.items()}
