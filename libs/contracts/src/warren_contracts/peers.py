"""Peers: directory records, announcements and join tokens."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from warren_contracts.addresses import Endpoint, IPNetwork
from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.names import PeerId, PublicKey, Tag, UserNkey
from warren_contracts.status import DaemonState
from warren_contracts.tunnel import Identity


class Platform(StrEnum):
    """Platform of a gateway."""

    LINUX = "linux"
    BOSS = "boss"
    WINDOWS = "windows"
    MACOS = "macos"
    PYTHON = "python"


class Capabilities(Document):
    """What a peer's driver supports; checked before a policy is published."""

    driver: str = "strongswan"
    version: str = ""
    ike: tuple[str, ...] = ()  # keywords that the daemon's plugins offer; empty: not reported
    esp: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # such as `mobike`, `esn`, `transport`


class Announcement(Input):
    """Endpoints, subnets, IKE identity, key and capabilities as a peer announces them, by `warren.v1.rpc.agent.<peer>.announce`."""

    platform: Platform = Platform.LINUX
    agent_version: str = ""
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=16)] = ()  # fixed WAN addresses; empty: dynamic
    subnets: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()  # protected networks
    identity: Identity | None = None  # IKE identity; None: the peer id as an FQDN
    public_key: PublicKey | None = None  # raw Ed25519 IKE key, not the NATS key
    capabilities: Capabilities = Capabilities()


class PeerRecord(Document):
    """One peer in the directory, published once for each reader that may see it. `withdrawn` marks a tombstone."""

    peer: PeerId
    epoch: int
    revision: int
    tags: tuple[Tag, ...] = ()
    platform: Platform = Platform.LINUX
    endpoints: tuple[Endpoint, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    identity: Identity
    public_key: PublicKey | None = None
    capabilities: Capabilities = Capabilities()
    withdrawn: bool = False


class PresenceState(StrEnum):
    """Presence of a peer, from its heartbeats, its clean stop, and missing heartbeats."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class PeerSummary(Document):
    """A peer as shown to operators."""

    peer: PeerId
    nkey: UserNkey
    tags: tuple[Tag, ...]
    record: PeerRecord
    presence: PresenceState
    last_seen: datetime | None
    enrolled_at: datetime
    connections: int = 0  # more than one: the same key is used twice (a cloned disk)
    agent_version: str = ""
    revoked: bool = False
    refused: str = ""  # why the registry refuses the current announcement; empty: accepted
    daemon: DaemonState = DaemonState.UNKNOWN  # from the last heartbeat; unknown while the peer is not online


JOIN_TOKEN_PATTERN = r"^wj1_[a-z2-7]{16}_[a-z2-7]{52}_[a-z2-7]{52}$"  # noqa: S105 - a pattern
JoinTokenText = Annotated[str, StringConstraints(pattern=JOIN_TOKEN_PATTERN)]


class JoinTokenRequest(Input):
    """Restrictions of a new join token."""

    tags: tuple[Tag, ...] = ()
    uses: Annotated[int, Field(ge=1, le=100_000), STRICT_INT] = 1
    lifetime: Annotated[int, Field(ge=60, le=31_536_000), STRICT_INT] = 3_600  # s
    peer: PeerId | None = None  # only this id may join with it
    subnets: tuple[IPNetwork, ...] = ()  # protected networks must lie within these; empty: any that no other peer has
    note: Annotated[str, StringConstraints(max_length=256)] = ""


class JoinToken(Document):
    """A new join token. `token` is shown once: the registry stores its hash only.

    `wj1_<id>_<secret>_<root>`: the last part is the trust root's public key, so that a joining host
    can verify the fleet before it trusts any reply.
    """

    id: str
    token: Annotated[JoinTokenText, Field(repr=False)]
    expires_at: datetime
    uses: int
    tags: tuple[Tag, ...]
