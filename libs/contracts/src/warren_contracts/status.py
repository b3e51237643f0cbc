"""What tunnels do: states, SAs and counters, as agents report them and operators read them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from warren_contracts.addresses import IPNetwork
from warren_contracts.base import Document
from warren_contracts.names import PeerId, PolicyId, TunnelName


class TunnelState(StrEnum):
    """Seed 1's states: up, connecting, down, error. `unknown` is no end's word: nobody who would know has been heard."""

    UP = "up"
    CONNECTING = "connecting"
    DOWN = "down"
    ERROR = "error"
    UNKNOWN = "unknown"


class ReasonCode(StrEnum):
    """Why a tunnel is not up. The words of strongSwan's error-notify, by class."""

    NONE = "none"
    PROPOSAL_MISMATCH_IKE = "proposal-mismatch-ike"
    PROPOSAL_MISMATCH_CHILD = "proposal-mismatch-child"
    TS_MISMATCH = "ts-mismatch"
    LOCAL_AUTH_FAILED = "local-auth-failed"
    PEER_AUTH_FAILED = "peer-auth-failed"
    PEER_UNREACHABLE = "peer-unreachable"
    INSTALL_FAILED = "install-failed"
    CERTIFICATE_INVALID = "certificate-invalid"
    ADDRESS_FAILED = "address-failed"
    DAEMON_UNREACHABLE = "daemon-unreachable"
    CONFIG_REFUSED = "config-refused"
    OTHER = "other"


class DaemonState(StrEnum):
    """Whether a peer's IPsec daemon answers its agent. `unknown`: its agent has not told, or is not there."""

    UNKNOWN = "unknown"
    UP = "up"
    UNREACHABLE = "unreachable"


Spi = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]  # an ESP SPI in hexadecimal, as tcpdump prints it


class TrafficStats(Document):
    """Counters of a tunnel since it was first established; they survive rekeying."""

    bytes_in: Annotated[int, Field(ge=0)] = 0
    bytes_out: Annotated[int, Field(ge=0)] = 0
    packets_in: Annotated[int, Field(ge=0)] = 0
    packets_out: Annotated[int, Field(ge=0)] = 0


class ChildSaStatus(Document):
    """One CHILD_SA as the daemon holds it."""

    spi_in: Spi
    spi_out: Spi
    cipher: str  # keywords: aes256gcm16, aes256-sha256
    key_exchange: str = ""  # of its own exchange (PFS); empty: from IKE_AUTH
    esn: bool = False
    udp_encapsulated: bool = False
    established_at: datetime | None = None
    rekey_in: int | None = None  # s
    expires_in: int | None = None  # s
    local_ts: tuple[IPNetwork, ...] = ()
    remote_ts: tuple[IPNetwork, ...] = ()
    traffic: TrafficStats = TrafficStats()


class TunnelStatus(Document):
    """One tunnel as one end sees it. `name` never carries a generation."""

    name: TunnelName
    policy: PolicyId | None = None
    peer: PeerId | None = None
    state: TunnelState
    initiator: bool = False
    ike_cipher: str = ""
    ike_established_at: datetime | None = None
    local_address: str = ""
    remote_address: str = ""
    sas: tuple[ChildSaStatus, ...] = ()
    traffic: TrafficStats = TrafficStats()
    rekeys: Annotated[int, Field(ge=0)] = 0
    restarts: Annotated[int, Field(ge=0)] = 0
    reason: ReasonCode = ReasonCode.NONE
    detail: Annotated[str, StringConstraints(max_length=512)] = ""
    # A policy asks for it and it cannot be derived: why, in a word of `warren_intent.expand.SkipCode`; empty: it is derived.
    skipped: Annotated[str, StringConstraints(max_length=63)] = ""
    since: datetime | None = None  # when the state last changed


class FleetTunnel(Document):
    """A tunnel as operators see it: both ends' views beside each other, keyed by the reporting peer.

    An end that has not been heard for `OFFLINE_AFTER` is stale: its view is the last known one and counts no more, since a
    gateway may well carry traffic while its way to the bus is cut. With no other end left the state is `unknown`.
    """

    name: TunnelName
    state: TunnelState  # up only when every end that reports says so
    peers: tuple[PeerId, ...]
    ends: dict[PeerId, TunnelStatus]
    stale: tuple[PeerId, ...] = ()
    # When each end was heard last, by the bus's clock
    reported_at: dict[PeerId, datetime] = Field(default_factory=dict)
