"""Events: past tense, retained by age and size on the stream EVENT, read by the API server, audits and other systems."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from warren_contracts.base import Document
from warren_contracts.explanation import Cause
from warren_contracts.names import PeerId, PolicyId, Tag, TunnelName
from warren_contracts.peers import PeerHost, PresenceState
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus

Text = Annotated[str, StringConstraints(max_length=1_024)]


class PolicyChanged(Document):
    """A policy was created, updated or deleted. Subject `warren.v1.event.policy.changed.<policy>`."""

    TYPE: ClassVar[str] = "warren.policy.changed.v1"

    policy: PolicyId
    action: Literal["created", "updated", "deleted"]
    revision: int
    version: int
    actor: Text
    at: datetime


class PeerEnrolled(Document):
    """A peer joined the fleet. Subject `warren.v1.event.registry.enrolled.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.enrolled.v1"

    peer: PeerId
    tags: tuple[Tag, ...]
    at: datetime


class PeerAnnounced(Document):
    """The announcement of a peer changed. Subject `warren.v1.event.registry.announced.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.announced.v1"

    peer: PeerId
    revision: int
    at: datetime


class PeerRevoked(Document):
    """A peer was removed from the fleet. Subject `warren.v1.event.registry.revoked.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.revoked.v1"

    peer: PeerId
    actor: Text
    at: datetime


class PeerRetagged(Document):
    """An operator changed the tags of a peer. Subject `warren.v1.event.registry.retagged.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.retagged.v1"

    peer: PeerId
    tags: tuple[Tag, ...]
    actor: Text
    at: datetime


class PeerPriorityChanged(Document):
    """An operator set a peer's priority among redundant gateways. Subject `warren.v1.event.registry.priority.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.priority-changed.v1"

    peer: PeerId
    priority: int | None
    actor: Text
    at: datetime


class KeySharedByConnections(Document):
    """Several hosts use the identity of one peer, as with a cloned disk. Subject `warren.v1.event.registry.shared_key.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.shared-key.v1"

    peer: PeerId
    connections: int
    hosts: tuple[PeerHost, ...] = ()
    at: datetime


class PresenceChanged(Document):
    """A peer came online or went offline. Subject `warren.v1.event.registry.presence.<peer>`."""

    TYPE: ClassVar[str] = "warren.peer.presence.v1"

    peer: PeerId
    state: PresenceState
    reason: Text = ""
    at: datetime


class EpochAdvanced(Document):
    """A new epoch was announced, after a restore from a backup. Subject `warren.v1.event.registry.epoch.<epoch>`."""

    TYPE: ClassVar[str] = "warren.epoch.advanced.v1"

    epoch: int
    before: int  # the highest epoch that was known until then
    actor: Text
    at: datetime


class TunnelChanged(Document):
    """A tunnel changed its state, its reason or its SAs at one end. Subject `warren.v1.event.metrics.tunnel.<peer>`.

    `previous` and `previous_reason` are None where they are not known. A change that arrives late is an event with the time of its own:
    it is in effect only where no later one of the same end is known, and current only after `ReportingChanged.outdated_until`.
    """

    TYPE: ClassVar[str] = "warren.tunnel.changed.v1"

    peer: PeerId
    tunnel: TunnelName
    state: TunnelState
    previous: TunnelState | None
    removed: bool
    status: TunnelStatus
    at: datetime
    previous_reason: ReasonCode | None = None
    # What is wrong by what both ends say at that moment, `none` if nothing; None: not known, as of a late change or a removal.
    cause: Cause | None = None
    # By when a packet of the peer has come through an SA that a change of the configuration has made, by the agent's clock; the
    # state is the one before.
    first_packet_at: datetime | None = None


class ReportingChanged(Document):
    """The reports of a peer became outdated, or current again. Subject `warren.v1.event.metrics.reporting.<peer>`.

    What it reported before `outdated_until` does not show how its tunnels are now: it was silent for long, or sends what it had to
    store. None: a current report of all its tunnels has arrived. The event does not say whether it is online.
    """

    TYPE: ClassVar[str] = "warren.peer.reporting-changed.v1"

    peer: PeerId
    outdated_until: datetime | None
    at: datetime


class PolicyApplied(Document):
    """An agent applied a revision. Subject `warren.v1.event.metrics.applied.<peer>`."""

    TYPE: ClassVar[str] = "warren.policy.applied.v1"

    peer: PeerId
    epoch: int
    revision: int
    ok: bool
    duration_ms: float
    error: Text = ""
    at: datetime  # when the bus stored the agent's report
    delivered_at: datetime | None = None  # when the agent received the change, by its clock
    applied_at: datetime | None = None  # when the agent had applied it, by its clock


Event = (
    PolicyChanged | PeerEnrolled | PeerAnnounced | PeerRetagged | PeerPriorityChanged | PeerRevoked
    | KeySharedByConnections | PresenceChanged | EpochAdvanced | TunnelChanged | PolicyApplied | ReportingChanged
)  # fmt: skip
EVENTS: tuple[type[Event], ...] = (
    PolicyChanged, PeerEnrolled, PeerAnnounced, PeerRetagged, PeerPriorityChanged, PeerRevoked, KeySharedByConnections, PresenceChanged,
    EpochAdvanced, TunnelChanged, PolicyApplied, ReportingChanged,
)  # fmt: skip

# The fifth token of an event's subject, by which a subscriber can filter.
KINDS: tuple[str, ...] = (
    "changed",
    "enrolled",
    "announced",
    "revoked",
    "retagged",
    "priority",
    "shared_key",
    "presence",
    "epoch",
    "tunnel",
    "applied",
    "reporting",
)
