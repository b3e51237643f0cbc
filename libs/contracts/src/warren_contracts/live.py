"""The live view of a fleet: a snapshot, then its changes, as `GET /api/live` sends them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from warren_contracts.base import Document
from warren_contracts.commands import Health
from warren_contracts.names import PeerId, PolicyId, Tag, TunnelName
from warren_contracts.peers import PresenceState
from warren_contracts.status import ReasonCode, TunnelState


class LiveTunnel(Document):
    """A tunnel. `ends` have the last reported state of each end; those in `stale` have no current report and do not count."""

    name: TunnelName
    state: TunnelState
    peers: tuple[PeerId, ...]
    tags: tuple[Tag, ...] = ()  # of its peers
    policy: PolicyId | None = None
    reason: ReasonCode = ReasonCode.NONE  # of the first current end that has one
    detail: str = ""
    disagreement: str = ""
    since: datetime | None = None  # when the state of an end last changed, by its own clock
    reported_at: datetime | None = None  # when an end last reported a change, by the clock of the bus
    ends: dict[PeerId, TunnelState] = Field(default_factory=dict)
    stale: tuple[PeerId, ...] = ()


class LivePeer(Document):
    """A peer: its presence and since when, its tags, and the newest revision that it has applied (0: not known)."""

    peer: PeerId
    presence: PresenceState
    reason: str = ""
    since: datetime | None = None
    tags: tuple[Tag, ...] = ()
    applied_revision: int = 0


class LivePolicy(Document):
    """A policy: its version, and when and by whom it was stored."""

    id: PolicyId
    version: int
    revision: int
    updated_at: datetime
    actor: str


class LiveMessage(Document):
    """One message of the stream.

    `snapshot`: a part of what there is; the first message of a stream that does not resume, and what came before is void. `ready`:
    the snapshot is complete, or the stream resumes; changes follow. `change`: rows replace those of the same name, and the names
    in `tunnels_gone`, `peers_gone` and `policies_gone` no longer match. `health`: the health of the services, when it changes.
    `dropped`: the stream ends, for the `reason`.

    A stream that continues after `cursor` gets every later change once. A large change comes in parts, and the last one has the cursor.
    """

    kind: Literal["snapshot", "ready", "change", "health", "dropped"]
    cursor: str | None = None
    tunnels: tuple[LiveTunnel, ...] = ()
    tunnels_gone: tuple[TunnelName, ...] = ()
    peers: tuple[LivePeer, ...] = ()
    peers_gone: tuple[PeerId, ...] = ()
    policies: tuple[LivePolicy, ...] = ()
    policies_gone: tuple[PolicyId, ...] = ()
    health: Health | None = None
    reason: str = ""
