"""A peer as it is stored, and its record in the directory."""

from dataclasses import dataclass
from datetime import datetime

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import Announcement, PeerRecord, TunnelOrder

NOT_ANNOUNCED = Announcement()


@dataclass(frozen=True, slots=True)
class Peer:
    """One row. `version` is the fleet's revision at its last change, so versions of peers never repeat.

    `allowed` are the networks that its join token named; empty: any network that no other peer has.
    """

    id: PeerId
    nkey: str
    tags: tuple[Tag, ...]
    version: int
    join_token: str
    enrolled_at: datetime
    allowed: tuple[IPNetwork, ...] = ()
    hostname: str = ""
    announcement: Announcement | None = None
    announced_at: datetime | None = None
    revoked_at: datetime | None = None
    priority: int | None = None  # among redundant gateways, set by an operator
    tunnel_order: TunnelOrder | None = None

    @property
    def revoked(self) -> bool:
        return self.revoked_at is not None

    @property
    def identity(self) -> str:
        """The IKE identity: the announced one, else its id as an FQDN."""
        announced = self.announcement.identity if self.announcement else None
        return announced or self.id

    @property
    def canonical_identity(self) -> str:
        """The canonical form of its identity, unique among members."""
        return canonical(self.identity)


def record_of(peer: Peer, epoch: int, revision: int) -> PeerRecord:
    """A peer's record in the directory."""
    announcement = peer.announcement or NOT_ANNOUNCED
    return PeerRecord(
        peer=peer.id, epoch=epoch, revision=revision, tags=peer.tags, platform=announcement.platform, endpoints=announcement.endpoints,
        subnets=announcement.subnets, echo_addresses=announcement.echo_addresses,
        identity=peer.identity, keys=announcement.keys, drivers=announcement.drivers,
        priority=peer.priority, order=peer.tunnel_order,
    )  # fmt: skip


def tombstone(peer: PeerId, epoch: int, revision: int) -> PeerRecord:
    """The record of a peer that a reader no longer sees."""
    return PeerRecord(peer=peer, epoch=epoch, revision=revision, identity=peer, withdrawn=True)
