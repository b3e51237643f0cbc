"""Tunnel status: states, SAs and counters, as agents report them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from warren_contracts.addresses import IPAddress
from warren_contracts.base import Document
from warren_contracts.names import PeerId, PolicyId, Spi, TunnelName
from warren_contracts.selectors import Selector

MAX_DETAIL = 512  # characters, of what a status says next to its reason


class TunnelState(StrEnum):
    """State of a tunnel.

    `up`: the CHILD_SAs are installed with all selectors, and nothing contradicts that packets pass; its reason is `none`.
    `degraded`: CHILD_SAs are installed, and the reason says what does not work. `connecting`: a negotiation is under way.
    `standby`: there is none on purpose, since another tunnel carries the traffic; the detail names it. `down`: there is none.
    `error`: the last attempt failed, or none can be made. An agent never reports `unknown`: it means that no end has a current
    report.
    """

    UP = "up"
    DEGRADED = "degraded"
    CONNECTING = "connecting"
    STANDBY = "standby"
    DOWN = "down"
    ERROR = "error"
    UNKNOWN = "unknown"


class ReasonCode(StrEnum):
    """Why a tunnel is not up: the classes of strongSwan's error-notify plugin, then what an agent finds by itself."""

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
    PEER_NOT_ANSWERING = "peer-not-answering"  # retransmissions of an established IKE_SA are under way
    PEER_DAEMON_UNREACHABLE = "peer-daemon-unreachable"  # the peer's agent announces that its daemon does not answer
    NARROWED = "narrowed"  # the peer agreed to a part of the selectors only (RFC 7296, 2.9)
    DUPLICATE_SAS = "duplicate-sas"  # several CHILD_SAs of one child, longer than a rekeying takes
    ONE_WAY_TRAFFIC = "one-way-traffic"  # packets pass in one direction only
    FORWARDING_OFF = "forwarding-off"  # the host does not route between its links
    RP_FILTER = "rp-filter"  # strict reverse path filtering drops the peer's packets
    FORWARD_DROP = "forward-drop"  # the packet filter drops forwarded packets
    MASQUERADE = "masquerade"  # source NAT in front of the tunnel changes packets out of its selectors
    PATH_PROBE_FAILED = "path-probe-failed"  # echoes through the selectors are not answered any more
    PATH_MTU = "path-mtu"  # large packets do not pass
    GUARD_UNAVAILABLE = "guard-unavailable"  # its traffic cannot be protected, so it is not applied
    CONFIG_DRIFT = "config-drift"  # the daemon did not hold what the agent had given to it
    RIVAL_CONNECTION = "rival-connection"  # the daemon holds another's connection with the same selectors
    ROLLED_BACK = "rolled-back"  # a change was taken back, and is not applied again until it is superseded
    BYPASS_FORBIDDEN = "bypass-forbidden"  # it would cut the host off, and its policy forbids to bypass it
    BYPASS_UNAVAILABLE = "bypass-unavailable"  # it would cut the host off, and nothing here can bypass it
    OTHER = "other"


MAX_PLUGINS = 1_024  # characters; charon 6.1 loads some 70 plugins, which take 600


class DriverState(StrEnum):
    """Whether the daemon of a driver answers the agent. `unknown`: the agent has not reported it or is offline."""

    UNKNOWN = "unknown"
    UP = "up"
    UNREACHABLE = "unreachable"


class DriverStatus(Document):
    """One driver of a peer, by its kind, and the state of its daemon."""

    kind: Annotated[str, StringConstraints(max_length=63)]
    state: DriverState = DriverState.UNKNOWN
    # Why it is unreachable: the step that failed, and what to do (`version: no answer from charon in 14 s`).
    detail: Annotated[str, StringConstraints(max_length=255)] = ""
    socket: Annotated[str, StringConstraints(max_length=128)] = ""  # its control socket on the host
    # The plugins that its daemon has loaded, as it names them, separated by a space.
    plugins: Annotated[str, StringConstraints(max_length=MAX_PLUGINS, pattern=r"^([a-z0-9_-]+( [a-z0-9_-]+)*)?$")] = ""


class GuardState(StrEnum):
    """What the guard of a host does, as its agent sees it."""

    ABSENT = "absent"  # there is none
    UNUSED = "unused"  # it is installed, and the agent does not use it
    LOADED = "loaded"  # its table is in the kernel, with all that the agent asked for
    REFUSED = "refused"  # it cannot do what the agent asks for, or cannot keep its table in the kernel
    UNREACHABLE = "unreachable"


class GuardFacts(Document, defer_build=True):
    """The guard of a host. `restored_at`: when it last restored its table, which another program had removed or changed."""

    state: GuardState = GuardState.ABSENT
    detail: Annotated[str, StringConstraints(max_length=255)] = ""
    tunnels: Annotated[int, Field(ge=0)] = 0  # whose traffic it protects
    restored_at: AwareDatetime | None = None


class HostFacts(Document, defer_build=True):
    """What a peer's agent reports of its host; None or empty where it is not known."""

    kernel: Annotated[str, StringConstraints(max_length=128)] = ""
    forwards_ipv4: bool | None = None
    path_mtu: Annotated[int, Field(ge=0, le=65_536)] | None = (
        None  # bytes; the least of the peers with which there is an IKE_SA
    )
    behind_nat: bool | None = None  # an announced endpoint does not belong to the host
    guard: GuardFacts | None = None
    # For how long the registry's digests, one a minute for each reader, have been missing although the bus is connected.
    intent_unconfirmed_s: Annotated[float, Field(ge=0)] | None = None
    # The newest policy revision that was received, and that was applied completely; a lower one is outdated.
    received_revision: Annotated[int, Field(ge=0)] | None = None
    applied_revision: Annotated[int, Field(ge=0)] | None = None
    drifted_at: AwareDatetime | None = None  # when a daemon last did not hold what the agent had given to it
    # Addresses with the ports 500 and 4500 at which something listens for UDP: `0.0.0.0:500`, `[::]:4500`.
    ike_sockets: Annotated[tuple[Annotated[str, StringConstraints(max_length=64)], ...], Field(max_length=8)] | None = (
        None
    )


class EvidenceKind(StrEnum):
    """What shows that packets pass a tunnel."""

    TRAFFIC = "traffic"  # a packet of the peer was decrypted
    PROBE = "probe"  # an echo through the selectors was answered
    NONE = "none"


class Evidence(Document, defer_build=True):
    """The newest evidence that packets pass a tunnel, and when it was seen; its age is counted from `at`."""

    kind: EvidenceKind = EvidenceKind.NONE
    at: datetime | None = None


class TrafficStats(Document):
    """Counters of a tunnel since it was first established; they survive rekeying."""

    bytes_in: Annotated[int, Field(ge=0)] = 0
    bytes_out: Annotated[int, Field(ge=0)] = 0
    packets_in: Annotated[int, Field(ge=0)] = 0
    packets_out: Annotated[int, Field(ge=0)] = 0


class ChildSaStatus(Document):
    """One CHILD_SA as the daemon reports it."""

    child: Annotated[str, StringConstraints(max_length=63)] = ""  # the child of the tunnel that it belongs to

    spi_in: Spi
    spi_out: Spi
    cipher: str  # keywords: aes256gcm16, aes256-sha256
    key_exchange: str = ""  # of its own exchange (PFS); empty: from IKE_AUTH
    esn: bool = False
    udp_encapsulated: bool = False
    established_at: datetime | None = None
    rekey_in: int | None = None  # s
    expires_in: int | None = None  # s
    local_ts: tuple[Selector, ...] = ()
    remote_ts: tuple[Selector, ...] = ()
    traffic: TrafficStats = TrafficStats()


class IpsecStatus(Document):
    """The IKE_SA of a tunnel and the CHILD_SAs that carry its traffic."""

    kind: Literal["ipsec"] = "ipsec"
    ike_cipher: str = ""
    ike_established_at: datetime | None = None
    local_address: str = ""
    remote_address: str = ""
    local_vips: tuple[IPAddress, ...] = ()  # virtual addresses that this end received
    remote_vips: tuple[IPAddress, ...] = ()  # virtual addresses that this end assigned
    children: tuple[ChildSaStatus, ...] = ()


LinkStatus = IpsecStatus  # a union by `kind` as soon as there is a second kind


class TunnelStatus(Document):
    """One tunnel as one end sees it. `name` never contains a generation."""

    name: TunnelName
    policy: PolicyId | None = None
    peer: PeerId | None = None
    state: TunnelState
    initiator: bool = False
    link: LinkStatus = IpsecStatus()
    traffic: TrafficStats = TrafficStats()
    rekeys: Annotated[int, Field(ge=0)] = 0
    # How long the last rekeying took, from its first request; None: the peer began it, or charon did by itself.
    rekey_seconds: Annotated[float, Field(ge=0)] | None = None
    restarts: Annotated[int, Field(ge=0)] = 0
    reason: ReasonCode = ReasonCode.NONE
    detail: Annotated[str, StringConstraints(max_length=MAX_DETAIL)] = ""
    # Why the tunnel could not be derived from its policy, a value of `warren_intent.derivation.SkipCode`; empty: it was derived.
    skipped: Annotated[str, StringConstraints(max_length=63)] = ""
    since: datetime | None = None  # when the state last changed
    evidence: Evidence = Evidence()


class FleetTunnel(Document, defer_build=True):
    """A tunnel as shown to operators: the status of both ends, by reporting peer.

    An end is stale while its peer is offline: neither a heartbeat nor other telemetry has arrived for `OFFLINE_AFTER`, or its agent
    has stopped. A peer that comes back after that time, or that sends reports older than that, is online again and its ends stay
    stale until a current report. (A peer that goes on sending heartbeats is online, however old the report of an end is.) The last
    status of a stale end is shown but not used for `state`, since a gateway may carry traffic while it cannot reach the bus. If all
    ends are stale, `state` is `unknown`.
    """

    name: TunnelName
    state: TunnelState  # up only if every reporting end says so
    # What the ends contradict each other in: `hub: up, spoke-1: down`; empty if they agree, or one end only is current.
    disagreement: Annotated[str, StringConstraints(max_length=MAX_DETAIL)] = ""
    peers: tuple[PeerId, ...]
    ends: dict[PeerId, TunnelStatus]
    stale: tuple[PeerId, ...] = ()
    outdated: tuple[PeerId, ...] = ()  # those of `stale` whose peer is online again
    # Ends whose agent misses the digests of the registry: what it applies may be outdated.
    unconfirmed: tuple[PeerId, ...] = ()
    # When the last report of each end arrived; of one that arrived late when it was made: by the clock of the bus
    reported_at: dict[PeerId, datetime] = Field(default_factory=dict)
