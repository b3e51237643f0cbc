"""Peers: directory records, announcements and join tokens."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from warren_contracts.addresses import EndpointText, IPAddress, IPNetwork
from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.identities import Identity
from warren_contracts.names import PeerId, PublicKey, Tag, TunnelName, UserNkey
from warren_contracts.status import DriverStatus, HostFacts


class Platform(StrEnum):
    """Platform of a gateway."""

    LINUX = "linux"
    BOSS = "boss"
    WINDOWS = "windows"
    MACOS = "macos"
    PYTHON = "python"


class DriverCapabilities(Document):
    """What one driver of a peer supports; checked before a policy is published."""

    kind: str = "strongswan"
    version: str = ""
    links: tuple[str, ...] = ("ipsec",)  # kinds of links that it serves
    ike: tuple[str, ...] = ()  # keywords that the daemon's plugins offer; empty: not reported
    esp: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # such as `mobike`, `esn`, `transport`
    # The present run of its daemon: another value says that it was restarted, and that no SA from before exists any more.
    run: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{0,16}$")] = ""
    reachable: bool = True  # False: its daemon does not answer its agent; the other fields are the last known ones


class KeyUse(StrEnum):
    """What a peer's key is for."""

    IKE = "ike"  # raw Ed25519, authenticates IKE_SAs; not the NATS key


class PeerKey(Document):
    """One public key of a peer."""

    use: KeyUse
    public: PublicKey


# Precedence among peers that protect the same networks; the highest is used first.
Priority = Annotated[int, Field(ge=1, le=1_000_000), STRICT_INT]

UNREPORTED = DriverCapabilities()  # of a peer that has announced no driver for a kind of link


class Announcement(Input):
    """Endpoints, subnets, IKE identity, keys and drivers as a peer announces them, by `warren.v1.rpc.agent.<peer>.announce`."""

    platform: Platform = Platform.LINUX
    agent_version: str = ""
    endpoints: Annotated[tuple[EndpointText, ...], Field(max_length=16)] = ()  # fixed WAN addresses; empty: dynamic
    subnets: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()  # protected networks
    # Addresses of the peer itself within its subnets: they answer echoes through its tunnels.
    echo_addresses: Annotated[tuple[IPAddress, ...], Field(max_length=4)] = ()
    identity: Identity | None = None  # IKE identity; None: the peer id as an FQDN
    keys: Annotated[tuple[PeerKey, ...], Field(max_length=8)] = ()
    drivers: Annotated[tuple[DriverCapabilities, ...], Field(max_length=8)] = ()


class TunnelOrder(Document):
    """What an operator asks of one running tunnel: `rekey` (new keys, no interruption) or `restart` (closed, then negotiated again).

    The agent whose own record has it executes it once, in the seconds after `at`; an action or an SA that it does not know it leaves.
    """

    id: int  # grows with every order of the fleet
    tunnel: TunnelName
    action: Annotated[str, StringConstraints(max_length=32)]
    at: datetime
    sa: Annotated[str, StringConstraints(max_length=64)] = (
        ""  # the SA that is meant, a SaReference; empty: all of the tunnel
    )


class PeerRecord(Document):
    """One peer in the directory, published once for each reader that may see it. `withdrawn` marks a tombstone."""

    peer: PeerId
    epoch: int
    revision: int
    tags: tuple[Tag, ...] = ()
    platform: Platform = Platform.LINUX
    endpoints: tuple[EndpointText, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    echo_addresses: tuple[IPAddress, ...] = ()
    identity: Identity
    keys: tuple[PeerKey, ...] = ()
    drivers: tuple[DriverCapabilities, ...] = ()
    priority: int | None = None  # set by an operator, never announced; None: no redundant gateway
    withdrawn: bool = False
    order: TunnelOrder | None = None  # the last one of a tunnel of this peer

    def key(self, use: KeyUse) -> PublicKey | None:
        """The public key for one use; None if the peer has announced none."""
        return next((key.public for key in self.keys if key.use is use), None)

    def driver(self, link: str) -> DriverCapabilities:
        """The driver that serves a kind of link: the first that announced it, else one of which nothing is known."""
        return next((driver for driver in self.drivers if link in driver.links), UNREPORTED)


class PresenceState(StrEnum):
    """Presence of a peer, from its heartbeats, its clean stop, and missing heartbeats."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class PeerHost(Document, defer_build=True):
    """A host that uses the identity of a peer now, as its connection to the bus names it."""

    name: Annotated[str, StringConstraints(max_length=64)] = ""
    address: Annotated[str, StringConstraints(max_length=64)] = ""  # from which it reaches the bus
    since: datetime | None = None
    holds_record: bool = False  # its announcements are accepted


class PeerSummary(Document, defer_build=True):
    """A peer as shown to operators."""

    peer: PeerId
    nkey: UserNkey
    tags: tuple[Tag, ...]
    record: PeerRecord
    presence: PresenceState
    last_seen: datetime | None
    enrolled_at: datetime
    connections: int = 0
    hosts: tuple[
        PeerHost, ...
    ] = ()  # those that use its identity, if they are several: its key was copied (a cloned disk)
    agent_version: str = ""
    revoked: bool = False
    refused: str = ""  # why the registry refuses the current announcement; empty: accepted
    drivers: tuple[DriverStatus, ...] = ()  # from the last heartbeat; empty while the peer is not online
    host: HostFacts | None = None  # from the last heartbeat
    # How far the peer's clock was ahead of the bus's when it sent its last heartbeat, in s; includes the way there, a negative part
    clock_skew_s: float | None = None


# id, secret, trust root, SHA-256 of the bus's CA (absent where the bus has no TLS), checksum
JOIN_TOKEN_PATTERN = r"^wj1_[a-z2-7]{16}_[a-z2-7]{52}_[a-z2-7]{52}(_[a-z2-7]{52})?_[a-z2-7]{7}$"  # noqa: S105 - a pattern
JoinTokenText = Annotated[str, StringConstraints(pattern=JOIN_TOKEN_PATTERN)]


class JoinTokenRequest(Input):
    """Restrictions of a new join token."""

    tags: tuple[Tag, ...] = ()
    uses: Annotated[int, Field(ge=1, le=100_000), STRICT_INT] = 1
    lifetime: Annotated[int, Field(ge=60, le=31_536_000), STRICT_INT] = 3_600  # s
    peer: PeerId | None = None  # only this id may join with it
    subnets: tuple[IPNetwork, ...] = ()  # protected networks must lie within these; empty: any that no other peer has
    note: Annotated[str, StringConstraints(max_length=256)] = ""


class JoinToken(Document, defer_build=True):
    """A new join token. `token` is shown once: the registry stores its hash only.

    `wj1_<id>_<secret>_<root>_<ca>_<check>`: the trust root's public key and the SHA-256 of the bus's CA certificate, by which a
    joining host verifies the servers before it sends anything, and the fleet before it trusts a reply. `<ca>` is absent where the
    bus is reached without TLS. `<check>` is the start of the SHA-256 of what stands before it.
    """

    id: str
    token: Annotated[JoinTokenText, Field(repr=False)]
    expires_at: datetime
    uses: int
    tags: tuple[Tag, ...]
