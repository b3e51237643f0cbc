"""Peers: what the directory says of them, and how they join."""

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
    """What a gateway runs on."""

    LINUX = "linux"
    BOSS = "boss"
    WINDOWS = "windows"
    MACOS = "macos"
    PYTHON = "python"


class Capabilities(Document):
    """What a peer's driver can express; checked before a policy is published."""

    driver: str = "strongswan"
    version: str = ""
    ike: tuple[str, ...] = ()  # keywords that the daemon's plugins offer; empty: not told
    esp: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # such as `mobike`, `esn`, `transport`


class Announcement(Input):
    """What a peer says of itself: by `warren.v1.rpc.agent.<peer>.announce`."""

    platform: Platform = Platform.LINUX
    agent_version: str = ""
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=16)] = ()  # fixed WAN addresses; none: dynamic
    subnets: Annotated[tuple[IPNetwork, ...], Field(max_length=64)] = ()  # protected networks behind it
    identity: Identity | None = None  # IKE identity; none: the peer id as an FQDN
    public_key: PublicKey | None = None  # raw Ed25519 IKE key, not the NATS key
    capabilities: Capabilities = Capabilities()


class PeerRecord(Document):
    """One peer as the directory knows it, once for each reader that may see it. `withdrawn` is the tombstone."""

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
    """Whether a peer is there: told by heartbeats, by its clean stop, and by their absence."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class PeerSummary(Document):
    """A peer as operators see it."""

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
    refused: str = ""  # why the registry does not take what the peer says of itself now; empty: it does
    daemon: DaemonState = DaemonState.UNKNOWN  # as its last heartbeat told; unknown while it is not online


JOIN_TOKEN_PATTERN = r"^wj1_[a-z2-7]{16}_[a-z2-7]{52}_[a-z2-7]{52}$"  # noqa: S105 - a pattern
JoinTokenText = Annotated[str, StringConstraints(pattern=JOIN_TOKEN_PATTERN)]


class JoinTokenRequest(Input):
    """What a new join token may do."""

    tags: tuple[Tag, ...] = ()
    uses: Annotated[int, Field(ge=1, le=100_000), STRICT_INT] = 1
    lifetime: Annotated[int, Field(ge=60, le=31_536_000), STRICT_INT] = 3_600  # s
    peer: PeerId | None = None  # only this id may join by it
    subnets: tuple[IPNetwork, ...] = ()  # protected networks must lie within these; none: any that no other peer has
    note: Annotated[str, StringConstraints(max_length=256)] = ""


class JoinToken(Document):
    """A new join token. `token` is shown once: the registry keeps its hash only.

    `wj1_<id>_<secret>_<root>`: the last part is the trust root's public key, so that the host that joins knows the fleet
    before it believes a word of it.
    """

    id: str
    token: Annotated[JoinTokenText, Field(repr=False)]
    expires_at: datetime
    uses: int
    tags: tuple[Tag, ...]
