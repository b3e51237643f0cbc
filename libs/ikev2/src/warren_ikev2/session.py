"""The state that survives the rekeying of an IKE_SA: the peer, its identity, path and CHILD_SAs."""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, TypeVar

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.children import ChildSa, ChildUsage
from warren_ikev2.configuration import ChildConfiguration, ConnectionConfiguration
from warren_ikev2.events import NatSituation, NetworkAttributes, SessionId, SessionRole
from warren_ikev2.identity import Identity
from warren_ikev2.mobility import Mobility

SaT = TypeVar("SaT")
"""An IKE_SA, which knows its session; so this module does not know `ike_sa`."""


class ChildState(Enum):
    """The states of a CHILD_SA."""

    INSTALLED = "installed"
    REKEYING = "rekeying"
    """Our request to replace it is outstanding."""
    REKEYED = "rekeyed"
    """Replaced; to be deleted by the side that replaced it."""
    DELETING = "deleting"
    """Our deletion is outstanding."""


@dataclass(slots=True, eq=False)
class Child:
    """A CHILD_SA and its lifetime."""

    sa: ChildSa
    configuration: ChildConfiguration
    soft_at: float | None
    hard_at: float | None
    state: ChildState = ChildState.INSTALLED
    usage: ChildUsage = field(default_factory=ChildUsage)
    soft_bytes: int | None = None
    soft_packets: int | None = None
    redundant: bool = False
    """Lost a collision; the side that created it deletes it (2.8.1)."""

    def move(self, path: Path, udp_encapsulation: bool) -> ChildSa:
        """Change the path; returns the changed CHILD_SA."""
        self.sa = replace(self.sa, path=path, udp_encapsulation=udp_encapsulation)
        return self.sa

    def deadline(self) -> float | None:
        """Return when the soft or hard limit is due, or None."""
        soft = self.soft_at if self.state == ChildState.INSTALLED else None
        return min((at for at in (soft, self.hard_at) if at is not None), default=None)


@dataclass(slots=True)
class PeerFeatures:
    """What the peer announced."""

    fragmentation: bool = False
    childless: bool = False
    redirect: bool = False
    understands_reasons: bool = False
    """Whether it has announced our vendor id."""
    mobike: bool = False
    hashes: frozenset[int] = frozenset()
    """Of SIGNATURE_HASH_ALGORITHMS (RFC 7427, 4)."""


@dataclass(slots=True, eq=False)
class SessionState(Generic[SaT]):
    """A peer, from its first message to the deletion of its last IKE_SA."""

    id: SessionId
    role: SessionRole
    path: Path
    connection: ConnectionConfiguration
    """Provisional in a responder until IKE_AUTH names the identities."""
    old_path: Path | None = None
    """The path of ESP while a new path is being checked (RFC 4555, 3.7)."""
    mobility: Mobility = field(default_factory=Mobility)
    nat: NatSituation = field(default_factory=NatSituation)
    peer: PeerFeatures = field(default_factory=PeerFeatures)
    local_identity: Identity | None = None
    remote_identity: Identity | None = None
    """Set once the peer has authenticated."""
    network: NetworkAttributes = field(default_factory=NetworkAttributes)
    children: dict[int, Child] = field(default_factory=dict)
    """By our SPI."""
    first_remote: SocketAddress = field(init=False)
    """Source or destination of the first message."""
    ike_sa: SaT | None = None
    """The one that carries the CHILD_SAs."""
    last_inbound: float = 0.0
    """Of an authenticated message or ESP packet."""
    last_outbound: float = 0.0
    reauth_at: float | None = None
    established: bool = False
    spis: list[int] = field(default_factory=list)
    """ESP SPIs reserved for it; set by the endpoint."""
    bound: bool = False
    """Whether authentication proves this identity, not only knowledge of a secret that several peers share."""
    eap_user: str | None = None
    user: str = ""
    """Whose session it is, by `PeerSettings.user`."""
    user_version: str = ""
    proofs: tuple[str, str] = ("", "")
    """Our and the peer's kind of authentication, for events."""

    def __post_init__(self) -> None:
        self.first_remote = self.path.remote
        self.mobility.own = self.connection.local_addresses

    @property
    def esp_path(self) -> Path:
        """The path of ESP."""
        return self.old_path or self.path

    @property
    def udp_encapsulation(self) -> bool:
        """Whether ESP is encapsulated in UDP."""
        return self.nat.any or self.connection.force_udp_encapsulation

    def child_of_peer(self, spi_out: int) -> Child | None:
        """Return the CHILD_SA with this SPI of the peer, or None."""
        return next((child for child in self.children.values() if child.sa.spi_out == spi_out), None)
